//! What a daemon shows on its metrics listener.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::wait::until;

/// A page as it came.
#[derive(Clone, Debug)]
pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// The metrics listener of a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    address: SocketAddr,
}

impl Observed {
    pub fn at(address: SocketAddr) -> Observed {
        Observed { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks for a page.
    pub async fn try_get(&self, path: &str) -> std::io::Result<Page> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: pombo\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok(Page {
            status: status.unwrap_or(0),
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    /// Asks for a page that must be there.
    pub async fn get(&self, path: &str) -> Page {
        self.try_get(path).await.expect("an answer of the daemon")
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics(self.get("/metrics").await.body)
    }

    /// The value of a metric; see [`Metrics::value`].
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().await.value(name, labels)
    }

    /// Waits until a metric is what `enough` wants it to be.
    pub async fn wait_for_metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        enough: impl Fn(f64) -> bool,
    ) -> f64 {
        until(
            &format!("the metric {name} {labels:?}"),
            async || self.metric(name, labels).await,
            |value| enough(*value),
        )
        .await
    }

    /// Waits until `/readyz` says yes.
    pub async fn wait_ready(&self) {
        self.wait_for_readyz(|page| page.status == 200).await;
    }

    /// Waits until `/readyz` is as `enough` wants it.
    pub async fn wait_for_readyz(&self, enough: impl Fn(&Page) -> bool) -> Page {
        let page = until(
            "/readyz",
            async || self.try_get("/readyz").await,
            |page| page.as_ref().is_ok_and(&enough),
        )
        .await;
        page.expect("a page, as it is enough")
    }
}

/// A page of metrics.
#[derive(Clone, Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of all samples of the name with these labels and whatever others; 0 if there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name)
            .filter(|(found, _)| {
                let has = |(name, value): &(&str, &str)| {
                    found
                        .split(',')
                        .any(|one| one == format!("{name}={value:?}"))
                };
                labels.iter().all(has)
            })
            .map(|(_, value)| value)
            .sum()
    }

    /// Whether there is a sample of this name.
    pub fn has(&self, name: &str) -> bool {
        self.samples(name).next().is_some()
    }

    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.parse().expect("a number")))
        })
    }
}
