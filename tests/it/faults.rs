//! Crashes and faults: whatever is killed, cut, filled or lost, no delivery is.

mod crash_points;
mod group;
mod kill;
pub mod ledger;
mod memory;
mod replies;
mod scripts;
mod server;
mod takeover;
