//! The client library's own client, out of the settings.

use std::path::Path;

use redis::{Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::settings::RedisServer;
use crate::store::error::StoreError;

pub(super) fn client(server: &RedisServer) -> Result<Client, StoreError> {
    let denied = |detail: String| StoreError::Denied {
        operation: "set up the connection",
        detail,
    };
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
