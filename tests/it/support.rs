//! What the tests stand on.

// Not every test uses everything that a receiver can do.
#![allow(dead_code)]

pub mod api;
pub mod cluster;
pub mod dns;
pub mod jwt;
pub mod pombo;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod sentinel;
pub mod tls;
pub mod wait;
