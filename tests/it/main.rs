//! Integration tests: everything over real sockets.

mod delivery;
mod dev;
mod faults;
mod http_client;
mod listen;
mod sources;
mod support;
