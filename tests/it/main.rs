//! Integration tests: everything over real sockets.

mod commands;
mod http_client;
mod listen;
mod support;
