//! The management API, over HTTP.

mod deliveries;
mod guards;
mod ingest;
mod jobs;
mod retries;
mod shelves;
mod test_delivery;
mod tokens;
mod webhooks;
