//! The management API, over HTTP.

mod deliveries;
mod guards;
mod jobs;
mod retries;
mod shelves;
mod tokens;
