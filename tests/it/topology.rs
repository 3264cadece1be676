//! Redis as more than one server.

mod cluster;
mod sentinel;
