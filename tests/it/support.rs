//! What the tests stand on.

// Not every test uses everything that a receiver can do, and the chaos suite shares what it needs.
#![allow(dead_code, unused_imports)]

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
