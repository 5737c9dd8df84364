//! What connecting finds out.

use std::error::Error as _;
use std::time::Duration;

use onlyonce_core::{StoreError, StoreErrorKind};
use onlyonce_near::Near;
use onlyonce_redis::{RedisStore, Warning};
use onlyonce_servers::redis::{
    Redis, start_cluster, start_cluster_member, start_redis_with, version,
};

use crate::near::until;
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

/// Commands that a user needs, as the documentation has them.
const NEEDED: &str = "+evalsha +eval +script|load +get +set +del +time +publish +subscribe \
                      +unsubscribe +scan +info +ping +role +hello +select";

/// Makes users of a server.
fn user(server: &Redis, name: &str, keys: &str, channels: &str, commands: &str) -> String {
    // The default of version 6.2 is all channels.
    let rules = format!("on >hunter2 {keys} resetchannels {channels} {commands}");
    let words = ["ACL", "SETUSER", name].into_iter();
    let words: Vec<_> = words.chain(rules.split_ascii_whitespace()).collect();
    server.client().expect_ok(&words);
    format!("redis://{name}:hunter2@{}", server.address())
}

/// A user who may do all that is needed, and one for each thing that is left out.
#[tokio::test]
async fn what_a_user_may_not_do_is_named_with_the_rule_that_allows_it() {
    let server = start_redis_with(&[]);
    let good = user(&server, "good", "~oo:*", "&oo:*", NEEDED);
    let near = Near::new(connect(&good).await, 1 << 20);
    until("the subscription", || near.is_connected()).await;
    let lease = win(&connect(&good).await, &bid(new_id())).await;
    complete(&connect(&good).await, &lease, "done").await;

    for without in NEEDED.split_ascii_whitespace() {
        // The first is for whoever has logged in already, the second for databases but the first.
        if ["+hello", "+select"].contains(&without) {
            continue;
        }
        let commands: Vec<_> = NEEDED.split(' ').filter(|one| *one != without).collect();
        let name = format!("without{}", without.replace(['|', '+'], "-"));
        let url = user(&server, &name, "~oo:*", "&oo:*", &commands.join(" "));
        misconfigured(&url, &format!("`{without}`")).await;
    }
    let commands = NEEDED.replace(" +select", "");
    let url = user(&server, "without-select", "~oo:*", "&oo:*", &commands);
    misconfigured(&format!("{url}/1"), "+select").await;
    let waiting = user(&server, "without-wait", "~oo:*", "&oo:*", NEEDED);
    misconfigured(
        &format!("{waiting}?replicas=1"),
        "run WAIT: add to its ACL `+wait`",
    )
    .await;
}

/// Each key and each channel of the store is tried out, under the prefix that it has.
#[tokio::test]
async fn keys_and_channels_out_of_reach_are_named() {
    let server = start_redis_with(&[]);
    for (name, keys, channels, expected) in [
        ("keys", "~other:*", "&oo:*", "`oo:{000}"),
        ("keys", "~other:*", "&oo:*", "add to its ACL `~oo:*`"),
        (
            "fences",
            "~oo:{*",
            "&oo:*",
            "GET `oo:fence`: add to its ACL `~oo:*`",
        ),
        (
            "void",
            "~oo:*",
            "&oo:{*",
            "PUBLISH on `oo:void`: add to its ACL `&oo:*`",
        ),
        ("records", "~oo:*", "&oo:void", "PUBLISH on `oo:{000}"),
        ("all", "~other:*", "&other:*", "`~oo:* &oo:*`"),
    ] {
        let url = user(&server, name, keys, channels, NEEDED);
        misconfigured(&url, expected).await;
        misconfigured(&format!("{url}?prefix=mine:"), "mine:*`").await;
    }
}

#[tokio::test]
async fn a_user_of_a_cluster_needs_its_commands_too() {
    let cluster = start_cluster();
    let also = if version() < 7 {
        "+cluster|slots +asking"
    } else {
        "+cluster|slots +asking +spublish +ssubscribe +sunsubscribe"
    };
    let url_of = |name: &str, commands: &str| {
        for server in &cluster.servers {
            user(server, name, "~oo:*", "&oo:*", commands);
        }
        let url = cluster.url();
        url.replace("://", &format!("://{name}:hunter2@"))
    };
    let all = format!("{NEEDED} {also}");
    let store = connect(&url_of("good", &all)).await;
    win(&store, &bid(new_id())).await;
    for without in also.split(' ') {
        let commands = all.replace(without, "");
        let name = format!("without{}", without.replace(['|', '+'], "-"));
        // Version 6.2 names no subcommands.
        let rule = without.split('|').next().unwrap();
        misconfigured(&url_of(&name, &commands), &format!("`{rule}")).await;
    }
    // One server is enough, whichever it is.
    let url = url_of("elsewhere", &all);
    user(&cluster.servers[2], "elsewhere", "~oo:*", "&other:*", &all);
    cluster.servers[2]
        .client()
        .expect_ok(&["ACL", "SETUSER", "elsewhere", "resetchannels"]);
    misconfigured(&url, &cluster.servers[2].address()).await;
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
    let member = start_cluster_member(&[]);
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
        store.warnings()
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
    let server = start_redis_with(&[
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
    // One side with TLS, and the other without.
    let plain = server.url().replace("redis://", "rediss://");
    for url in [plain, format!("redis://127.0.0.1:{port}")] {
        let error = refused(&url).await.to_string();
        assert!(error.contains("`rediss://`"), "{url}: {error}");
    }
}
