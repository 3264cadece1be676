//! `pombo send`: adds an event to a source, as the platform would.

use std::io::{Read as _, Write};
use std::sync::Arc;

use super::connect;
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::event::compose::{self, Parts, compose};
use crate::exit::Exit;
use crate::settings::{Settings, SourceSettings};
use crate::store::source::add_entry;

/// The options of `pombo send`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The entry is written in the layout that the settings describe, and is added only if Pombo could read it as this event.
Its id in the stream is printed.

Examples:
  pombo send crm.lead.created '{\"name\":\"Ada\"}' --tenant acme
  jq -c .order order.json | pombo send order.created - --source shop --id ord_4711")]
pub struct Args {
    /// The event's type, such as crm.lead.created
    #[arg(value_name = "TYPE")]
    event_type: String,

    /// The payload; "-" reads it from standard input
    #[arg(value_name = "JSON", default_value = "{}")]
    payload: String,

    /// The source to add it to, by its name in the settings; not needed if there is but one
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// The stream, for a source that stands for several
    #[arg(long)]
    stream: Option<String>,

    /// The tenant whose event it is; if not given, the source's default
    #[arg(long)]
    tenant: Option<String>,

    /// The event's id; if not given, one is made from its place in the stream
    #[arg(long)]
    id: Option<String>,
}

/// Runs the command; prints the id of the new entry to `out`.
///
/// # Errors
///
/// Says what is wrong with the event or the choice of the source, or why Redis did not take it.
pub async fn run(
    args: &Args,
    settings: &Settings,
    clock: &Clock,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let (index, source) = choose(args, settings)?;
    let stream = stream(args, source)?;
    let payload = payload(args, settings.delivery.max_payload)?;
    let fallback_id = format!("evt_{}", hex::encode(clock.random_bytes::<10>()));
    let parts = Parts {
        event_type: &args.event_type,
        tenant: args.tenant.as_deref(),
        id: args.id.as_deref(),
        fallback_id: &fallback_id,
        time: None,
        payload: &payload,
    };
    let most = settings.delivery.max_payload;
    let (entry, _) = compose(source, most, &stream, &parts, clock.unix_ms())
        .map_err(|unfit| Trouble::new(Exit::Data, format!("nothing was sent: {unfit}")))?;
    let own = settings.redis.server.clone();
    let (server, key) = match &source.server {
        Some(server) => (server, format!("sources[{index}].url")),
        None => (&own, "redis.url".to_owned()),
    };
    let connection = connect::link(settings, clock, server, &key).await?;
    let id = add_entry(&connection.to, &stream, &entry.fields).await?;
    writeln!(out, "{id}")?;
    out.flush()?;
    Ok(Exit::Ok)
}

/// The source that is meant, and which one of the settings it is.
fn choose<'a>(args: &Args, settings: &'a Settings) -> Result<(usize, &'a SourceSettings), Trouble> {
    let sources = &settings.sources;
    let names = || {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        names.join(", ")
    };
    match (&args.source, sources.as_slice()) {
        (_, []) => {
            let missing = settings.require_sources().err();
            let missing = missing.map_or_else(String::new, |error| error.to_string());
            Err(Trouble::new(Exit::Config, missing))
        }
        (Some(name), sources) => sources
            .iter()
            .enumerate()
            .find(|(_, source)| source.name == *name)
            .ok_or_else(|| {
                let known = names();
                Trouble::new(
                    Exit::Usage,
                    format!("the settings have no source named {name:?}; there is {known}"),
                )
            }),
        (None, [source]) => Ok((0, source)),
        (None, _) => Err(Trouble::new(
            Exit::Usage,
            format!("say which source with --source: {}", names()),
        )),
    }
}

fn stream(args: &Args, source: &SourceSettings) -> Result<Arc<str>, Trouble> {
    let usage = |message: String| Trouble::new(Exit::Usage, message);
    match &args.stream {
        None if source.is_glob() => Err(usage(format!(
            "the source {:?} stands for all streams that match {:?}: say which one with --stream",
            source.name, source.stream
        ))),
        None => Ok(Arc::from(source.stream.as_str())),
        Some(stream) if compose::reads(source, stream) => Ok(Arc::from(stream.as_str())),
        Some(stream) => Err(usage(format!(
            "the source {:?} does not read the stream {stream:?} but {:?}",
            source.name, source.stream
        ))),
    }
}

fn payload(args: &Args, most: usize) -> Result<Vec<u8>, Trouble> {
    if args.payload != "-" {
        return Ok(args.payload.clone().into_bytes());
    }
    let mut payload = Vec::new();
    // One byte more than can be sent: the layout then says that it is too large.
    let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin()
        .lock()
        .take(most)
        .read_to_end(&mut payload)
        .map_err(|error| {
            Trouble::new(
                Exit::NoInput,
                format!("cannot read standard input: {error}"),
            )
        })?;
    if payload.ends_with(b"\n") {
        payload.pop();
    }
    Ok(payload)
}
