//! The management API, over HTTP.

mod guards;
mod tokens;
