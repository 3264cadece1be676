//! The management API, over HTTP.

mod deliveries;
mod docs;
mod guards;
mod jobs;
mod retries;
mod schemathesis;
mod shelves;
mod tokens;
