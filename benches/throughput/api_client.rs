//! Requests to the management API at an even pace, beside deliveries.

use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::world::{OPERATOR, World};

/// How long the last answers are waited for.
const LAST: Duration = Duration::from_secs(30);

/// Asks until it is ended or dropped.
pub struct ApiClient {
    stop: CancellationToken,
    /// What each request took; `None` for one that failed.
    task: JoinHandle<Vec<Option<Duration>>>,
}

impl ApiClient {
    /// `rate` times a second; `None` for 0.
    pub fn start(world: &World, rate: u64) -> Option<ApiClient> {
        if rate == 0 {
            return None;
        }
        let stop = CancellationToken::new();
        let (probe, port, stopped) = (world.probe.clone(), world.api_port, stop.clone());
        let every = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX);
        let task = tokio::spawn(async move {
            let mut ticks = interval(every);
            let mut requests = JoinSet::new();
            for number in 0_u64.. {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = stopped.cancelled() => break,
                }
                let webhook = number / 2 % 100;
                let path = match number % 2 {
                    0 => format!("/v1/webhooks/w{webhook}"),
                    _ => format!("/v1/webhooks/w{webhook}/deliveries?limit=10"),
                };
                let probe = probe.clone();
                requests.spawn(async move {
                    let asked = Instant::now();
                    let answer = timeout(LAST, probe.get_as(port, &path, OPERATOR)).await;
                    answer.ok().flatten().map(|_| asked.elapsed())
                });
            }
            requests.join_all().await
        });
        Some(ApiClient { stop, task })
    }

    /// Makes no more requests, and waits for their answers: how they were answered, that were made in `took`.
    pub async fn end(mut self, took: Duration) -> Vec<(&'static str, f64)> {
        self.stop.cancel();
        let all = (&mut self.task).await.unwrap_or_default();
        let mut times: Vec<Duration> = all.iter().copied().flatten().collect();
        times.sort_unstable();
        let mut figures = vec![
            ("api_per_second", times.len() as f64 / took.as_secs_f64()),
            ("api_failed", (all.len() - times.len()) as f64),
        ];
        for (key, percent) in [("api_p50_ms", 50), ("api_p99_ms", 99)] {
            let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            figures.extend(times.get(at).map(|time| (key, time.as_secs_f64() * 1e3)));
        }
        figures
    }
}

impl Drop for ApiClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}
