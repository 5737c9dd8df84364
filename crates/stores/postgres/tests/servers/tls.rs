//! TLS, in every mode that a URL can ask for.

use std::path::{Path, PathBuf};

use onlyonce_core::{Store as _, StoreErrorKind};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::{PASSWORD, Postgres, Setup, start_postgres, start_postgres_from};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::connecting::refused;
use crate::support::{assert_hides, bid, complete, connect, held, new_id, result_of, sql, win};

const TLS: &[&str] = &[
    "ssl=on",
    "ssl_cert_file=server.pem",
    "ssl_key_file=server.key",
];

/// An authority, and what it issues.
struct Authority {
    parameters: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            parameters,
            key: KeyPair::generate().unwrap(),
        }
    }

    fn write(&self, folder: &TempDir, name: &str) -> PathBuf {
        let file = folder.path().join(name);
        let certificate = self.parameters.self_signed(&self.key).unwrap();
        std::fs::write(&file, certificate.pem()).unwrap();
        file
    }

    /// A certificate for `localhost`, and its key.
    fn issue(&self, until: i32) -> (String, String) {
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(2001, 1, 1);
        parameters.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server with a certificate; `hba` says who is let in.
fn start(certificate: &(String, String), hba: &str) -> Postgres {
    start_postgres_from(&Setup {
        settings: TLS,
        files: &[
            ("server.pem", &certificate.0),
            ("server.key", &certificate.1),
            ("pg_hba.conf", hba),
        ],
        ..Setup::default()
    })
}

const ANYHOW: &str = "host all all 127.0.0.1/32 scram-sha-256\n";
const WITH_TLS: &str = "hostssl all all 127.0.0.1/32 scram-sha-256\n";
const WITHOUT_TLS: &str = "hostnossl all all 127.0.0.1/32 scram-sha-256\n";

fn options(mode: &str, roots: Option<&Path>) -> String {
    let mode = match mode {
        "" => String::new(),
        mode => format!("&sslmode={mode}"),
    };
    let roots = roots.map(|file| format!("&sslrootcert={}", file.display()));
    format!("?connect_timeout=10{mode}{}", roots.unwrap_or_default())
}

/// Connects, and says whether by TLS.
async fn is_encrypted(server: &Postgres, url: &str, name: &str) -> bool {
    let store = connect(&format!("{url}&application_name={name}")).await;
    let bid = bid(new_id());
    let lease = win(&store, &bid).await;
    let changes = store.watch(&bid.id).await.unwrap();
    complete(&store, &lease, "done").await;
    changes.await;
    assert_eq!(result_of(&held(&store, &bid).await), Some(&b"done"[..]));
    // Of all connections of the store, that which listens too.
    let asked = format!(
        "SELECT string_agg(DISTINCT ssl::text, ','), count(*) FROM pg_stat_ssl \
         JOIN pg_stat_activity USING (pid) WHERE application_name = '{name}'"
    );
    let rows = sql(&server.url(), &asked).await;
    match rows[0].as_deref() {
        Some("true") => true,
        Some("false") => false,
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn every_mode_encrypts_and_verifies_what_it_says() {
    let folder = TempDir::new().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let impostor = Authority::new("ours").write(&folder, "impostor.pem");
    let (right, wrong) = (
        ours.write(&folder, "ours.pem"),
        other.write(&folder, "other.pem"),
    );
    let server = start(&ours.issue(4000), ANYHOW);
    let port = server.port();
    let url = |host: &str, mode: &str, roots: Option<&Path>| {
        let options = options(mode, roots);
        format!("postgres://onlyonce:{PASSWORD}@{host}:{port}/postgres{options}")
    };
    // The certificate is for `localhost`.
    for (number, (host, mode, roots, encrypted)) in [
        ("127.0.0.1", "", None, true),
        ("127.0.0.1", "disable", None, false),
        ("127.0.0.1", "disable", Some(&wrong), false),
        ("127.0.0.1", "prefer", None, true),
        ("127.0.0.1", "prefer", Some(&wrong), true),
        ("127.0.0.1", "require", None, true),
        ("127.0.0.1", "require", Some(&right), true),
        ("127.0.0.1", "verify-ca", Some(&right), true),
        ("localhost", "verify-ca", Some(&right), true),
        ("localhost", "verify-full", Some(&right), true),
    ]
    .into_iter()
    .enumerate()
    {
        let url = url(host, mode, roots.map(PathBuf::as_path));
        let is = is_encrypted(&server, &url, &format!("mode-{number}")).await;
        assert_eq!(is, encrypted, "{number}: {mode} {host}");
    }
    let nowhere = folder.path().join("nowhere.pem");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (host, mode, roots, expected) in [
        (
            "127.0.0.1",
            "require",
            Some(&wrong),
            "none of the authorities",
        ),
        (
            "127.0.0.1",
            "verify-ca",
            Some(&wrong),
            "none of the authorities",
        ),
        (
            "localhost",
            "verify-full",
            Some(&wrong),
            "none of the authorities",
        ),
        (
            "localhost",
            "verify-full",
            Some(&impostor),
            "none of the authorities",
        ),
        ("127.0.0.1", "verify-full", Some(&right), "another host"),
        (
            "localhost",
            "verify-full",
            Some(&nowhere),
            "nowhere.pem can't be read",
        ),
        (
            "localhost",
            "verify-ca",
            Some(&empty),
            "holds no certificate",
        ),
        ("localhost", "allow", None, "`verify-full`"),
        ("localhost", "Require", None, "`verify-full`"),
    ] {
        let error = refused(&url(host, mode, roots.map(PathBuf::as_path))).await;
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
        let said = error.to_string();
        assert!(said.contains(expected), "{mode} {host}: {said}");
        assert_hides(&error, PASSWORD);
    }
    // The system's authorities know nothing of this one.
    let error = refused(&url("localhost", "verify-full", None)).await;
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_where_it_is_looked_at() {
    let folder = TempDir::new().unwrap();
    let ours = Authority::new("ours");
    let right = ours.write(&folder, "ours.pem");
    let server = start(&ours.issue(2002), ANYHOW);
    for mode in ["verify-ca", "verify-full"] {
        let options = options(mode, Some(&right));
        let host = format!("localhost:{}", server.port());
        let error = refused(&format!("{}{options}", server.url_by(&host))).await;
        assert!(error.to_string().contains("has expired"), "{mode}: {error}");
        assert_hides(&error, PASSWORD);
    }
    let url = format!("{}{}", server.url(), options("require", None));
    assert!(is_encrypted(&server, &url, "unlooked").await);
}

/// A server that lets nobody in without TLS, and one that lets nobody in with it.
#[tokio::test]
async fn what_the_server_does_not_let_in_is_said_so() {
    let ours = Authority::new("ours");
    let certificate = ours.issue(4000);
    let (with, without) = (
        start(&certificate, WITH_TLS),
        start(&certificate, WITHOUT_TLS),
    );
    for (server, mode) in [(&with, "disable"), (&without, "require")] {
        let url = format!("{}{}", server.url(), options(mode, None));
        for error in [
            refused(&url).await,
            PostgresStore::migrate(&url).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
            let said = error.to_string();
            assert!(
                said.contains("pg_hba.conf") && said.contains("`sslmode`"),
                "{said}"
            );
            assert_hides(&error, PASSWORD);
        }
    }
    for mode in ["", "prefer", "require"] {
        let url = format!("{}{}", with.url(), options(mode, None));
        let store = connect(&url).await;
        let _ = win(&store, &bid(new_id())).await;
    }
    let plain = format!("{}{}", without.url(), options("disable", None));
    assert!(!is_encrypted(&without, &plain, "plain").await);
}

#[tokio::test]
async fn a_server_without_tls_is_used_only_where_that_is_allowed() {
    let server = start_postgres();
    for mode in ["", "disable", "prefer"] {
        let url = format!("{}{}", server.url(), options(mode, None));
        assert!(
            !is_encrypted(&server, &url, &format!("plain-{mode}")).await,
            "{mode}"
        );
    }
    let folder = TempDir::new().unwrap();
    let roots = Authority::new("ours").write(&folder, "ours.pem");
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("{}{}", server.url(), options(mode, Some(&roots)));
        let error = refused(&url).await;
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
        assert!(
            error.to_string().contains("speaks no TLS"),
            "{mode}: {error}"
        );
        assert_hides(&error, PASSWORD);
    }
}
