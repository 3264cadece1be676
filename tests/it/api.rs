//! The management API, over HTTP.

mod guards;
