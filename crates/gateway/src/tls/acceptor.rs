//! The server's side.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::TlsError;

/// The listener's certificate and key.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// PEM file with the certificate, followed by its intermediates.
    pub cert: PathBuf,
    /// PEM file with the private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Takes TLS connections: TLS 1.2 and 1.3, ALPN `h2` and `http/1.1`.
///
/// Cloning gives the same acceptor; a [`reload`](Self::reload) is seen by all clones.
#[derive(Clone)]
pub struct TlsAcceptor {
    inner: tokio_rustls::TlsAcceptor,
    current: Arc<Current>,
}

impl TlsAcceptor {
    /// Reads the files and checks that they belong together.
    ///
    /// # Errors
    /// When a file can't be read or the pair can't be used.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(load(options)?)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Protocol)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            inner: Arc::new(config).into(),
            current,
        })
    }

    /// Takes a new certificate and key for connections to come.
    ///
    /// # Errors
    /// As [`new`](Self::new); the old pair stays in use then.
    pub fn reload(&self, options: &TlsOptions) -> Result<(), TlsError> {
        self.replace(Self::read(options)?);
        Ok(())
    }

    /// Reads a certificate and its key, for [`replace`](Self::replace).
    pub(crate) fn read(options: &TlsOptions) -> Result<CertifiedKey, TlsError> {
        load(options)
    }

    pub(crate) fn replace(&self, pair: CertifiedKey) {
        self.current.0.store(Arc::new(pair));
    }

    #[cfg(test)]
    pub(crate) fn certificate(&self) -> Arc<CertifiedKey> {
        self.current.0.load_full()
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.inner.accept(stream).await
    }
}

impl std::fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn load(options: &TlsOptions) -> Result<CertifiedKey, TlsError> {
    let fault = |what, path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::File { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(&options.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(fault("the certificate", &options.cert))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate {
            path: options.cert.clone(),
        });
    }
    let key = PrivateKeyDer::from_pem_file(&options.key)
        .map_err(fault("the private key", &options.key))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|source| TlsError::Pair {
        cert: options.cert.clone(),
        key: options.key.clone(),
        source,
    })
}
