//! The management API, over HTTP.

mod docs;
mod guards;
mod schemathesis;
