//! URLs of Redis servers: which are accepted, and how one is shown without its password.

use url::Url;

/// What a Redis URL may be, in words.
pub(super) const ALLOWED: &str = "redis://[user:password@]host[:port][/database], the same with rediss:// for TLS, or \
     unix:///path/to/socket[?db=database]";

/// Says what is wrong with a URL, without repeating any of it.
pub(super) fn check(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| {
        format!(
            "is not a valid URL: {error} (special characters in a password must be percent-encoded; the key `password` \
             takes it as it is)"
        )
    })?;
    match url.scheme() {
        "redis" | "rediss" => check_tcp(&url),
        "unix" | "redis+unix" => check_unix(&url),
        "redis-sentinel" | "rediss-sentinel" | "redis+sentinel" | "sentinel" => {
            Err(
                "is one of Redis Sentinel, whose addresses are settings of their own: write redis:// or rediss://, \
                 redis.topology = \"sentinel\", and [redis.sentinel]"
                    .into(),
            )
        }
        "redis-cluster" | "rediss-cluster" | "redis+cluster" => {
            Err(
                "is one of Redis Cluster, which has no URL of its own: write redis:// or rediss://, and redis.topology = \
                 \"cluster\""
                    .into(),
            )
        }
        _ => Err("has a scheme that Pombo does not know".into()),
    }
}

fn check_tcp(url: &Url) -> Result<(), String> {
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".into());
    }
    if url.fragment().is_some() {
        return Err(
            "has a `#` in it: certificates are always verified (see ca_file), and in a password it must be written %23"
                .into(),
        );
    }
    if url.query().is_some() {
        return Err("has a `?` in it, which means nothing for this kind of URL".into());
    }
    let path = url.path().trim_start_matches('/');
    if !path.is_empty() && !is_database(path) {
        return Err("has a path that is not the number of a database (0 to 65535)".into());
    }
    check_credentials(url.username(), url.password())
}

fn check_unix(url: &Url) -> Result<(), String> {
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err("names a host: write three slashes before the socket's path".into());
    }
    if url.path().len() < 2 {
        return Err("names no socket".into());
    }
    if url.fragment().is_some() {
        return Err("has a `#` in it, which must be written %23".into());
    }
    for (name, value) in url.query_pairs() {
        match &*name {
            "db" if is_database(&value) => {}
            "db" => return Err("has a db that is not a number from 0 to 65535".into()),
            "user" | "pass" => {}
            _ => return Err("has a parameter other than db, user and pass".into()),
        }
    }
    let parameter = |wanted| url.query_pairs().find(|(name, _)| name == wanted);
    let user = parameter("user").map(|(_, value)| value);
    let password = parameter("pass").map(|(_, value)| value);
    check_credentials(user.as_deref().unwrap_or_default(), password.as_deref())
}

fn check_credentials(user: &str, password: Option<&str>) -> Result<(), String> {
    match password {
        Some("") => Err("has an empty password".into()),
        // Without a password nobody would be logged in, and everything done as the default user.
        None if !user.is_empty() => Err(
            "has a user without a password (write user:password@, or give the keys username and password)".into(),
        ),
        _ => Ok(()),
    }
}

fn is_database(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// What a valid URL says beside its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) tls: bool,
    pub(super) user: bool,
    pub(super) password: bool,
    pub(super) database: bool,
    /// Whether that database is another than number 0.
    pub(super) other_database: bool,
    pub(super) unix: bool,
}

/// Takes a URL apart; `None` if it is not valid.
pub(super) fn parts(text: &str) -> Option<Parts> {
    check(text).ok()?;
    let url = Url::parse(text).ok()?;
    let parameter = |wanted| url.query_pairs().any(|(name, _)| name == wanted);
    let unix = matches!(url.scheme(), "unix" | "redis+unix");
    let database = if unix {
        let given = url.query_pairs().find(|(name, _)| name == "db");
        given.map(|(_, number)| number.into_owned())
    } else {
        let path = url.path().trim_start_matches('/');
        (!path.is_empty()).then(|| path.to_owned())
    };
    Some(Parts {
        tls: url.scheme() == "rediss",
        user: !url.username().is_empty() || parameter("user"),
        password: url.password().is_some() || parameter("pass"),
        database: database.is_some(),
        other_database: database.is_some_and(|number| number.parse() != Ok(0u16)),
        unix,
    })
}

/// The URL with `***` in place of its password. One that cannot be read is hidden altogether.
pub fn redacted(text: &str) -> String {
    const HIDDEN: &str = "***";
    let Some(parts) = parts(text) else {
        return "<hidden>".into();
    };
    if !parts.password {
        return text.to_owned();
    }
    let Ok(mut url) = Url::parse(text) else {
        return "<hidden>".into();
    };
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return "<hidden>".into();
    }
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if pairs.iter().any(|(name, _)| name == "pass") {
        url.query_pairs_mut()
            .clear()
            .extend_pairs(pairs.iter().map(|(name, value)| {
                let shown = if name == "pass" { HIDDEN } else { value };
                (name, shown)
            }));
    }
    url.into()
}
