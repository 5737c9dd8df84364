//! The client's side.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::TlsError;

/// Whom to trust.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrustOptions {
    /// Trust the system's certificate authorities. Default true.
    pub system: bool,
    /// PEM files of further authorities. Default none.
    pub authorities: Vec<PathBuf>,
}

impl Default for TrustOptions {
    fn default() -> Self {
        Self {
            system: true,
            authorities: Vec::new(),
        }
    }
}

/// A client's settings without ALPN.
///
/// # Errors
/// When a named file can't be used, or nobody would be trusted.
pub fn client_config(options: &TrustOptions) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    if options.system {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
    }
    for path in &options.authorities {
        let fault = |source| TlsError::File {
            what: "the certificate authority",
            path: path.clone(),
            source,
        };
        let certs = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(fault)?;
        if certs.is_empty() {
            return Err(TlsError::NoCertificate { path: path.clone() });
        }
        for cert in certs {
            roots.add(cert).map_err(|source| TlsError::Authority {
                path: path.clone(),
                source,
            })?;
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoAuthorities);
    }
    Ok(
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Protocol)?
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}
