//! The `pombo` command: parses its arguments, runs one command, and exits with that command's code.

use std::process::ExitCode;

use pombo::cli;

fn main() -> ExitCode {
    cli::main(std::env::args_os()).into()
}
