//! The `pombo` command: parses its arguments, runs one command, and exits with that command's code.

use std::process::ExitCode;

use pombo::cli;

/// Deliveries are many small pieces of memory that one thread takes and another gives back, which the system's own
/// allocator is slow at (`scripts/bench one hundred` tells). Without huge pages: a few bytes in use would keep two
/// megabytes of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(std::env::args_os()).into()
}
