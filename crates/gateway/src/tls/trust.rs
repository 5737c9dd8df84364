//! The client's side.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{ServerName, UnixTime};

use super::TlsError;

/// Whom to trust.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrustOptions {
    /// Trust the system's certificate authorities. Default true.
    pub system: bool,
    /// PEM files of further authorities. Default none.
    pub authorities: Vec<PathBuf>,
    /// Take any certificate. For tests alone: anybody on the way can read and change what
    /// passes. Default false.
    pub insecure_skip_verify: bool,
}

impl Default for TrustOptions {
    fn default() -> Self {
        Self {
            system: true,
            authorities: Vec::new(),
            insecure_skip_verify: false,
        }
    }
}

/// A client's settings without ALPN.
///
/// # Errors
/// When a named file can't be used, or nobody would be trusted.
pub fn client_config(options: &TrustOptions) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    if options.insecure_skip_verify {
        tracing::warn!("certificates of https:// upstreams are not checked");
        let anybody = Arc::new(Anybody(Arc::clone(&provider)));
        return Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Protocol)?
            .dangerous()
            .with_custom_certificate_verifier(anybody)
            .with_no_client_auth());
    }
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
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Protocol)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Trusts whoever answers; signatures are still checked, so that the peer at least holds the key
/// of the certificate that it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
