//! TLS on the listener, and trust towards upstreams.

mod acceptor;
mod trust;

pub use acceptor::{TlsAcceptor, TlsOptions};
pub use trust::{TrustOptions, client_config};

use std::path::PathBuf;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read, or is no PEM.
    #[error("{what} `{}` cannot be read: it must be a PEM file", path.display())]
    File {
        /// What it was to hold.
        what: &'static str,
        /// Where it lies.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("`{}` holds no certificate: expected `-----BEGIN CERTIFICATE-----`", path.display())]
    NoCertificate {
        /// Where it lies.
        path: PathBuf,
    },
    /// The certificate and the key don't fit each other, or can't be used.
    #[error("the certificate `{}` and the key `{}` cannot be used together", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A certificate authority's certificate can't be used.
    #[error("a certificate in `{}` cannot be used as an authority", path.display())]
    Authority {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The system has no certificate authorities and none were named.
    #[error(
        "no certificate authorities were found on this system: \
         install them (the package is often called ca-certificates) or name a file of them"
    )]
    NoAuthorities,
    /// The cryptography provider lacks a protocol version.
    #[error("TLS cannot be set up")]
    Protocol(#[source] rustls::Error),
}
