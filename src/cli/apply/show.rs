//! The difference as it is printed.

use std::io::{self, Write};

use super::plan::{Change, Made, Step, fields};
use crate::cli::pretty::escape_line;
use crate::clock::rfc3339_ms;

/// How many steps of each kind there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Made.
    pub created: usize,
    /// Changed.
    pub changed: usize,
    /// Deleted.
    pub deleted: usize,
    /// As they should be.
    pub unchanged: usize,
    /// Left alone, because others made them.
    pub foreign: usize,
    /// Of those created, the ones with a generated secret.
    pub generated: usize,
}

impl Tally {
    /// Counts `step`.
    pub fn count(&mut self, step: &Step) {
        let mut created = |made: &Made| {
            self.created += 1;
            self.generated += usize::from(made.generated);
        };
        match step {
            Step::Create(made) => created(made),
            Step::Recreate { new, .. } => {
                created(new);
                self.deleted += 1;
            }
            Step::Update { .. } => self.changed += 1,
            Step::Delete(_) => self.deleted += 1,
            Step::Unchanged(_) => self.unchanged += 1,
            Step::Foreign(_) => self.foreign += 1,
        }
    }

    /// Steps that change something.
    pub fn changes(&self) -> usize {
        self.created + self.changed + self.deleted
    }

    /// All of it in one line.
    pub fn line(&self, dry_run: bool) -> String {
        let line = format!(
            "{} created, {} changed, {} deleted, {} unchanged",
            self.created, self.changed, self.deleted, self.unchanged
        );
        if dry_run {
            format!("{line} (a dry run: nothing was changed)")
        } else {
            line
        }
    }
}

/// Prints one step: `+` created, `~` changed, `-` deleted, `=` unchanged, `!` left alone.
///
/// # Errors
///
/// `out` cannot be written to.
pub fn step(step: &Step, out: &mut dyn Write) -> io::Result<()> {
    match step {
        Step::Create(made) => create(made, "", out),
        Step::Recreate { old, new } => {
            writeln!(
                out,
                "- {} (its tenant changes; what waits for {} under this id is dropped, dead letters included)",
                old.spec.id,
                escape_line(&old.spec.tenant)
            )?;
            create(
                new,
                " (made anew: a webhook of another tenant inherits nothing)",
                out,
            )
        }
        Step::Update { webhook, changes } => {
            writeln!(out, "~ {}{}", webhook.spec.id, disabled(webhook))?;
            changes
                .iter()
                .try_for_each(|Change { field, shown }| line(field, shown, out))
        }
        Step::Delete(webhook) => writeln!(
            out,
            "- {} (with what waits for it, dead letters included)",
            webhook.spec.id
        ),
        Step::Unchanged(webhook) => writeln!(out, "= {}{}", webhook.spec.id, disabled(webhook)),
        Step::Foreign(webhook) => writeln!(
            out,
            "! {} exists and was not made by `pombo apply`{}: take it out of the file, give it another id there, or take \
             it over with --adopt",
            webhook.spec.id,
            match &webhook.managed_by {
                Some(owner) => format!(" but by {}", escape_line(owner)),
                None => String::new(),
            }
        ),
    }
}

fn create(made: &Made, remark: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "+ {}{remark}", made.webhook.spec.id)?;
    for (field, shown) in fields(&made.webhook.spec) {
        if field != "id" {
            line(&field, &shown, out)?;
        }
    }
    let secret = if made.generated {
        "(generated)"
    } else {
        "(as in the file)"
    };
    line("secret", secret, out)
}

fn line(field: &str, shown: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "    {}: {}", escape_line(field), escape_line(shown))
}

/// That Pombo disabled the webhook, which no file changes.
fn disabled(webhook: &crate::webhook::Webhook) -> String {
    match &webhook.disabled {
        None => String::new(),
        Some(disabled) => format!(
            " (disabled by Pombo at {}: {}; `pombo enable {}` clears that)",
            rfc3339_ms(disabled.at_ms),
            escape_line(&disabled.reason),
            webhook.spec.id
        ),
    }
}
