//! Integration tests: everything over real sockets.

mod dead_letters;
mod delivery;
mod dev;
mod faults;
mod http_client;
mod instance;
mod lanes;
mod listen;
mod metrics;
mod outcomes;
mod registry;
mod shutdown;
mod sources;
mod support;
