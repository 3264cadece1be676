//! The commands' side of the management API: where it is, who asks, and what a refusal means for the command.

mod refusal;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use rustls::ClientConfig;
use serde_json::Value;
use url::{Host, Url};

use super::pretty::indent_json;
use super::progress::Output;
use super::trouble::Trouble;
use crate::api::TENANT_FIELD;
use crate::dispatch::http_client::tls::roots;
use crate::exit::Exit;
use crate::settings::{Secret, Settings};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take beyond the time that a request may take there.
const TIMEOUT_SLACK: Duration = Duration::from_secs(10);
/// The most of an answer that is read, in bytes: many times the largest that the API gives.
const MOST_READ: usize = 256 << 20;

/// The options of every command that asks the API.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of the API")]
pub struct ApiArgs {
    /// Where the API is; without a path, api.base_path of the settings follows [default: api.listen of the settings]
    #[arg(long, value_name = "URL", env = "POMBO_URL", hide_env_values = true)]
    pub url: Option<String>,

    /// The token. Others on this machine see command lines: POMBO_TOKEN and --token-file are the better choice
    #[arg(long, value_name = "TOKEN", env = "POMBO_TOKEN", hide_env_values = true, value_parser = secret)]
    pub token: Option<Secret>,

    /// A file that holds the token and nothing else; it goes before --token and POMBO_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// A PEM file with authorities that are trusted for the API beside the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// How to print the answer: for people, or as the API's own JSON
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// Reads an id of the command line, which becomes a part of a path.
///
/// # Errors
///
/// It can be no id.
pub fn id(text: &str) -> Result<String, &'static str> {
    match text {
        "" | "." | ".." => Err("it is no id"),
        _ if text.len() > 1024 => Err("it is too long for an id"),
        _ => Ok(text.to_owned()),
    }
}

/// A request to the API, as far as commands need one.
#[derive(Clone, Debug, Default)]
pub struct Ask<'a> {
    /// The parts of the path below the base path, not encoded.
    pub path: &'a [&'a str],
    /// The parameters, not encoded.
    pub query: Vec<(String, String)>,
    /// Headers beside those of every request.
    pub headers: Vec<(HeaderName, String)>,
    /// The body, if there is one.
    pub body: Option<Vec<u8>>,
}

impl<'a> Ask<'a> {
    /// A request for a path, and nothing else.
    pub fn of(path: &'a [&'a str]) -> Ask<'a> {
        Ask {
            path,
            ..Ask::default()
        }
    }

    /// With a parameter, if there is a value for it.
    pub fn with(mut self, name: &str, value: Option<impl ToString>) -> Ask<'a> {
        if let Some(value) = value {
            self.query.push((name.to_owned(), value.to_string()));
        }
        self
    }

    /// With a JSON body.
    pub fn body(mut self, body: &Value) -> Ask<'a> {
        self.body = Some(body.to_string().into_bytes());
        self
    }
}

/// An answer of success.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status, a 2xx.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null if there is none.
    pub json: Value,
}

impl Reply {
    /// The answer as it is, laid out over lines.
    pub fn pretty(&self) -> String {
        indent_json(&self.text, usize::MAX)
    }

    /// A member as text; empty if it is not there.
    pub fn text_of(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }
}

/// Whoever asks the API.
pub struct ApiClient {
    http: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
    /// What the tenant is called in bodies, queries and answers.
    pub tenant_field: String,
}

