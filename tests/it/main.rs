//! Integration tests: everything over real sockets.

mod acl;
mod api;
mod attempts;
mod commands;
mod dead_letters;
mod delivery;
mod dev;
mod faults;
mod hasten;
mod history;
mod http_client;
mod idle;
mod instance;
mod interop;
mod lanes;
mod listen;
mod metrics;
mod model;
mod outcomes;
mod readme;
mod registry;
mod rotation;
mod shutdown;
mod sources;
mod support;
mod upgrade;
