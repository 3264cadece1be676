//! Integration tests: everything over real sockets.

mod acl;
mod delivery;
mod dev;
mod http_client;
mod interop;
mod listen;
mod readme;
mod support;
