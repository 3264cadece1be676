//! The settings: typed sections, read in layers, refused as a whole when anything about them is wrong.
//!
//! The layers are the embedded defaults (`config/default.toml`, which is the reference of all keys), then a profile, then a
//! file, then the environment. Each layer is held against the schema for itself, so that a mistake is found even where a later layer covers it;
//! the `config` crate puts them on top of each other; files of secrets are read; and what came out is checked across
//! keys. Every problem is reported, not just the first, with where it was given and what is allowed.

mod api;
mod catalogue;
mod convert;
mod dead_letters;
mod delivery;
mod error;
mod history;
mod instance;
mod layers;
mod logging;
mod metrics;
mod ownership;
mod profile;
mod queue;
mod redis;
mod redis_topology;
mod redis_url;
mod render;
mod retry;
mod schema;
mod secret;
mod secret_files;
mod shutdown;
mod signature;
mod source;
mod targets;
pub mod units;

use std::collections::BTreeMap;
use std::path::Path;

use config::{Config, ConfigError, Map, Source, Value};
use serde::{Deserialize, Serialize};

pub use api::{ApiSettings, JwtSettings};
pub use catalogue::{CatalogueEvent, CatalogueSettings};
pub use dead_letters::DeadLetterSettings;
pub use delivery::DeliverySettings;
pub use error::{Problem, SettingsError};
pub use history::{HistoryPayload, HistorySettings};
pub use instance::InstanceSettings;
pub use logging::{LogFormat, LoggingSettings};
pub use metrics::MetricsSettings;
pub use ownership::OwnershipSettings;
pub use profile::PROFILES;
pub use queue::{NoticesSettings, QueueSettings, RejectedSettings};
pub use redis::{RedisServer, RedisSettings};
pub use redis_topology::{SentinelSettings, Topology};
pub use redis_url::redacted as redacted_url;
pub use secret::Secret;
pub use shutdown::ShutdownSettings;
pub use signature::SignatureSettings;
pub use source::{FieldNames, Format, SourceSettings, Start, Trim};
pub use targets::TargetSettings;

pub(crate) use redis_topology::parse_address;
pub(crate) use schema::{alike, join};

use crate::retry::RetryPolicy;
use error::Report;
use render::Secrets;

/// The defaults file: the reference of all keys.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// The file that is read, if it is there, when none is named.
pub const SYSTEM_FILE: &str = "/etc/pombo/pombo.toml";

/// Everything that can be set. Its fields are the sections of the settings file.
///
/// `Serialize` is for [`Settings::to_toml_redacted`]: its plain output contains secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `[instance]`
    pub instance: InstanceSettings,
    /// `[redis]`
    pub redis: RedisSettings,
    /// `[[sources]]`; may be empty, see [`Settings::require_sources`].
    #[serde(default)]
    pub sources: Vec<SourceSettings>,
    /// `[delivery]`
    pub delivery: DeliverySettings,
    /// `[retry]`
    #[serde(with = "retry::RetryText")]
    pub retry: RetryPolicy,
    /// `[signature]`
    pub signature: SignatureSettings,
    /// `[targets]`
    pub targets: TargetSettings,
    /// `[queue]`
    pub queue: QueueSettings,
    /// `[dead_letters]`
    pub dead_letters: DeadLetterSettings,
    /// `[history]`
    pub history: HistorySettings,
    /// `[rejected]`
    pub rejected: RejectedSettings,
    /// `[notices]`
    pub notices: NoticesSettings,
    /// `[ownership]`
    pub ownership: OwnershipSettings,
    /// `[catalogue]`
    pub catalogue: CatalogueSettings,
    /// `[api]`
    pub api: ApiSettings,
    /// `[metrics]`
    pub metrics: MetricsSettings,
    /// `[logging]`
    pub logging: LoggingSettings,
    /// `[shutdown]`
    pub shutdown: ShutdownSettings,
}

