//! The subscribers of a run: two that are well, one that fails now and then, and one that is not there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::show::{Line, Screen, What};
use super::tally::Tally;
use crate::cli::listen::{Delivery, Listener, Reply, TOLERANCE_S};
use crate::cli::signature_check::Checker;
use crate::clock::Clock;
use crate::settings::Settings;
use crate::signature::generate_secret;
use crate::store::Store;
use crate::store::webhooks::Put;
use crate::webhook::{EventFilter, Ordering, RetryOverride, Webhook, WebhookSpec};

/// What a subscriber does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Answers 200.
    Healthy,
    /// Answers 503 to the first attempt of every other event, and to two attempts of every fourth.
    Flaky,
    /// Its port is closed.
    Absent,
}

/// A subscriber as it is planned.
#[derive(Debug)]
pub struct Subscriber {
    /// The id of its webhook.
    pub id: &'static str,
    tenant: &'static str,
    events: &'static str,
    manner: Manner,
    /// What it does, in plain words.
    pub about: &'static str,
}

/// All of them.
pub const ALL: [Subscriber; 4] = [
    Subscriber {
        id: "erp",
        tenant: "lima-advogados",
        events: "*",
        manner: Manner::Healthy,
        about: "is well: answers 200",
    },
    Subscriber {
        id: "n8n",
        tenant: "lima-advogados",
        events: "crm.lead.*",
        manner: Manner::Flaky,
        about: "is flaky: answers 503 now and then, and gets those deliveries again",
    },
    Subscriber {
        id: "financeiro",
        tenant: "loja-aurora",
        events: "*",
        manner: Manner::Healthy,
        about: "is well: answers 200",
    },
    Subscriber {
        id: "legado",
        tenant: "loja-aurora",
        events: "contact.*",
        manner: Manner::Absent,
        about: "is not there: dead letters after 3 attempts",
    },
];

/// A subscriber with its port and its webhook.
pub struct Ready {
    /// The plan.
    pub subscriber: &'static Subscriber,
    /// Its webhook, as it is stored.
    pub webhook: Webhook,
    listener: Option<Listener>,
    /// A port that is taken and never listened on, so that whoever calls it is refused.
    _closed: Option<TcpSocket>,
}

/// Gives each subscriber a port and stores its webhook, which keeps its secret and its dead letters from run to run.
///
/// # Errors
///
/// There is no free port, or Redis refuses.
pub async fn prepare(
    settings: &Settings,
    store: &Store,
    clock: &Clock,
) -> anyhow::Result<Vec<Ready>> {
    let mut ready = Vec::with_capacity(ALL.len());
    for subscriber in &ALL {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let earlier = store.webhook(subscriber.id).await?;
        let secrets = match &earlier {
            Some(webhook) => webhook.secrets.clone(),
            None => vec![generate_secret(clock.random_bytes())],
        };
        let (listener, closed, address) = if subscriber.manner == Manner::Absent {
            let socket = TcpSocket::new_v4().context("cannot make a socket")?;
            socket.bind(any_port).context("there is no free port")?;
            let address = socket.local_addr()?;
            (None, Some(socket), address)
        } else {
            let checker = Checker::new(
                secrets.clone(),
                settings.signature.header.parse()?,
                settings.signature.scheme,
                TOLERANCE_S,
            );
            let listener = Listener::bind(any_port, checker, clock.clone())
                .await
                .context("there is no free port")?;
            let address = listener.local_addr();
            (Some(listener), None, address)
        };
        let url = format!("http://{address}/{}", subscriber.id);
        let now_ms = clock.unix_ms();
        let mut webhook = Webhook {
            spec: subscriber.spec(&url)?,
            uid: earlier.as_ref().map_or_else(
                || hex::encode(clock.random_bytes::<8>()),
                |webhook| webhook.uid.clone(),
            ),
            version: earlier.as_ref().map_or(0, |webhook| webhook.version),
            secrets,
            rotation_ends_ms: None,
            disabled: None,
            managed_by: None,
            created_ms: earlier.map_or(now_ms, |webhook| webhook.created_ms),
            updated_ms: now_ms,
        };
        match store.put_webhook(&webhook).await? {
            Put::Version(version) => webhook.version = version,
            Put::Conflict => anyhow::bail!("the webhook {} is being changed", subscriber.id),
        }
        ready.push(Ready {
            subscriber,
            webhook,
            listener,
            _closed: closed,
        });
    }
    Ok(ready)
}

