//! The client library's own client, out of the settings: for the address that they name, or for any other with the same
//! login and TLS.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
};

use crate::settings::{RedisServer, RedisSettings, SentinelSettings};
use crate::store::error::StoreError;

/// Host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// How servers are connected to: login, TLS and timeouts. Of an address of its own it knows that of the settings.
#[derive(Clone)]
pub(super) struct Door {
    info: ConnectionInfo,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
}

fn denied(detail: String) -> StoreError {
    StoreError::Denied {
        operation: "set up the connection",
        detail,
    }
}

impl Door {
    /// To `server`, with the timeouts of `redis`.
    pub fn new(server: &RedisServer, redis: &RedisSettings) -> Result<Door, StoreError> {
        Ok(Door {
            info: client(server)?.get_connection_info().clone(),
            connect_timeout: redis.connect_timeout,
            response_timeout: redis.response_timeout,
        })
    }

    /// The same way to connect, with the login of the sentinels.
    pub fn of_sentinels(&self, sentinels: &SentinelSettings) -> Door {
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(username) = &sentinels.username {
            login = login.set_username(username);
        }
        if let Some(password) = &sentinels.password {
            login = login.set_password(password.expose());
        }
        Door {
            info: self.info.clone().set_redis_settings(login),
            ..self.clone()
        }
    }

    /// The address of the settings; `None` for a unix socket.
    pub fn address(&self) -> Option<Address> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Address {
                    host: host.clone(),
                    port: *port,
                })
            }
            _ => None,
        }
    }

    /// Whether the connections are by TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// A client of the server at `address`, or of that of the settings.
    pub fn client(&self, address: Option<&Address>) -> Result<Client, StoreError> {
        let info = match address {
            None => self.info.clone(),
            Some(Address { host, port }) => {
                let addr = match self.info.addr() {
                    ConnectionAddr::TcpTls {
                        insecure,
                        tls_params,
                        ..
                    } => ConnectionAddr::TcpTls {
                        host: host.clone(),
                        port: *port,
                        insecure: *insecure,
                        tls_params: tls_params.clone(),
                    },
                    _ => ConnectionAddr::Tcp(host.clone(), *port),
                };
                self.info.clone().set_addr(addr)
            }
        };
        Client::open(info).map_err(|error| {
            let category = error.category();
            denied(format!(
                "the connection settings are not usable ({category})"
            ))
        })
    }

    /// A connection of its own to the server at `address`, or to that of the settings.
    pub async fn connect(
        &self,
        address: Option<&Address>,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(response_timeout));
        self.client(address)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| at(address, StoreError::from_redis("connect", &error)))
    }
}

/// The error with the server that it is about, where there are several.
pub(super) fn at(address: Option<&Address>, error: StoreError) -> StoreError {
    match (address, error) {
        (Some(address), StoreError::Unavailable { operation, detail }) => StoreError::Unavailable {
            operation,
            detail: format!("{address}: {detail}"),
        },
        (Some(address), StoreError::Denied { operation, detail }) => StoreError::Denied {
            operation,
            detail: format!("{address}: {detail}"),
        },
        (_, error) => error,
    }
}

fn client(server: &RedisServer) -> Result<Client, StoreError> {
    // The library's own error could quote the URL, which may hold a password.
    let mut info: ConnectionInfo = server
        .url
        .expose()
        .into_connection_info()
        .map_err(|error| denied(format!("redis.url is not usable ({})", error.category())))?;
    let mut login = info.redis_settings().clone();
    if let Some(username) = &server.username {
        login = login.set_username(username);
    }
    if let Some(password) = &server.password {
        login = login.set_password(password.expose());
    }
    if let Some(database) = server.database {
        login = login.set_db(database);
    }
    info = info.set_redis_settings(login.set_lib_name("pombo", env!("CARGO_PKG_VERSION")));
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|error| denied(format!("cannot read {}: {error}", path.display())))
    };
    let root_cert = server.ca_file.as_deref().map(read).transpose()?;
    let client_tls = match (&server.client_certificate_file, &server.client_key_file) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read(certificate)?,
            client_key: read(key)?,
        }),
        _ => None,
    };
    let opened = if root_cert.is_some() || client_tls.is_some() {
        Client::build_with_tls(
            info,
            TlsCertificates {
                client_tls,
                root_cert,
            },
        )
    } else {
        Client::open(info)
    };
    opened.map_err(|error| {
        denied(format!(
            "the connection settings are not usable ({})",
            error.category()
        ))
    })
}