impl Settings {
    /// Reads the settings: the defaults, then the profile of this name (one of [`PROFILES`]), then `config` (which must
    /// exist) or else [`SYSTEM_FILE`] (if it exists), then the variables of `env`, usually those of
    /// [`process_environment`].
    pub fn load(
        profile: Option<&str>,
        config: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Settings, SettingsError> {
        Settings::load_from(profile, config, Path::new(SYSTEM_FILE), env)
    }

    fn load_from(
        profile: Option<&str>,
        config: Option<&Path>,
        system_file: &Path,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Settings, SettingsError> {
        let environment: BTreeMap<String, String> = env.collect();
        let mut report = Report::default();
        let built_in = layers::from_toml(None, DEFAULTS, &mut report);
        let profile = profile.map_or_else(BTreeMap::new, |name| profile::read(name, &mut report));
        let file = match read(config, system_file, &mut report) {
            Some((path, text)) => layers::from_toml(Some(path), &text, &mut report),
            None => BTreeMap::new(),
        };
        let variables = layers::from_environment(&environment, &mut report);
        let layers = [built_in, profile, file, variables]
            .map(|given| Layer(convert::table("", schema::ROOT, given, &mut report)));
        let settings = assemble(layers, &environment, &mut report);
        report.finish()?;
        settings.map_err(|error| internal(&error))
    }

    /// The settings as a TOML file, in effect and complete, with secrets hidden.
    pub fn to_toml_redacted(&self) -> String {
        render::to_toml(self, Secrets::Hidden)
    }

    /// Bytes that the body of a request may have which adds an event: any payload that is accepted fits.
    pub fn largest_event_body(&self) -> usize {
        const AROUND: usize = 64 << 10;
        self.api.max_body.max(self.delivery.max_payload + AROUND)
    }

    /// Refuses settings without a source: a daemon would have nothing to do. Other commands can do without.
    pub fn require_sources(&self) -> Result<(), SettingsError> {
        if !self.sources.is_empty() {
            return Ok(());
        }
        Err(SettingsError {
            problems: vec![Problem {
                key: "sources".into(),
                origin: String::new(),
                reason: "no source is given: there is no stream to read events from".into(),
                allowed: "at least one [[sources]] with its stream, or POMBO__SOURCES='[{\"stream\":\"events\"}]'".into(),
                nearest: None,
            }],
        })
    }

    /// The embedded defaults alone, without any file and environment: a starting point for tests and for commands that
    /// bring their own surroundings.
    pub fn defaults_for_tests() -> Settings {
        match Settings::load_from(None, None, Path::new(""), std::iter::empty()) {
            Ok(settings) => settings,
            // The defaults are part of the program, and a test loads them.
            Err(error) => unreachable!("the embedded defaults are wrong: {error}"),
        }
    }
}

/// The variables of this process' environment that matter here, without the panic that the standard library's iterator
/// has for those that are not UTF-8.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    const OTHERS: [&str; 4] = ["HOSTNAME", "STATE_DIRECTORY", "XDG_RUNTIME_DIR", "TMPDIR"];
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        (name.starts_with("POMBO_") || OTHERS.contains(&name.as_str()))
            .then(|| (name, value.to_string_lossy().into_owned()))
    })
}

/// Reads the settings file that counts, if there is one.
fn read<'a>(
    config: Option<&'a Path>,
    system_file: &'a Path,
    report: &mut Report,
) -> Option<(&'a Path, String)> {
    let path = config.unwrap_or(system_file);
    match std::fs::read_to_string(path) {
        Ok(text) => Some((path, text)),
        Err(error) if config.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            report.add(Problem {
                key: "(the file)".into(),
                origin: path.display().to_string(),
                reason: format!("cannot be read: {error}"),
                allowed: "a settings file in TOML, in UTF-8".into(),
                nearest: None,
            });
            None
        }
    }
}

/// One layer, converted, as the `config` crate takes it.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

fn assemble(
    layers: [Layer; 4],
    environment: &BTreeMap<String, String>,
    report: &mut Report,
) -> Result<Settings, ConfigError> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let mut merged = builder.build()?.collect()?;
    convert::note_given(&merged, report);
    secret_files::resolve("", schema::ROOT, &mut merged, report);
    let mut settings: Settings = Value::new(None, merged).try_deserialize()?;
    settings.signature.header.make_ascii_lowercase();
    settings.api.complete();
    settings
        .instance
        .complete(settings.metrics.listen, environment);
    settings
        .sources
        .iter_mut()
        .for_each(SourceSettings::complete);
    check(&settings, report);
    Ok(settings)
}

/// What no key can tell alone.
fn check(settings: &Settings, report: &mut Report) {
    settings.redis.server.check("redis", report);
    settings.redis.check_topology(report);
    source::check_all(&settings.sources, &settings.redis, report);
    settings.delivery.check(report);
    retry::check(&settings.retry, report);
    settings.targets.check(report);
    settings.queue.check(report);
    settings.catalogue.check(report);
    settings.api.check(report);
    if settings.redis.response_timeout > settings.ownership.lease / 2 {
        report.refuse(
            &["redis.response_timeout", "ownership.lease"],
            format!(
                "is {}, longer than half of ownership.lease ({}): while the daemon waits for one answer, others would \
                 take over its webhooks",
                units::format_duration(settings.redis.response_timeout),
                units::format_duration(settings.ownership.lease)
            ),
            "at most half of ownership.lease",
        );
    }
}

/// The schema let something pass that the types refuse, which tests rule out. The error's own text might show a value.
fn internal(error: &ConfigError) -> SettingsError {
    let key = match error {
        ConfigError::At { key: Some(key), .. } | ConfigError::Type { key: Some(key), .. } => {
            key.clone()
        }
        _ => "(all)".into(),
    };
    SettingsError {
        problems: vec![Problem {
            key,
            origin: String::new(),
            reason: "was accepted and then could not be used; this is a bug of Pombo".into(),
            allowed: String::new(),
            nearest: None,
        }],
    }
}

#[cfg(test)]
mod tests;
