//! The management API, over HTTP.

mod guards;
mod ingest;
mod test_delivery;
mod webhooks;
