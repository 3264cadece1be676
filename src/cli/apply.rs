//! `pombo apply`: makes the webhooks in Redis those of a file, and prints the difference.
//!
//! The file is read whole and refused whole. A webhook that something else made is not taken over in silence: the
//! command then changes nothing at all, unless it was told to adopt. Each change is conditional on the version that it
//! was planned for; when somebody was faster, that one is planned anew from what stands there now.

mod file;
mod keys;
mod plan;
mod secrets;
mod show;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::path::PathBuf;

use super::connect::{self, Purpose};
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::exit::Exit;
use crate::settings::{Problem, Settings};
use crate::store::webhooks::Put;
use crate::store::{Store, StoreError};
use crate::target::TargetRules;
use crate::webhook::{Webhook, WebhookSpec};

use file::Surroundings;
use plan::{Planner, Step};
use show::Tally;

/// The largest file of webhooks, in bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;
/// How often a webhook is planned anew because somebody else changed it meanwhile.
const MOST_CONFLICTS: u32 = 5;
/// Webhooks read at a time.
const CHUNK: usize = 500;

/// The options of `pombo apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example of a file:
  [[webhooks]]
  id = \"orders-erp\"                     # 1 to 64 letters, digits, _ and -
  tenant = \"acme\"                       # \"default\" if it is left out
  name = \"Orders to the ERP\"
  url = \"https://erp.example.com/hooks\"
  events = [\"order.created\", \"crm.**\"]  # *: one segment, final **: one or more, * alone: all
  # What follows may be left out.
  secret = \"...\"                        # if left out: generated, and kept
  active = true
  headers = { x-team = \"erp\" }
  rate_limit = { per_second = 50, burst = 10 }
  max_in_flight = 8
  timeout = \"15s\"
  retry = { first = \"5s\", factor = 3, longest = \"12h\", jitter = 0.2,
            max_attempts = 15, max_age = \"4d\" }
  ordering = \"none\"                     # none, fifo
  body_mode = \"envelope\"                # envelope, payload

Printed is what becomes of each webhook:
  +  created          ~  changed          -  deleted          =  as it should be
  !  not made by apply: then nothing at all is changed, unless --adopt takes it over
A webhook whose tenant changes is deleted and made anew. Secrets, values of headers and paths
of URLs are never printed.

Examples:
  pombo apply webhooks.toml --dry-run
  pombo apply webhooks.toml --prune --secrets-out secrets.toml")]
pub struct Args {
    /// The file that declares the webhooks; "-" reads standard input
    #[arg(value_name = "FILE")]
    pub file: String,

    /// Delete the webhooks that an earlier apply made and that the file does not declare
    #[arg(long)]
    pub prune: bool,

    /// Print the difference and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Take over webhooks of the file that exist and were not made by apply
    #[arg(long)]
    pub adopt: bool,

    /// Write the secrets of the webhooks that declare none to FILE, readable by its owner alone
    #[arg(long, value_name = "FILE")]
    pub secrets_out: Option<PathBuf>,
}

/// Runs the command; the difference goes to `out`, everything else to `errors`.
///
/// # Errors
///
/// Says what kept it from being done, and how much of it was.
pub async fn run(
    args: &Args,
    settings: &Settings,
    clock: &Clock,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let (name, text) = read(&args.file)?;
    let rules = TargetRules::new(settings.targets.allow.clone(), settings.targets.https_only);
    let surroundings = Surroundings {
        rules: &rules,
        signature_header: &settings.signature.header,
    };
    let declared = match file::read(&name, &text, &surroundings) {
        Ok(declared) => declared,
        Err(problems) => return Err(refused(&name, &problems)),
    };
    let purpose = if args.dry_run {
        Purpose::Read
    } else {
        Purpose::Write
    };
    let connection = connect::store(settings, clock, purpose).await?;
    let apply = Apply {
        store: &connection.to,
        planner: Planner {
            clock,
            adopt: args.adopt,
        },
        declared,
    };
    let steps = apply.plan(args.prune, errors).await?;
    let foreign = steps.iter().any(|step| matches!(step, Step::Foreign(_)));
    let mut tally = Tally::default();
    if args.dry_run || foreign {
        for step in &steps {
            show::step(step, out)?;
            tally.count(step);
        }
    } else {
        let planned = steps.iter().filter(|step| step.is_change()).count();
        let done = apply.carry_out(steps, &mut tally, out).await;
        done.map_err(|trouble| {
            trouble.within(&format!(
                "{} of about {planned} changes were made (run it again to make the others)",
                tally.changes()
            ))
        })?;
    }
    if foreign && !args.dry_run {
        writeln!(errors, "pombo: nothing was changed")?;
        return Ok(Exit::Failure);
    }
    writeln!(out, "{}", tally.line(args.dry_run))?;
    out.flush()?;
    if !args.dry_run {
        apply.hand_out_secrets(args, &tally, errors).await?;
    }
    Ok(if tally.foreign > 0 {
        Exit::Failure
    } else {
        Exit::Ok
    })
}

fn read(file: &str) -> Result<(String, String), Trouble> {
    let name = match file {
        "-" => "standard input".to_owned(),
        file => file.to_owned(),
    };
    let opened: std::io::Result<Box<dyn Read>> = match file {
        "-" => Ok(Box::new(std::io::stdin().lock())),
        file => std::fs::File::open(file).map(|file| Box::new(file) as Box<dyn Read>),
    };
    let mut text = String::new();
    opened
        .and_then(|input| input.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|error| Trouble::new(Exit::NoInput, format!("cannot read {name}: {error}")))?;
    Ok((name, text))
}

fn refused(name: &str, problems: &[Problem]) -> Trouble {
    let mut message = match problems.len() {
        1 => format!("{name} is wrong, and nothing was changed:"),
        n => format!("{name} is wrong in {n} places, and nothing was changed:"),
    };
    for problem in problems {
        message.push_str(&format!("\n  {problem}"));
    }
    Trouble::new(Exit::Data, super::pretty::escape(&message))
}

/// What the command works with.
struct Apply<'a> {
    store: &'a Store,
    planner: Planner<'a>,
    declared: Vec<WebhookSpec>,
}

impl Apply<'_> {
    /// A step for each webhook of the file, in its order, and then the deletions.
    async fn plan(&self, prune: bool, errors: &mut dyn Write) -> Result<Vec<Step>, Trouble> {
        let mut found: HashMap<String, Webhook> = HashMap::new();
        let ids: Vec<String> = self.declared.iter().map(|spec| spec.id.clone()).collect();
        for chunk in ids.chunks(CHUNK) {
            for webhook in self.store.webhooks_by_id(chunk).await? {
                if let Some(webhook) = webhook? {
                    found.insert(webhook.spec.id.clone(), webhook);
                }
            }
        }
        let mut steps: Vec<Step> = self
            .declared
            .iter()
            .map(|declared| self.planner.step(declared, found.remove(&declared.id)))
            .collect();
        if prune {
            let kept: HashSet<&str> = self.declared.iter().map(|spec| &*spec.id).collect();
            let (webhooks, unreadable) = self.store.all_webhooks().await?;
            for (_, error) in unreadable {
                writeln!(errors, "warning: {error}; it is left as it is")?;
            }
            let others = webhooks
                .into_iter()
                .filter(|webhook| !kept.contains(&*webhook.spec.id));
            steps.extend(others.filter_map(|webhook| self.planner.pruned(webhook)));
        }
        Ok(steps)
    }

    async fn carry_out(
        &self,
        steps: Vec<Step>,
        tally: &mut Tally,
        out: &mut dyn Write,
    ) -> Result<(), Trouble> {
        let declared: HashMap<&str, &WebhookSpec> =
            self.declared.iter().map(|spec| (&*spec.id, spec)).collect();
        for step in steps {
            let id = step.id().to_owned();
            let mut step = Some(step);
            let mut conflicts = 0;
            while let Some(present) = &step {
                if self.make(present).await? {
                    break;
                }
                conflicts += 1;
                if conflicts > MOST_CONFLICTS {
                    return Err(Trouble::new(
                        Exit::Failure,
                        format!("somebody else keeps changing the webhook {id}"),
                    ));
                }
                let found = self.store.webhook(&id).await?;
                step = match declared.get(&*id) {
                    Some(declared) => Some(self.planner.step(declared, found)),
                    None => found.and_then(|webhook| self.planner.pruned(webhook)),
                };
            }
            if let Some(step) = &step {
                show::step(step, out)?;
                tally.count(step);
            }
        }
        Ok(())
    }

    /// Makes one change; false if somebody else was faster.
    async fn make(&self, step: &Step) -> Result<bool, StoreError> {
        let put = match step {
            Step::Create(made) => self.store.put_webhook(&made.webhook).await?,
            Step::Update { webhook, .. } => self.store.put_webhook(webhook).await?,
            Step::Recreate { old, new } => match self.store.delete_webhook(old).await? {
                Put::Version(_) => self.store.put_webhook(&new.webhook).await?,
                Put::Conflict => Put::Conflict,
            },
            Step::Delete(webhook) => self.store.delete_webhook(webhook).await?,
            Step::Unchanged(_) | Step::Foreign(_) => return Ok(true),
        };
        Ok(put != Put::Conflict)
    }

    /// Writes the secrets that the file leaves to Pombo where `--secrets-out` says, or says that it could.
    async fn hand_out_secrets(
        &self,
        args: &Args,
        tally: &Tally,
        errors: &mut dyn Write,
    ) -> Result<(), Trouble> {
        let Some(path) = &args.secrets_out else {
            if tally.generated > 0 {
                writeln!(
                    errors,
                    "{} secret(s) were generated; --secrets-out FILE, now or later, writes them down for the receivers",
                    tally.generated
                )?;
            }
            return Ok(());
        };
        let ids: Vec<String> = self
            .declared
            .iter()
            .filter(|spec| spec.secret.is_none())
            .map(|spec| spec.id.clone())
            .collect();
        let mut webhooks = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            for webhook in self.store.webhooks_by_id(chunk).await? {
                webhooks.extend(webhook?);
            }
        }
        secrets::write(path, &webhooks).map_err(|error| {
            let problem = format!("cannot write the secrets to {}: {error}", path.display());
            Trouble::new(Exit::Failure, problem)
        })
    }
}
