//! Integration tests: everything over real sockets.

mod delivery;
mod dev;
mod http_client;
mod listen;
mod support;
