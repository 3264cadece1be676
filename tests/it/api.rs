//! The management API, over HTTP.

mod auth;
mod cli;
mod deliveries;
mod docs;
mod guards;
mod ingest;
mod isolation;
mod jobs;
mod platforms;
mod retries;
mod schemathesis;
mod shelves;
mod test_delivery;
mod tokens;
mod webhooks;
