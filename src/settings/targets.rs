//! `[targets]`: which receivers may be called.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::error::Report;
use super::schema::{Key, Kind};

/// `[targets]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSettings {
    /// Networks that may be called although they are private, local or reserved.
    #[serde(with = "networks")]
    pub allow: Vec<IpNet>,
    /// Whether webhooks must be `https://`.
    pub https_only: bool,
    /// PEM file with authorities to trust beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

pub(super) const KEYS: &[Key] = &[
    Key::new("allow", Kind::Networks),
    Key::new("https_only", Kind::Flag),
    Key::new("ca_file", Kind::Path),
];

impl TargetSettings {
    pub(super) fn check(&self, report: &mut Report) {
        if let Some(file) = &self.ca_file {
            report.need_file("targets.ca_file", file);
        }
    }
}

pub(super) mod networks {
    use ipnet::IpNet;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::settings::convert::parse_network;

    pub(in crate::settings) fn serialize<S: Serializer>(
        networks: &[IpNet],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(networks.iter().map(IpNet::to_string))
    }

    pub(in crate::settings) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<IpNet>, D::Error> {
        Vec::<String>::deserialize(from)?
            .iter()
            .map(|text| parse_network(text).ok_or_else(|| D::Error::custom("is no network")))
            .collect()
    }
}
