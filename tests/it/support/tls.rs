//! A certificate authority of the test's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

impl TlsFiles {
    /// What redis-server and sentinels call them.
    pub fn directives(&self) -> [(&'static str, &str); 3] {
        [
            ("tls-cert-file", &self.certificate),
            ("tls-key-file", &self.key),
            ("tls-ca-cert-file", &self.authority),
        ]
        .map(|(name, path)| (name, path.to_str().expect("a path in UTF-8")))
    }
}

/// An authority that nobody else trusts, made anew for each test.
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
    file: PathBuf,
}

/// A certificate, its key, and whom to trust, as PEM files that live as long as their authority.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl TestCa {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Pombo test authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a root certificate");
        let directory = TempDir::with_prefix("pombo-ca-").expect("a directory");
        let file = directory.path().join("authority.pem");
        std::fs::write(&file, issuer.pem()).expect("a written certificate");
        Self {
            issuer,
            directory,
            file,
        }
    }

    /// The root certificate, as PEM.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn signed(&self, names: &[&str]) -> (Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(names)
            .expect("valid names")
            .signed_by(&key, &self.issuer)
            .expect("a signed certificate");
        (certificate, key)
    }

    /// A certificate that this authority vouches for, and its key, as PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        let (certificate, key) = self.signed(names);
        (certificate.pem(), key.serialize_pem())
    }

    /// The same as files, for a program of its own.
    pub fn files(&self, names: &[&str]) -> TlsFiles {
        let (certificate, key) = self.issue(names);
        let write = |name: &str, text: String| {
            let path = self.directory.path().join(format!("{}{name}", names[0]));
            std::fs::write(&path, text).expect("a written file");
            path
        };
        TlsFiles {
            authority: self.file.clone(),
            certificate: write(".pem", certificate),
            key: write(".key", key),
        }
    }

    /// The settings of a client that trusts this authority alone.
    pub fn client_config(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root: &Certificate = self.issuer.as_ref();
        roots.add(root.der().clone()).expect("a root certificate");
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("the default protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// The settings of a server that this authority vouches for.
    pub fn server_config(&self, names: &[&str], alpn: &[&str]) -> Arc<ServerConfig> {
        let (certificate, key) = self.signed(names);
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("the default protocol versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .expect("a certificate that fits its key");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
