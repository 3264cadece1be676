//! Profiles: settings that make Pombo serve a platform's own contract, embedded in the program.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{Problem, Report};
use super::layers::{self, Node};
use super::schema::alike;

/// The profiles by name, each a settings file.
pub const PROFILES: [(&str, &str); 2] = [
    (
        "jurichat",
        include_str!("../../config/profiles/jurichat.toml"),
    ),
    (
        "wts-chat",
        include_str!("../../config/profiles/wts-chat.toml"),
    ),
];

/// The layer of the profile `name`; what is wrong with the name is reported.
pub(super) fn read(name: &str, report: &mut Report) -> BTreeMap<String, Node> {
    match PROFILES.iter().find(|(known, _)| *known == name) {
        Some((name, text)) => {
            let origin = format!("profile {name}");
            layers::from_toml(Some(Path::new(&origin)), text, report)
        }
        None => {
            let names = || PROFILES.iter().map(|(name, _)| (*name).to_owned());
            report.add(Problem {
                key: "(the profile)".into(),
                origin: "--profile".into(),
                reason: format!("there is none named {name:?}"),
                allowed: names().collect::<Vec<_>>().join(", "),
                nearest: alike(names(), name),
            });
            BTreeMap::new()
        }
    }
}
