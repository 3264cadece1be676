//! `[delivery]`: how attempts are made, where a webhook does not say otherwise, and the daemon's bounds on them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Report;
use super::schema::{Key, Kind, millis, minutes};
use super::units::{self, format_duration, format_size};
use crate::webhook::BodyMode;

/// `[delivery]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliverySettings {
    /// From an attempt's start to the end of its answer, 100 ms to 5 min.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// For connecting, TLS included; at most `timeout`.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// Attempts of one webhook at the same time, 1 to 10,000.
    pub max_in_flight: u32,
    /// Attempts of all webhooks at the same time, 1 to 100,000; at least `max_in_flight`.
    pub max_in_flight_total: usize,
    /// Bytes of the largest payload that is accepted, 1 to 64 MiB.
    #[serde(with = "units::size")]
    pub max_payload: usize,
    /// Bytes of an answer's body that are read, 0 to 16 MiB.
    #[serde(with = "units::size")]
    pub response_body_limit: usize,
    /// What is posted: the envelope or the payload alone.
    #[serde(with = "BodyModeText")]
    pub body_mode: BodyMode,
    /// The tenant's name in the envelope.
    pub tenant_field: String,
    /// Deliveries that bypass their queue at the same time, 1 to 1,000,000.
    pub max_taken: usize,
    /// Bytes of their payloads, 64 KiB to 64 GiB; at least `max_payload`.
    #[serde(with = "units::size")]
    pub max_taken_bytes: usize,
    /// How long an unused connection is kept, 1 s to 1 h.
    #[serde(with = "units::duration")]
    pub idle_connection_timeout: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "BodyMode", rename_all = "snake_case")]
enum BodyModeText {
    Envelope,
    Payload,
}

pub(super) const KEYS: &[Key] = &[
    Key::duration("timeout", millis(100), minutes(5)),
    Key::duration("connect_timeout", millis(100), minutes(5)),
    Key::integer("max_in_flight", 1, 10_000),
    Key::integer("max_in_flight_total", 1, 100_000),
    Key::size("max_payload", 1, 64 << 20),
    Key::size("response_body_limit", 0, 16 << 20),
    Key::new("body_mode", Kind::Choice(&["envelope", "payload"])),
    Key::text(
        "tenant_field",
        "1 to 64 letters, digits, _ and -, but not id, type, timestamp or data",
        check_tenant_field,
    ),
    Key::integer("max_taken", 1, 1_000_000),
    Key::size("max_taken_bytes", 64 << 10, 64 << 30),
    Key::duration("idle_connection_timeout", millis(1_000), minutes(60)),
];

fn check_tenant_field(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 64 {
        Err(format!("is {} bytes long", text.len()))
    } else if matches!(text, "id" | "type" | "timestamp" | "data") {
        Err("is the name of another part of the envelope".into())
    } else if !text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    {
        Err("has a character that is not allowed".into())
    } else {
        Ok(())
    }
}

impl DeliverySettings {
    pub(super) fn check(&self, report: &mut Report) {
        if self.connect_timeout > self.timeout {
            report.refuse(
                &["delivery.connect_timeout", "delivery.timeout"],
                format!(
                    "is {}, longer than the whole attempt may take (delivery.timeout, {}): it would never run out",
                    format_duration(self.connect_timeout),
                    format_duration(self.timeout)
                ),
                "at most delivery.timeout",
            );
        }
        if self.max_in_flight as usize > self.max_in_flight_total {
            report.refuse(
                &["delivery.max_in_flight", "delivery.max_in_flight_total"],
                format!(
                    "is {}, more than all webhooks may have together (delivery.max_in_flight_total, {}): one slow \
                     webhook could hold every slot",
                    self.max_in_flight, self.max_in_flight_total
                ),
                "at most delivery.max_in_flight_total",
            );
        }
        if self.max_taken_bytes < self.max_payload {
            report.refuse(
                &["delivery.max_taken_bytes", "delivery.max_payload"],
                format!(
                    "is {}, less than one payload may have (delivery.max_payload, {}): a large event would stop its \
                     source for good",
                    format_size(self.max_taken_bytes),
                    format_size(self.max_payload)
                ),
                "at least delivery.max_payload",
            );
        }
    }
}
