//! Every exit code of the program, in one table. Codes from 64 on are those of `sysexits.h`, so that service managers
//! and scripts can tell "try again" from "a person must act".

use std::fmt;
use std::process::{ExitCode, Termination};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// 0: done.
    Ok,
    /// 1: it was tried and failed, or a check that was asked for (`verify`) came out negative.
    Failure,
    /// 64: the command line is wrong.
    Usage,
    /// 65: what was given to work on is wrong: an apply file, an event, a saved request.
    Data,
    /// 66: a file that was given to work on does not exist or cannot be read.
    NoInput,
    /// 69: Redis, the API, or another service that is needed, cannot be reached or is not fit for use.
    Unavailable,
    /// 70: a bug: a part of the program ended that should not have.
    Internal,
    /// 75: another instance of the same name is running; it may work later.
    Busy,
    /// 78: the settings are wrong.
    Config,
    /// 130: interrupted before it was done.
    Interrupted,
}

impl Exit {
    /// All of them, by code.
    pub const ALL: [Exit; 10] = [
        Exit::Ok,
        Exit::Failure,
        Exit::Usage,
        Exit::Data,
        Exit::NoInput,
        Exit::Unavailable,
        Exit::Internal,
        Exit::Busy,
        Exit::Config,
        Exit::Interrupted,
    ];

    /// The number that the operating system sees.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 64,
            Exit::Data => 65,
            Exit::NoInput => 66,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::Busy => 75,
            Exit::Config => 78,
            Exit::Interrupted => 130,
        }
    }

    /// What it means, for the help text and the manual.
    pub const fn describe(self) -> &'static str {
        match self {
            Exit::Ok => "done",
            Exit::Failure => "it was tried and failed, or a check came out negative",
            Exit::Usage => "the command line is wrong",
            Exit::Data => "the data to work on is wrong (an apply file, an event, a request)",
            Exit::NoInput => "a file to work on does not exist or cannot be read",
            Exit::Unavailable => "Redis or the API cannot be reached, or is not fit for use",
            Exit::Internal => "a bug: a part of the program ended that should not have",
            Exit::Busy => "another instance of the same name is running",
            Exit::Config => "the settings are wrong",
            Exit::Interrupted => "interrupted before it was done",
        }
    }

    /// The table as text, a line per code, for `--help`.
    pub fn table() -> String {
        let mut table = String::from("Exit codes:\n");
        for exit in Exit::ALL {
            table.push_str(&format!("{:>5}  {}\n", exit.code(), exit.describe()));
        }
        table
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code(), self.describe())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_in_order() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }

    #[test]
    fn the_table_has_a_line_for_every_code() {
        let table = Exit::table();
        assert_eq!(table.lines().count(), Exit::ALL.len() + 1);
        assert!(table.contains("   78  the settings are wrong\n"), "{table}");
    }
}
