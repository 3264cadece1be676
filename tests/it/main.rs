//! Integration tests: everything over real sockets.

mod acl;
mod commands;
mod delivery;
mod dev;
mod faults;
mod http_client;
mod interop;
mod lanes;
mod listen;
mod outcomes;
mod readme;
mod registry;
mod sources;
mod support;
