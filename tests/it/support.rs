//! What the tests stand on.

// Not every test uses everything that a receiver can do.
#![allow(dead_code)]

pub mod dns;
pub mod receiver;
pub mod tls;
