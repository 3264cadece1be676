//! The TLS settings of deliveries: the system's roots, and those of an extra file.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::HttpClientError;

/// Hosts whose TLS sessions are remembered, so that a new connection to them needs no full handshake.
const REMEMBERED_SESSIONS: usize = 4096;

/// Trusts the system's roots and those of `extra_ca` (PEM), and offers HTTP/2 before HTTP/1.1.
pub(super) fn config(extra_ca: Option<&Path>) -> Result<Arc<ClientConfig>, HttpClientError> {
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(extra_ca)?)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(REMEMBERED_SESSIONS);
    Ok(Arc::new(config))
}

/// The system's roots and those of `extra_ca` (PEM).
pub(crate) fn roots(extra_ca: Option<&Path>) -> Result<RootCertStore, HttpClientError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = extra_ca {
        add_file(&mut roots, path)?;
    }
    if roots.is_empty() {
        tracing::warn!(
            errors = ?system.errors,
            "the system has no root certificates: no https subscriber can be trusted (install ca-certificates, or set targets.ca_file)"
        );
    }
    Ok(roots)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), HttpClientError> {
    let unreadable = |reason: String| HttpClientError::ReadCa {
        path: path.to_owned(),
        reason,
    };
    let before = roots.len();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.len() == before {
        return Err(HttpClientError::EmptyCa {
            path: path.to_owned(),
        });
    }
    Ok(())
}
