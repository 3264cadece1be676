//! `[metrics]`: where metrics and health are served.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::schema::Key;

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsSettings {
    /// Address of `/metrics`, `/healthz` and `/readyz`; port 0 is any free one.
    pub listen: SocketAddr,
}

pub(super) const KEYS: &[Key] = &[Key::text(
    "listen",
    "an IP address and a port, such as \"127.0.0.1:9464\" or \"[::]:9464\"",
    |text| match text.parse::<SocketAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err("is no IP address with a port (names are not looked up)".into()),
    },
)];
