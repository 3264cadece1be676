//! The settings of the daemon that `pombo dev` runs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::folder::Folder;
use super::samples;
use crate::cli::Given;
use crate::exit::Exit;
use crate::settings::{Secret, Settings};

/// What the daemon runs with.
pub struct Made {
    pub settings: Settings,
    /// What of the user's own settings does not hold, in plain words, a line each.
    pub changed: Vec<String>,
}

/// The settings of the daemon: a file in the folder, so that other commands can be given it too. Of the user's own settings
/// all is kept but where events come from and what is on this machine.
pub fn make(
    port: Option<u16>,
    given: Given<'_>,
    folder: &Folder,
    url: &Secret,
) -> anyhow::Result<Result<Made, Exit>> {
    let usual = |port| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            port
        } else {
            0
        }
    };
    // Who asks for any free port wants no usual one: two that start at once would both find it free.
    let api_port = if port == Some(0) { 0 } else { usual(8080) };
    let port = port.unwrap_or_else(|| usual(9464));
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let path = folder.write(
        "pombo.toml",
        &format!(
            "# Written by `pombo dev`, for other commands while it runs.\n\n\
             [instance]\nname = \"dev\"\nlock_file = {}\n\n[redis]\nurl = {}\n{}\n\
             [targets]\nallow = [\"127.0.0.0/8\"]\n\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n\n\
             [api]\nlisten = \"127.0.0.1:{api_port}\"\n\n\
             [logging]\nlevel = \"error\"\n\n[shutdown]\ngrace = \"5s\"\n",
            quoted(&folder.file("daemon.lock").to_string_lossy()),
            quoted(url.expose()),
            samples::SOURCES,
        ),
    )?;
    let own = Settings::load(None, Some(&path), std::iter::empty())?;
    if given.config.is_none() && given.profile.is_none() {
        return Ok(Ok(Made {
            settings: own,
            changed: Vec::new(),
        }));
    }
    Ok(crate::cli::load(given).map(|theirs| combine(theirs, own)))
}

fn combine(mut theirs: Settings, own: Settings) -> Made {
    let mut changed = vec![
        "yours, but for [instance], [redis], [[sources]], [metrics] and api.listen".to_owned(),
    ];
    let missing: Vec<_> = own
        .targets
        .allow
        .into_iter()
        .filter(|network| !theirs.targets.allow.contains(network))
        .collect();
    for network in missing {
        changed.push(format!(
            "targets.allow lists {network}, too: the subscribers are there"
        ));
        theirs.targets.allow.push(network);
    }
    if theirs.targets.https_only {
        changed.push("targets.https_only is off: the subscribers speak plain http".to_owned());
        theirs.targets.https_only = false;
    }
    theirs.instance = own.instance;
    theirs.redis = own.redis;
    theirs.sources = own.sources;
    theirs.metrics = own.metrics;
    theirs.api.listen = own.api.listen;
    Made {
        settings: theirs,
        changed,
    }
}
