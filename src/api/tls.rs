//! TLS of the API: a certificate and its key from files, which may be replaced while the daemon runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::ApiError;
use crate::logging::StateLog;
use crate::settings::ApiSettings;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The certificate in use.
pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
    /// What the files looked like when `config` was read from them.
    stamp: Option<Stamp>,
}

/// By what a changed file is told, for the certificate and the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp([(SystemTime, u64); 2]);

impl Tls {
    /// Reads the files that the settings name, if they name any.
    ///
    /// # Errors
    ///
    /// They cannot be used.
    pub(super) fn new(settings: &ApiSettings) -> Result<Option<Arc<Tls>>, ApiError> {
        let (Some(certificate), Some(key)) =
            (&settings.tls_certificate_file, &settings.tls_key_file)
        else {
            return Ok(None);
        };
        // Before the files: what changes while they are read is then seen as a change.
        let stamp = stamp_of(certificate, key).ok();
        let config = load(certificate, key).map_err(|reason| ApiError::Tls { reason })?;
        Ok(Some(Arc::new(Tls {
            certificate: certificate.clone(),
            key: key.clone(),
            config: ArcSwap::from(config),
            stamp,
        })))
    }

    /// For the next connection, with the certificate that is in use now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Reads the files again whenever they change. Connections keep what they began with. Files that cannot be used (one
    /// was replaced and the other not yet) leave the old certificate in use.
    pub(super) async fn follow(self: Arc<Tls>, shutdown: CancellationToken) {
        let state = StateLog::new("the API's certificate");
        let mut in_use = self.stamp;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let tls = self.clone();
            let looked = tokio::task::spawn_blocking(move || tls.look(in_use)).await;
            match looked {
                Ok(Ok(None)) => {
                    state.well();
                }
                Ok(Ok(Some((stamp, config)))) => {
                    self.config.store(config);
                    in_use = Some(stamp);
                    state.well();
                    tracing::info!("the API's certificate was replaced");
                }
                Ok(Err(reason)) => {
                    state.trouble("unusable", reason);
                }
                Err(error) => {
                    state.trouble("failed", error);
                }
            }
        }
    }

    fn look(&self, in_use: Option<Stamp>) -> Result<Option<(Stamp, Arc<ServerConfig>)>, String> {
        let stamp = stamp_of(&self.certificate, &self.key).map_err(|error| error.to_string())?;
        if Some(stamp) == in_use {
            return Ok(None);
        }
        let config = load(&self.certificate, &self.key)?;
        Ok(Some((stamp, config)))
    }
}

fn stamp_of(certificate: &Path, key: &Path) -> io::Result<Stamp> {
    let of = |path: &Path| -> io::Result<(SystemTime, u64)> {
        let metadata = std::fs::metadata(path)?;
        Ok((metadata.modified()?, metadata.len()))
    };
    Ok(Stamp([of(certificate)?, of(key)?]))
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| {
            format!(
                "api.tls_certificate_file: {}: {error}",
                certificate.display()
            )
        })?;
    if chain.is_empty() {
        let path = certificate.display();
        return Err(format!(
            "api.tls_certificate_file: {path}: holds no certificate"
        ));
    }
    let key_der = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("api.tls_key_file: {}: {error}", key.display()))?;
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| format!("api.tls_certificate_file and api.tls_key_file: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
