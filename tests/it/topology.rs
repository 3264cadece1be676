//! Redis as more than one server.

mod cluster;
mod others;
mod replicas;
mod sentinel;
