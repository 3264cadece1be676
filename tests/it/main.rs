//! Integration tests: everything over real sockets.

mod commands;
mod delivery;
mod dev;
mod faults;
mod http_client;
mod lanes;
mod listen;
mod outcomes;
mod registry;
mod sources;
mod support;