impl ApiClient {
    /// A client for what the command line says, and the settings where it says nothing.
    ///
    /// # Errors
    ///
    /// The URL, the token or a file of the command line is of no use.
    pub fn new(args: &ApiArgs, settings: &Settings) -> Result<ApiClient, Trouble> {
        let base = base(args, settings)?;
        let tls = tls(args)?;
        let timeout = settings.api.request_timeout + TIMEOUT_SLACK;
        let mut http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            // A token goes nowhere but where it was meant to.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("pombo/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| {
            Trouble::new(
                Exit::Failure,
                format!("cannot make an HTTP client: {error}"),
            )
        })?;
        Ok(ApiClient {
            http,
            base,
            token: token(args)?,
            tenant_field: settings.api.tenant_field.clone(),
        })
    }

    /// Whose thing it is that the API tells of. The daemon's settings may have another name for it than those here.
    pub fn tenant_of<'a>(&self, thing: &'a Value) -> &'a str {
        let named = |name: &str| thing[name].as_str();
        named(&self.tenant_field)
            .or_else(|| named(TENANT_FIELD))
            .unwrap_or_default()
    }

    /// Whether a member of an answer is the tenant.
    pub fn is_tenant_field(&self, name: &str) -> bool {
        name == self.tenant_field || name == TENANT_FIELD
    }

    /// Asks, and takes nothing but a 2xx for an answer.
    ///
    /// # Errors
    ///
    /// Says what the API says against it, or why it cannot be reached.
    pub async fn ask(&self, method: Method, ask: Ask<'_>) -> Result<Reply, Trouble> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(ask.path);
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        for (name, value) in &ask.headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| Trouble::new(Exit::Usage, format!("that cannot be sent as {name}")))?;
            request = request.header(name, value);
        }
        if let Some(body) = ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let away = |error: reqwest::Error| refusal::unreachable(&self.base, &error);
        let mut response = request.send().await.map_err(away)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if body.len() + chunk.len() > MOST_READ {
                return Err(Trouble::new(
                    Exit::Failure,
                    "the answer is larger than any of the API can be",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        self.understand(status, headers, body.freeze())
    }

    fn understand(
        &self,
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, Trouble> {
        let json = serde_json::from_slice::<Value>(&body).ok();
        if !status.is_success() {
            let known = self.token.is_some();
            return Err(refusal::refused(
                &self.base,
                status,
                &headers,
                json.as_ref(),
                known,
            ));
        }
        match (json, body.is_empty()) {
            (Some(json), _) => Ok(Reply {
                status,
                headers,
                text: String::from_utf8_lossy(&body).into_owned(),
                json,
            }),
            (None, true) => Ok(Reply {
                status,
                headers,
                text: String::new(),
                json: Value::Null,
            }),
            (None, false) => Err(refusal::foreign(&self.base, status)),
        }
    }
}

/// Where paths begin: a URL without query, fragment and credentials.
fn base(args: &ApiArgs, settings: &Settings) -> Result<Url, Trouble> {
    let api = &settings.api;
    let usage = |message: String| Trouble::new(Exit::Usage, message);
    let given = args.url.as_deref().filter(|url| !url.is_empty());
    let mut url = match given {
        Some(text) => {
            let url = Url::parse(text).map_err(|error| usage(format!("--url: {error}")))?;
            if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                return Err(usage(
                    "--url: it must begin with http:// or https://".into(),
                ));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(usage(
                    "--url: it has a user or a password in it, which nothing is done with".into(),
                ));
            }
            url
        }
        None if !api.enabled || api.listen.port() == 0 => {
            return Err(usage(
                "the settings do not say where the API is: give --url, or set POMBO_URL".into(),
            ));
        }
        None => {
            let scheme = match api.tls_certificate_file {
                Some(_) => "https",
                None => "http",
            };
            let mut address = api.listen;
            match address.ip() {
                // Listening everywhere includes here.
                IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip([127, 0, 0, 1].into()),
                IpAddr::V6(ip) if ip.is_unspecified() => {
                    address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
                }
                _ => {}
            }
            Url::parse(&format!("{scheme}://{address}"))
                .map_err(|error| usage(format!("api.listen: {error}")))?
        }
    };
    if url.path() == "/" {
        url.set_path(&api.base_path);
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn token(args: &ApiArgs) -> Result<Option<HeaderValue>, Trouble> {
    let token = match (&args.token_file, &args.token) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Trouble::new(
                    Exit::NoInput,
                    format!("cannot read the token in {}: {error}", file.display()),
                )
            })?;
            Some(Secret::new(text.trim()))
        }
        (None, token) => token.clone(),
    };
    let Some(token) = token.filter(|token| !token.expose().is_empty()) else {
        return Ok(None);
    };
    // The reason would quote it.
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| {
            Trouble::new(
                Exit::Usage,
                "the token has characters that no token has: it may be cut off, or have a line end within",
            )
        })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn tls(args: &ApiArgs) -> Result<ClientConfig, Trouble> {
    let roots = roots(args.ca_file.as_deref())
        .map_err(|error| Trouble::new(Exit::NoInput, error.to_string()))?;
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| Trouble::new(Exit::Internal, error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests;
