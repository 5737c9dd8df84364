//! Certificates made on the spot.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::Home;

/// A certificate for 127.0.0.1 that its own maker signed.
#[derive(Debug)]
pub struct SelfSigned {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The private key's file.
    pub key: PathBuf,
    der: CertificateDer<'static>,
}

impl SelfSigned {
    /// Makes one, and puts it into `home`.
    #[must_use]
    pub fn in_home(home: &Home) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (cert, key) = (home.path().join("cert.pem"), home.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self {
            cert,
            key,
            der: made.cert.der().clone(),
        }
    }

    /// Lines of `[tls]`.
    #[must_use]
    pub fn lines(&self) -> String {
        format!("cert = {:?}\nkey = {:?}", self.cert, self.key)
    }

    /// A client that trusts it alone, and offers these protocols.
    #[must_use]
    pub fn client(&self, protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        config
    }
}
