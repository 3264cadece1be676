//! How many deliveries a second Pombo makes on this machine, at what cost, and how that compares with the bare HTTP client.
//!
//! `scripts/bench [--quick] [--runs N] [--compare] [--accept] [--help] [SCENARIO...]`, or
//! `cargo bench --bench throughput -- ...`.
//!
//! Each run has a Redis of its own, daemons with their default settings as processes of their own, and a minimal receiver
//! as another. The bare client (a general HTTP client, the same requests and signatures, the same receiver, no Redis) is
//! measured in turn with them, so that every figure is also a ratio that survives a noisy machine.

#![allow(clippy::disallowed_methods, reason = "it measures time")]

mod accepted;
mod adder;
mod api_client;
mod bare;
mod counts;
mod deliver;
mod figures;
mod goals;
mod list;
mod measure;
mod options;
mod probe;
mod processes;
mod progress;
mod raw;
mod receiver;
mod report;
mod resp;
mod scenarios;
mod special;
mod usage;
mod world;

use std::process::ExitCode;

use options::{Options, Role};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    match options.role {
        Role::Tied => processes::become_tied(options.parent, &options.program),
        // One thread, as most receivers of one webhook: and the machine's other core is left to the others.
        Role::Receiver => block_on(
            tokio::runtime::Builder::new_current_thread(),
            receiver::run(options.tls.as_deref()),
        ),
        Role::Raw => block_on(
            tokio::runtime::Builder::new_multi_thread(),
            raw::run(options.raw),
        ),
        Role::Lead => {
            processes::end_with_cargo();
            block_on(
                tokio::runtime::Builder::new_current_thread(),
                measure::run(options),
            )
        }
    }
}

fn block_on(
    mut builder: tokio::runtime::Builder,
    work: impl Future<Output = ExitCode>,
) -> ExitCode {
    let runtime = builder.enable_all().build();
    runtime.expect("a runtime").block_on(work)
}
