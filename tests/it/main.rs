//! Integration tests: everything over real sockets.

mod http_client;
mod listen;
mod support;
