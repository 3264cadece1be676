//! The figures that were accepted last, and how others differ from them.
//!
//! Only what does not depend on the machine's speed is kept: ratios and memory. They stand in the repository, so that a
//! change that makes one of them worse is seen on any machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::figures::{Better, KINDS, Kind, Measured, short};

/// By scenario, by figure.
pub type Accepted = BTreeMap<String, BTreeMap<String, f64>>;

/// A figure that is worse by more than this is pointed out.
pub const WORSE_BY: f64 = 0.1;

/// Where they are kept.
pub fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/throughput/accepted.json")
}

/// Reads them; none if there is no file yet.
///
/// # Errors
///
/// What is wrong with the file, in plain words.
pub fn read(file: &Path) -> Result<Accepted, String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Accepted::new()),
        Err(error) => return Err(format!("{} cannot be read: {error}", file.display())),
    };
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Puts the figures of `all` in place of those that were accepted; scenarios that were not run keep theirs.
pub fn accept(accepted: &mut Accepted, all: &[Measured]) {
    for measured in all {
        let kept = KINDS.iter().filter(|kind| kind.better != Better::Neither);
        let figures: BTreeMap<String, f64> = kept
            .filter_map(|kind| {
                let median = measured.median(kind.key)?;
                // More digits than are of use would only make each change of the file look like one.
                Some((kind.key.to_owned(), (median * 1_000.0).round() / 1_000.0))
            })
            .collect();
        if !figures.is_empty() {
            accepted.insert(measured.name.to_owned(), figures);
        }
    }
}

/// Writes them.
///
/// # Errors
///
/// Why the file cannot be written.
pub fn write(file: &Path, accepted: &Accepted) -> Result<(), String> {
    let mut text = serde_json::to_string_pretty(accepted).map_err(|error| error.to_string())?;
    text.push('\n');
    std::fs::write(file, text)
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

/// How one figure differs from what was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub scenario: &'static str,
    pub says: &'static str,
    pub before: f64,
    pub now: f64,
    pub is_worse: bool,
}

fn is_worse(kind: &Kind, before: f64, now: f64) -> bool {
    let by = match kind.better {
        Better::Higher => before - now,
        Better::Lower => now - before,
        Better::Neither => return false,
    };
    by > kind.slack && by > before.abs() * WORSE_BY
}

/// All differences, scenario by scenario; figures that were never accepted are left out.
pub fn differences(accepted: &Accepted, all: &[Measured]) -> Vec<Difference> {
    let of_one = |measured: &Measured| -> Vec<Difference> {
        let before = accepted.get(measured.name);
        let differs = |kind: &'static Kind| {
            let before = *before?.get(kind.key)?;
            let now = measured.median(kind.key)?;
            Some(Difference {
                scenario: measured.name,
                says: kind.says,
                before,
                now,
                is_worse: is_worse(kind, before, now),
            })
        };
        KINDS.iter().filter_map(differs).collect()
    };
    all.iter().flat_map(of_one).collect()
}

/// The differences as a table in Markdown.
pub fn table(differences: &[Difference]) -> String {
    let mut text =
        "| scenario | figure | accepted | now | difference |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for one in differences {
        let (before, now) = (short(one.before), short(one.now));
        let change = match one.before == 0.0 {
            true => String::new(),
            false => format!("{:+.0} %", (one.now / one.before - 1.0) * 100.0),
        };
        let worse = if one.is_worse { " **worse**" } else { "" };
        text += &format!(
            "| `{}` | {} | {before} | {now} | {change}{worse} |\n",
            one.scenario, one.says
        );
    }
    text
}
