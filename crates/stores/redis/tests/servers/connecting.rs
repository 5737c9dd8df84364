//! What connecting finds out.

use std::error::Error as _;
use std::time::Duration;

use onlyonce_core::{StoreError, StoreErrorKind};
use onlyonce_redis::{RedisStore, Warning};
use onlyonce_servers::redis::{Redis, start_redis_with};

use crate::support::{bid, complete, connect, new_id, open, win};

async fn refused(url: &str) -> StoreError {
    let builder = RedisStore::builder(url).timeout(Duration::from_secs(2));
    let error = builder.connect().await.expect_err("it should be refused");
    let all = format!("{error} {error:?} {:?}", error.source());
    assert!(!all.contains("hunter2"), "hazard 34: {all}");
    error
}

async fn misconfigured(url: &str, expected: &str) {
    let error = refused(url).await;
    assert_eq!(
        error.kind(),
        StoreErrorKind::Misconfigured,
        "{url}: {error}"
    );
    assert!(error.to_string().contains(expected), "{url}: {error}");
}

#[tokio::test]
async fn wrong_passwords_and_databases_are_named() {
    let server = start_redis_with(&["--requirepass", "right"]);
    let at = server.address();
    misconfigured(&format!("redis://{at}"), "password").await;
    misconfigured(&format!("redis://:hunter2@{at}"), "password").await;
    misconfigured(&format!("redis://nobody:hunter2@{at}"), "password").await;
    misconfigured(&format!("redis://:right@{at}/99"), "database").await;
    let store = connect(&format!("redis://:right@{at}/3")).await;
    win(&store, &bid(new_id())).await;
    assert!(!format!("{store:?}").contains("right"));
}

/// A user who may do all that is needed, and one for each thing that is left out.
#[tokio::test]
async fn missing_permissions_are_named() {
    const NEEDED: &str = "+evalsha +eval +script|load +get +set +del +time +publish +subscribe \
                          +unsubscribe +scan +info +ping +hello +select +wait";
    let server = start_redis_with(&[]);
    let mut client = server.client();
    let mut user = |name: &str, keys: &str, channels: &str, commands: &str| {
        let mut words = vec!["ACL", "SETUSER", name, "on", ">hunter2", keys, channels];
        words.extend(commands.split_ascii_whitespace());
        client.expect_ok(&words);
        format!("redis://{name}:hunter2@{}", server.address())
    };
    let good = user("good", "~oo:*", "&oo:*", NEEDED);
    let store = connect(&good).await;
    let lease = win(&store, &bid(new_id())).await;
    complete(&store, &lease, "done").await;

    let keys = user("keys", "~other:*", "&oo:*", NEEDED);
    misconfigured(&keys, "ACL").await;
    let channels = user("channels", "~oo:*", "&other:*", NEEDED);
    misconfigured(&channels, "ACL").await;
    for without in [
        "evalsha",
        "script|load",
        "set",
        "publish",
        "subscribe",
        "scan",
        "info",
    ] {
        let commands = NEEDED.replace(&format!("+{without} "), "");
        let name = format!("without-{}", without.replace('|', "-"));
        let url = user(&name, "~oo:*", "&oo:*", &commands);
        misconfigured(&url, "ACL").await;
    }
}

#[tokio::test]
async fn servers_of_the_wrong_kind_are_named() {
    let server = start_redis_with(&[]);
    let at = server.address();
    misconfigured(&format!("redis+cluster://{at}"), "no Cluster").await;
    misconfigured(&format!("redis+sentinel://{at}/main"), "Redis at").await;
    let port = server.port().to_string();
    let replica = start_redis_with(&["--replicaof", "127.0.0.1", &port]);
    misconfigured(&replica.url(), "is a replica").await;
    let bus = onlyonce_servers::Port::take();
    let bus = bus.number().to_string();
    let member = start_redis_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    misconfigured(&member.url(), "redis+cluster://").await;
}

#[tokio::test]
async fn servers_that_are_not_there_are_unavailable() {
    let port = onlyonce_servers::Port::take();
    for url in [
        format!("redis://127.0.0.1:{}", port.number()),
        format!("redis+sentinel://127.0.0.1:{}/main", port.number()),
        format!("redis+cluster://127.0.0.1:{}", port.number()),
    ] {
        let error = refused(&url).await;
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{url}: {error}");
    }
}

#[tokio::test]
async fn what_would_lose_records_is_warned_of() {
    let warnings = async |server: &Redis| {
        let store = connect(&server.url()).await;
        store.warnings().to_vec()
    };
    let server = start_redis_with(&["--maxmemory-policy", "allkeys-lru"]);
    let found = warnings(&server).await;
    assert!(
        matches!(&found[..], [Warning::Evicting { policy, .. }, Warning::NotPersistent { .. }] if &**policy == "allkeys-lru"),
        "{found:?}"
    );
    let mut client = server.client();
    client.expect_ok(&["CONFIG", "SET", "save", "3600 1"]);
    client.expect_ok(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let found = warnings(&server).await;
    assert!(
        matches!(&found[..], [Warning::SnapshotsOnly { .. }]),
        "{found:?}"
    );
    client.expect_ok(&["CONFIG", "SET", "appendonly", "yes"]);
    let found = warnings(&server).await;
    assert!(
        matches!(&found[..], [Warning::FlushedLate { .. }]),
        "{found:?}"
    );
    client.expect_ok(&["CONFIG", "SET", "appendfsync", "always"]);
    assert_eq!(warnings(&server).await, []);
    for warning in found {
        assert!(warning.to_string().contains(&server.address()));
    }
}

/// Over TLS, with an authority of our own: with its certificate the server is believed, without
/// it is not.
#[tokio::test]
async fn tls_with_an_authority_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path.display().to_string()
    };
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&parameters, &authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    // An issuer and a subject of the same name would look like one and the same.
    let name = rcgen::DnType::CommonName;
    parameters.distinguished_name.push(name, "the server");
    let certificate = parameters.signed_by(&key, &issuer).unwrap();
    let ca_file = file("ca.pem", &authority.pem());
    let cert_file = file("cert.pem", &certificate.pem());
    let key_file = file("key.pem", &key.serialize_pem());
    let tls_port = onlyonce_servers::Port::take();
    let port = tls_port.number().to_string();
    let _server = start_redis_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert_file,
        "--tls-key-file",
        &key_file,
        "--tls-ca-cert-file",
        &ca_file,
    ]);
    let base = format!("rediss://localhost:{port}");
    let with_authority = format!("{base}?ca_file={ca_file}");
    let both = format!("{with_authority}&cert_file={cert_file}&key_file={key_file}");
    let store = open(RedisStore::builder(&both).timeout(Duration::from_secs(10))).await;
    let lease = win(&store, &bid(new_id())).await;
    complete(&store, &lease, "done").await;

    // The server asks for a certificate, and does not know this authority's.
    assert!(!refused(&with_authority).await.to_string().is_empty());
    misconfigured(&format!("{base}?cert_file={cert_file}"), "`key_file`").await;
    misconfigured(&format!("{base}?ca_file=/nowhere"), "/nowhere").await;
    assert!(!refused(&base).await.to_string().is_empty());
}
