//! Integration tests: everything over real sockets.

mod acl;
mod delivery;
mod dev;
mod faults;
mod http_client;
mod interop;
mod listen;
mod readme;
mod sources;
mod support;
