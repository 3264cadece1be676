//! Redis as more than one server.

mod cluster;
mod guarded;
mod others;
mod replicas;
mod sentinel;