/// Lets the subscribers that are there answer, until `stop`.
pub fn serve(
    ready: &mut [Ready],
    screen: &Arc<Screen>,
    tally: &Arc<Tally>,
    clock: &Clock,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    for (at, ready) in ready.iter_mut().enumerate() {
        let Some(listener) = ready.listener.take() else {
            continue;
        };
        let (subscriber, screen, tally, clock) = (
            ready.subscriber,
            screen.clone(),
            tally.clone(),
            clock.clone(),
        );
        let answer =
            move |delivery: &Delivery| subscriber.answer(at, delivery, &screen, &tally, &clock);
        serving.spawn(listener.serve(answer, stop.clone()));
    }
    serving
}

impl Subscriber {
    fn spec(&self, url: &str) -> anyhow::Result<WebhookSpec> {
        // Short enough to be watched.
        let retry = match self.manner {
            Manner::Healthy => None,
            Manner::Flaky => Some((Duration::from_millis(400), 8)),
            Manner::Absent => Some((Duration::from_millis(300), 3)),
        };
        Ok(WebhookSpec {
            id: self.id.to_owned(),
            tenant: self.tenant.to_owned(),
            name: self.id.to_owned(),
            description: None,
            url: url.to_owned(),
            events: vec![EventFilter::parse(self.events)?],
            secret: None,
            active: true,
            headers: [("x-demo".to_owned(), "pombo dev".to_owned())].into(),
            rate_limit: None,
            max_in_flight: None,
            timeout: None,
            retry: retry.map(|(first, max_attempts)| RetryOverride {
                first: Some(first),
                factor: Some(2.0),
                max_attempts: Some(max_attempts),
                ..RetryOverride::default()
            }),
            ordering: Ordering::None,
            body_mode: None,
            signature_scheme: None,
        })
    }

    fn answer(
        &self,
        at: usize,
        delivery: &Delivery,
        screen: &Screen,
        tally: &Tally,
        clock: &Clock,
    ) -> Reply {
        let event_id = delivery.event_id().unwrap_or_default();
        let attempt = delivery.attempt().unwrap_or(0);
        let status = match (self.manner, tally.number(event_id)) {
            (Manner::Flaky, Some(n)) if attempt <= failures(n) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        };
        let verified = delivery.checks.hold();
        let accepted = status.is_success();
        let noted = tally.arrived(at, event_id, accepted, verified, clock.monotonic());
        screen.line(&Line {
            at_ms: delivery.at_ms,
            subscriber: self.id,
            event_type: delivery.event_type().unwrap_or_default(),
            attempt,
            verified: Some(verified),
            what: if accepted {
                What::Delivered
            } else {
                What::Failed(status.as_u16())
            },
            noted,
        });
        Reply {
            status,
            delay: Duration::ZERO,
        }
    }
}

/// How many attempts of the `n`th event the flaky subscriber fails: of its platform's events, which are every other one,
/// none, one, none, two, and so on.
fn failures(n: u64) -> u32 {
    match n / 2 % 4 {
        1 => 1,
        3 => 2,
        _ => 0,
    }
}

/// The subscribers, as bits, that an event of this tenant and type goes to.
pub fn wanted_by(ready: &[Ready], tenant: &str, event_type: &str) -> u32 {
    let wanting = ready.iter().enumerate().filter(|(_, ready)| {
        let spec = &ready.webhook.spec;
        spec.tenant == tenant && spec.wants(event_type)
    });
    wanting.fold(0, |bits, (at, _)| bits | 1 << at)
}
