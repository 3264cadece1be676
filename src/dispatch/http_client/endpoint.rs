//! Where requests go: a URL, taken apart once for all requests to it.

use std::sync::Arc;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Uri};

/// A webhook's URL, and what a request needs of it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    uri: Uri,
    /// The path with its query, as HTTP/1.1 sends it.
    origin_form: Uri,
    /// The `host` header; `None` for a URL that names no host, which no connection is made for.
    host: Option<HeaderValue>,
    /// Scheme, host and port: requests to the same origin can share connections.
    origin: Arc<str>,
}

impl Endpoint {
    /// Takes `uri` apart: an absolute `http` or `https` URL without credentials. Any other cannot be called, which its
    /// requests will say.
    pub fn new(uri: Uri) -> Endpoint {
        let path = path_of(&uri);
        let uri = with_path(uri, path.clone());
        let named = uri.host().filter(|host| !host.is_empty());
        // As HTTP has it: the port where it is not the scheme's own.
        let usual_port = if is_secure(&uri) { 443 } else { 80 };
        let port = uri.port_u16().filter(|port| *port != usual_port);
        let authority = match (named.unwrap_or_default(), port) {
            (host, None) => host.to_owned(),
            (host, Some(port)) => format!("{host}:{port}"),
        };
        Endpoint {
            origin: Arc::from(format!("{}://{authority}", uri.scheme_str().unwrap_or(""))),
            host: named.and_then(|_| HeaderValue::try_from(authority).ok()),
            origin_form: Uri::from(path),
            uri,
        }
    }

    /// The whole URL.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn origin_form(&self) -> &Uri {
        &self.origin_form
    }

    /// The same as text.
    pub(super) fn path(&self) -> &str {
        self.origin_form
            .path_and_query()
            .map_or("/", PathAndQuery::as_str)
    }

    pub(super) fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    pub(super) fn origin(&self) -> &Arc<str> {
        &self.origin
    }
}

/// The path with its query. Of `https://a.example?b=c` that is `/?b=c`: the path is empty, and HTTP has none that is.
fn path_of(uri: &Uri) -> PathAndQuery {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    // What was one without a slash is one with it.
    whole
        .try_into()
        .unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

/// `uri` with another path.
fn with_path(uri: Uri, path: PathAndQuery) -> Uri {
    let mut parts = uri.clone().into_parts();
    if parts.scheme.is_none() {
        return uri;
    }
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).unwrap_or(uri)
}

/// Whether requests to `uri` go over TLS.
pub(super) fn is_secure(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_as_http_has_it() {
        for (url, path, host, origin) in [
            ("http://a.example", "/", "a.example", "http://a.example"),
            (
                "http://a.example:80/x",
                "/x",
                "a.example",
                "http://a.example",
            ),
            (
                "https://a.example?y=1",
                "/?y=1",
                "a.example",
                "https://a.example",
            ),
            (
                "https://a.example:80/x?y=1",
                "/x?y=1",
                "a.example:80",
                "https://a.example:80",
            ),
            (
                "https://a.example:443/",
                "/",
                "a.example",
                "https://a.example",
            ),
            (
                "http://[::1]:8080/?q",
                "/?q",
                "[::1]:8080",
                "http://[::1]:8080",
            ),
        ] {
            let endpoint = Endpoint::new(url.parse().unwrap());
            assert_eq!(endpoint.path(), path, "{url}");
            assert_eq!(endpoint.origin_form().to_string(), path, "{url}");
            assert_eq!(endpoint.uri().path_and_query().unwrap().as_str(), path);
            assert_eq!(endpoint.host().unwrap(), host, "{url}");
            assert_eq!(&**endpoint.origin(), origin, "{url}");
        }
        assert!(Endpoint::new("/no-host".parse().unwrap()).host().is_none());
    }
}
