//! What users see of their settings, and what settings come to.

use std::fmt::Write as _;
use std::time::Duration;

use http::Method;
use onlyonce_core::{Concurrent, Policy, Profile};
use proptest::prelude::*;

use super::env::CONFIG;
use super::names::Catalog;
use super::schema::schema;
use super::*;
use crate::front::FrontOptions;
use crate::proxy::ProxyOptions;
use crate::upstream::UpstreamOptions;

/// Sources with a file of this content, called `onlyonce.toml` in all messages.
struct Given {
    folder: tempfile::TempDir,
    sources: Sources,
}

impl Given {
    fn nothing() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            sources: Sources::none(),
        }
    }

    fn file(content: impl AsRef<[u8]>) -> Self {
        let mut given = Self::nothing();
        given.sources = given.sources.with_text("onlyonce.toml", content.as_ref());
        given
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources = self.sources.with_variable(name, value);
        self
    }

    fn flag(mut self, flag: Flag, value: &str) -> Self {
        self.sources = self.sources.with_flag(flag, value);
        self
    }

    fn upstream(self) -> Self {
        self.flag(Flag::Upstream, "http://127.0.0.1:3000")
    }

    fn settings(&self) -> Settings {
        match Settings::load(&self.sources) {
            Ok((settings, _)) => settings,
            Err(errors) => panic!("{errors}"),
        }
    }

    /// All that is said, without the folder's name.
    fn messages(&self) -> String {
        let said = match Settings::load(&self.sources) {
            Ok((_, warnings)) => {
                let warnings: Vec<String> = warnings.iter().map(Warning::to_string).collect();
                warnings.join("\n\n")
            }
            Err(errors) => errors.to_string(),
        };
        let folder = format!("{}/", self.folder.path().display());
        said.replace(&folder, "")
    }
}

const UPSTREAM: &str = "upstream = [\"http://127.0.0.1:3000\"]\n";
/// Keeps the warning about anonymous callers out.
const QUIET: &str = "idempotency.anonymous = \"share\"\n";

/// Each of these files with all that is said of it.
fn gallery(files: &[&str]) -> String {
    let mut out = String::new();
    for file in files {
        let content = if file.contains("upstream") {
            (*file).to_owned()
        } else {
            format!("{UPSTREAM}{file}")
        };
        let said = Given::file(content).messages();
        let shown = file.replace('\u{1b}', "\\u{1b}");
        let _ = writeln!(out, "──── {shown}\n{said}\n");
    }
    out
}

/// Compares without the long expression in the snapshot's head.
macro_rules! snapshot {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!($text);
        })
    };
}

#[test]
fn unknown_settings() {
    snapshot!(gallery(&[
        "[idempotency]\nlifetme = \"24h\"\n",
        "[idempotency]\nwait-timeout = \"24h\"\n",
        "[idempotency]\ncolour = \"red\"\n",
        "[idempotency]\nvalidate = { min-lenth = 3 }\n",
        "lisen = \"127.0.0.1:80\"\n",
        "lifetime = \"24h\"\n",
        "[admin]\nupstream = [\"http://127.0.0.1:3000\"]\n",
        "[limit]\nmax_headers = 3\n",
        "[idempotencey]\n",
        "[cors]\norigins = [\"*\"]\n",
        "[[route]]\npath = \"/a\"\nmethod = [\"POST\"]\n",
        "[[route]]\npath = \"/a\"\nidempotency = { profil = \"payments\" }\n",
    ]));
}

#[test]
fn wrong_values() {
    snapshot!(gallery(&[
        "[admin]\nhosts = [\"http://gateway:9090\"]\n",
        "[admin]\nhosts = [\"my gateway\"]\n",
        "[idempotency]\nlease = 10\n",
        "[idempotency]\nlease = \"10\"\n",
        "[idempotency]\nlease = \"10 parsecs\"\n",
        "[idempotency]\nlease = \"soon\"\n",
        "[idempotency]\nlifetime = \"99999999d\"\n",
        "[idempotency]\nlifetime = 1979-05-27\n",
        "[idempotency]\nlifetime = 1.5\n",
        "[idempotency]\nbuffer = \"64K\"\n",
        "[idempotency]\nbuffer = \"64\"\n",
        "[idempotency]\nbuffer = -1\n",
        "[idempotency]\nbuffer = \"99999999TiB\"\n",
        "[idempotency]\nprofile = \"payment\"\n",
        "[idempotency]\nprofile = \"acme\"\n",
        "[idempotency]\nprofile = true\n",
        "[idempotency]\nrequired = \"yes\"\n",
        "[idempotency]\nmax_waiters = \"64\"\n",
        "[idempotency]\nmax_waiters = -1\n",
        "[idempotency]\nmax_waiters = 99999999999999999999\n",
        "[idempotency]\nheaders = \"Idempotency-Key\"\n",
        "[idempotency]\nheaders = [\"Idempotency-Key\", \"Not A Header\"]\n",
        "[idempotency]\nmethods = [\"POST\", \"patch\"]\n",
        "[idempotency]\nscope = \"header\"\n",
        "[idempotency]\nscope = \"tenant\"\n",
        "[idempotency]\nvalidate = \"uid\"\n",
        "[idempotency]\nvalidate = { min-length = 0 }\n",
        "[idempotency]\nvalidate = { min-length = 3, length = 4 }\n",
        "[idempotency]\nfingerprint = \"jason\"\n",
        "[idempotency]\nfingerprint = { body = \"jason\", headers = [3] }\n",
        "[idempotency]\nstore = \"most\"\n",
        "[idempotency]\nstore = [200, \"404-400\"]\n",
        "[idempotency]\nstore = [2000]\n",
        "[idempotency]\nmismatch_status = \"400\"\n",
        "[idempotency]\nmax_in_progress = \"none\"\n",
        "[idempotency]\nkeep_headers = \"none\"\n",
        "[idempotency]\nreplay_header = false\n",
        "[idempotency]\ndocs_url = \"https://example.com/#x\"\n",
        "[idempotency]\nlease = [\n  \"10s\",\n]\n",
        "idempotency = \"payments\"\n",
        "route = [\"/a\"]\n",
        "[[route]]\npath = \"v1/x\"\n",
        "[[route]]\npath = \"/v1//x\"\n",
        "[[route]]\npath = \"/v1/{a\"\n",
        "[[route]]\npath = \"/a\"\nidempotency = \"off\"\n",
        "[log]\nlevel = \"warning\"\n",
        "[proxy]\nhost = \"keep\"\n",
    ]));
}

#[test]
fn wrong_addresses() {
    snapshot!(gallery(&[
        "listen = 8080\n",
        "listen = \":8080\"\n",
        "listen = \"localhost:8080\"\n",
        "listen = \"::1:8080\"\n",
        "listen = \"127.0.0.1\"\n",
        "listen = \"example.com:80\"\n",
        "listen = \"127.0.0.1:99999\"\n",
        "upstream = [\"127.0.0.1:3000\"]\n",
        "upstream = [\"ftp://127.0.0.1:3000\"]\n",
        "upstream = [\"http://127.0.0.1:3000/api\"]\n",
        "upstream = [\"http://me:pa55word@127.0.0.1:3000\"]\n",
        "upstream = [\"http://\"]\n",
        "upstream = [\"http://127.0.0.1:port\"]\n",
        "upstream = [\"http://127.0.0.1:3000\", 3000]\n",
        "upstream = {}\n",
        "upstream = []\n",
        "# no upstream\n",
        "[store]\nurl = \"./data\"\n",
        "[store]\nurl = \"memory\"\n",
        "[store]\nurl = \"file:\"\n",
        "[store]\nurl = \"file:data?durability=relaxed\"\n",
        "[store]\nurl = \"file://data\"\n",
        "[store]\nurl = \"redis://:pa55word@127.0.0.1:6379/main\"\n",
        "[store]\nurl = \"redis+sentinel://:pa55word@127.0.0.1\"\n",
        "[store]\nurl = \"reddis://:pa55word@127.0.0.1\"\n",
        "[store]\nurl = \"postgres://me:pa55word@127.0.0.1/db\"\n",
        "[store]\nurl = \"mysql://127.0.0.1/db\"\n",
    ]));
}

#[test]
fn contradictions() {
    snapshot!(gallery(&[
        "[idempotency]\nheaders = []\n",
        "[idempotency]\nmethods = [\"POST\", \"GET\"]\n",
        "[idempotency]\nlease = \"10ms\"\n",
        "[idempotency]\nlease = \"2s\"\n",
        "[idempotency]\nstore_timeout = \"5s\"\n",
        "[idempotency]\nlifetime = \"0s\"\n",
        "[idempotency]\nmax_request_body = \"1KiB\"\n",
        "[idempotency]\nconcurrent = \"wait\"\nmax_waiters = 0\n",
        "[idempotency]\nmax_in_progress = 0\n",
        "[idempotency]\nmismatch_status = 404\n",
        "[idempotency]\nstore_failure_status = 404\n",
        "[idempotency]\nfingerprint = [\"amount\"]\n",
        "[idempotency]\nfingerprint = []\n",
        "[idempotency]\nkeep_headers = [\"location\"]\ndrop_headers = [\"set-cookie\"]\n",
        "[[route]]\npath = \"/a\"\nidempotency = { lease = \"1s\" }\n",
        "[idempotency]\nlease = \"1s\"\n[[route]]\npath = \"/a\"\nidempotency = { required = true }\n",
        "[[route]]\npath = \"/a\"\nidempotency = { secret = \"0123456789abcdef\" }\n",
        "[[route]]\nmethods = [\"POST\"]\n",
        "[[route]]\npath = \"/a\"\nmethods = []\n",
        "[tls]\ncert = \"~/cert.pem\"\nkey = \"key.pem\"\n[store]\nurl = \"file:~/data\"\n",
        "listen = \"127.0.0.1:9090\"\n",
        "listen = \"0.0.0.0:7000\"\nadmin.listen = \"127.0.0.1:7000\"\n",
        "listen = \"127.0.0.1:3000\"\n",
        "listen = \"0.0.0.0:80\"\nupstream = \"http://localhost\"\n",
        "[tls]\ncert = \"cert.pem\"\n",
        "[tls]\ncert = \"no/such/cert.pem\"\nkey = \"/\"\n",
        "[proxy]\nca_file = \"no/such/ca.pem\"\n",
        "[proxy]\nconnect_timeout = \"0s\"\ntotal_timeout = \"0s\"\n",
        "[limits]\nmax_connections = 0\nmax_header_bytes = \"1KiB\"\n",
        "[store]\nmax_bytes = 0\n",
        "[store]\nurl = \"file:data\"\ndurability = \"relaxed\"\nrelaxed_every = \"0s\"\n",
        "[idempotency]\nsecret = \"0123456789abcdef\"\nsecret_file = \"secret\"\n",
        "[idempotency]\nsecret_file = \"no/such/secret\"\n",
    ]));
}

#[test]
fn warnings() {
    let quiet = |file: &str| format!("{QUIET}{file}");
    snapshot!(gallery(&[
        "",
        "[idempotency]\nprofile = \"standard\"\n",
        "[idempotency]\nprofile = \"fiber\"\n",
        "[idempotency]\nprofile = \"fiber\"\nscope = \"none\"\n",
        "[idempotency]\nprofile = \"payments\"\n",
        &quiet("admin.listen = \"0.0.0.0:9090\"\n"),
        &quiet("store = { url = \"memory:\", durability = \"record\" }\n"),
        &quiet("store = { relaxed_every = \"1s\" }\n"),
        &quiet("proxy.insecure_skip_verify = true\n"),
        &quiet(
            "[[route]]\npath = \"/v1/{*rest}\"\n\n[[route]]\npath = \"/v1/payments\"\n\
             idempotency = { profile = \"payments\" }\n",
        ),
        &quiet("[[route]]\npath = \"/a\"\nidempotency = { profile = \"fiber\" }\n"),
    ]));
}

#[test]
fn syntax_errors() {
    snapshot!(gallery(&[
        "listen = \n",
        "listen = 127.0.0.1:80\n",
        "listen = \"127.0.0.1:80\n",
        "[admin\nlisten = \"127.0.0.1:80\"\n",
        "[log]\nlevel = \"info\"\nlevel = \"debug\"\n",
        "[log]\n[log]\n",
        "listen \"127.0.0.1:80\"\n",
        "\u{1b}[31m\n",
    ]));
}

#[test]
fn all_faults_are_found_at_once() {
    let file = "
upstream = [\"127.0.0.1:3000\"]
listen = 8080
lifetme = \"24h\"

[idempotency]
lease = 10
store_timeout = \"100s\"
profile = \"stripes\"

[admin]
listen = \"127.0.0.1\"

[[route]]
path = \"/a\"
idempotency = { lifetime = \"soon\", colour = 1 }

[[route]]
pathe = \"/b\"

[limits]
max_headers = 1
";
    snapshot!(
        Given::file(file)
            .variable("ONLYONCE_LOG__LEVEL", "loud")
            .flag(Flag::Store, "disk")
            .messages()
    );
}

#[test]
fn unreadable_files() {
    let mut out = String::new();
    let mut say = |given: &Given| {
        let _ = writeln!(out, "{}\n", given.messages());
    };
    let mut missing = Given::nothing();
    missing.sources = Sources::none().with_file(missing.folder.path().join("onlyonce.toml"));
    say(&missing);
    let mut folder = Given::nothing();
    let path = folder.folder.path().join("settings");
    std::fs::create_dir(&path).unwrap();
    folder.sources = Sources::none().with_file(path);
    say(&folder);
    say(&Given::file(b"# one\nlisten = \"\xff\"\n"));
    say(&Given::file(vec![b'#'; 1024 * 1024 + 1]));
    snapshot!(out);
}

#[test]
fn variables() {
    let mut out = String::new();
    for (name, value) in [
        ("ONLYONCE_LISTEN", "8080"),
        ("ONLYONCE_LISEN", "127.0.0.1:80"),
        ("ONLYONCE_STORE", "memory:"),
        ("ONLYONCE_STORE_URL", "memory:"),
        ("ONLYONCE_COLOUR", "red"),
        ("ONLYONCE_UPSTREAM", "http://127.0.0.1:1,127.0.0.1:2"),
        ("ONLYONCE_IDEMPOTENCY__LEASE", "10"),
        ("ONLYONCE_IDEMPOTENCY__LEASE", "10ms"),
        ("ONLYONCE_IDEMPOTENCY__REQUIRED", "yes"),
        ("ONLYONCE_IDEMPOTENCY__MAX_WAITERS", "many"),
        ("ONLYONCE_IDEMPOTENCY__METHODS", "POST,patch"),
        ("ONLYONCE_IDEMPOTENCY__SECRET", "too short"),
        ("ONLYONCE_ROUTE", "[{ path = \"/a\", color = 1 }]"),
        ("ONLYONCE_PORT", "8080"),
    ] {
        let said = Given::nothing().upstream().variable(name, value).messages();
        let _ = writeln!(out, "──── {name}={value}\n{said}\n");
    }
    snapshot!(out);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused_by_name() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut given = Given::nothing().upstream();
    let value = std::ffi::OsString::from_vec(vec![0xff]);
    given.sources = given.sources.with_variable("ONLYONCE_LISTEN", value);
    assert!(given.messages().contains("ONLYONCE_LISTEN is not UTF-8"));
}

#[test]
fn flags() {
    let mut out = String::new();
    for (flag, value) in [
        (Flag::Listen, "8080"),
        (Flag::AdminListen, "on"),
        (Flag::AdminListen, "127.0.0.1:8080"),
        (Flag::Upstream, "localhost:3000"),
        (Flag::Upstream, "http://127.0.0.1:8080"),
        (Flag::Store, "redis://:pa55word@127.0.0.1:port"),
        (Flag::Profile, "strip"),
        (Flag::LogFormat, "jsno"),
        (Flag::LogLevel, ""),
    ] {
        let said = Given::nothing().upstream().flag(flag, value).messages();
        let _ = writeln!(out, "──── {} {value}\n{said}\n", flag.name());
    }
    snapshot!(out);
}

#[test]
fn what_kubernetes_brings_along_is_no_mistake() {
    for (name, value) in [
        ("ONLYONCE_SERVICE_HOST", "10.0.0.1"),
        ("ONLYONCE_SERVICE_PORT", "80"),
        ("ONLYONCE_SERVICE_PORT_HTTP", "80"),
        ("ONLYONCE_PORT", "tcp://10.0.0.1:80"),
        ("ONLYONCE_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("ONLYONCE_PORT_80_TCP_PROTO", "tcp"),
        ("ONLYONCE_ADMIN_PORT_9090_TCP_ADDR", "10.0.0.1"),
    ] {
        let given = Given::file(QUIET).upstream().variable(name, value);
        assert_eq!(given.messages(), "", "{name}");
    }
}

#[test]
fn hazard_34_secrets_are_never_shown() {
    const SECRET: &str = "hunter2-hunter2-hunter2";
    let files = [
        format!("[idempotency]\nsecret = \"{SECRET}\"\ncolour = 1\n"),
        format!("[idempotency]\nsecret = \"{SECRET}\" colour = 1\n"),
        format!("[idempotency]\nsecret = \"{SECRET}\n"),
        format!("[idempotency]\nsecret = {SECRET}\n"),
        format!("[idempotency]\nsecret = [\"{SECRET}\"]\n"),
        format!("[idempotency]\nsecrets = \"{SECRET}\"\n"),
        format!("[idempotency]\nsecret = \"\"\"\n{SECRET}\n\\q\"\"\"\n"),
        format!("[idempotency]\nsecret = \"\"\"\n{SECRET}\n"),
        format!("idempotency = {{ colour = 1, secret = \"{SECRET}\" }}\n"),
        format!("[store]\nurl = \"redis://:{SECRET}@host:port\"\n"),
        format!("upstream = \"http://me:{SECRET}@host\"\n"),
    ];
    for file in files {
        let said = Given::file(&file).upstream().messages();
        assert!(said.contains("error"), "{file}\n{said}");
        assert!(!said.contains("hunter2"), "{file}\n{said}");
    }
    let variables = [
        ("ONLYONCE_IDEMPOTENCY__SECRETS", SECRET.to_owned()),
        ("ONLYONCE_IDEMPOTENCY__SECRET", "hunter2".to_owned()),
        ("ONLYONCE_IDEMPOTENCY__SECRET", "[\"hunter2\"]".to_owned()),
        (
            "ONLYONCE_STORE__URL",
            format!("redis://:{SECRET}@host:port"),
        ),
    ];
    for (name, value) in variables {
        let said = Given::nothing()
            .upstream()
            .variable(name, &value)
            .messages();
        assert!(said.contains("error"), "{name}={value}\n{said}");
        assert!(!said.contains("hunter2"), "{name}={value}\n{said}");
    }
    let given = Given::file(format!("[idempotency]\nsecret = \"{SECRET}\"\n")).upstream();
    let loaded = Loaded::load(&given.sources).unwrap();
    assert!(!loaded.print().contains("hunter2"));
    assert!(loaded.print().contains("secret = \"[hidden]\""));
    assert!(
        !format!("{loaded:?}").contains("hunter2"),
        "debug output hides it too"
    );
}

#[test]
fn flags_win_over_variables_they_over_the_file_it_over_the_profile() {
    let lifetime = |given: Given| given.upstream().settings().idempotency.lifetime;
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let file = || Given::file("[idempotency]\nprofile = \"fiber\"\nlifetime = \"2h\"\n");
    assert_eq!(lifetime(Given::nothing()), hours(24), "default");
    let profile = Given::nothing().flag(Flag::Profile, "fiber");
    assert_eq!(lifetime(profile), hours(1) / 2, "profile");
    assert_eq!(lifetime(file()), hours(2), "file over profile");
    let variable = file().variable("ONLYONCE_IDEMPOTENCY__LIFETIME", "3h");
    assert_eq!(lifetime(variable), hours(3), "variable over file");

    let listen = |given: Given| given.upstream().settings().listen.port();
    let file = || Given::file("listen = \"127.0.0.1:1001\"\n");
    let variable = || file().variable("ONLYONCE_LISTEN", "127.0.0.1:1002");
    let flag = variable().flag(Flag::Listen, "127.0.0.1:1003");
    assert_eq!(listen(Given::nothing()), 8080);
    assert_eq!(listen(file()), 1001);
    assert_eq!(listen(variable()), 1002);
    assert_eq!(listen(flag), 1003);
}

#[test]
fn a_file_is_read_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, format!("\u{feff}{UPSTREAM}listen = 7\r\n")).unwrap();
    let said = Settings::load(&Sources::none().with_file(&path)).unwrap_err();
    assert_eq!(said.count(), 1);
    assert!(said.to_string().contains("mine.toml:2:10"), "{said}");
    assert!(said.to_string().contains("2 | listen = 7\n"), "{said}");
}

#[test]
fn a_named_setting_wins_over_a_profile_from_anywhere() {
    let settings = Given::file("[idempotency]\nrequired = false\n")
        .variable("ONLYONCE_IDEMPOTENCY__CONCURRENT", "reject")
        .flag(Flag::Profile, "payments")
        .upstream()
        .settings();
    let policy = Policy::new(Profile::Payments)
        .with_required(false)
        .with_concurrent(Concurrent::Reject);
    assert_eq!(*settings.idempotency, policy);
}

#[test]
fn lists_are_replaced_and_sections_are_joined() {
    let settings = Given::file(
        "upstream = [\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"]\n\
         [limits]\nmax_headers = 50\nmax_connections = 5\n",
    )
    .variable("ONLYONCE_UPSTREAM", "http://127.0.0.1:3,http://127.0.0.1:4")
    .variable("ONLYONCE_LIMITS__MAX_HEADERS", "60")
    .settings();
    let upstreams: Vec<String> = settings.upstreams.iter().map(ToString::to_string).collect();
    assert_eq!(upstreams, ["http://127.0.0.1:3/", "http://127.0.0.1:4/"]);
    assert_eq!(settings.limits.max_headers, 60);
    assert_eq!(settings.limits.max_connections, 5);

    let settings = Given::file(UPSTREAM)
        .flag(Flag::Upstream, "http://127.0.0.1:5")
        .flag(Flag::Upstream, "http://127.0.0.1:6")
        .settings();
    let upstreams: Vec<String> = settings.upstreams.iter().map(ToString::to_string).collect();
    assert_eq!(upstreams, ["http://127.0.0.1:5/", "http://127.0.0.1:6/"]);
}

#[test]
fn variables_are_toml_or_plain_text() {
    let policy = |name: &str, value: &str| {
        let name = format!("ONLYONCE_IDEMPOTENCY__{name}");
        let given = Given::nothing().upstream().variable(&name, value);
        Policy::clone(&given.settings().idempotency)
    };
    assert!(policy("REQUIRED", "true").required);
    assert_eq!(policy("MAX_WAITERS", "7").max_waiters, 7);
    assert_eq!(policy("MAX_IN_PROGRESS", "9").max_in_progress, Some(9));
    assert_eq!(
        policy("LIFETIME", "7d").lifetime,
        Duration::from_secs(7 * 86_400)
    );
    assert_eq!(
        policy("LIFETIME", "\"7d\"").lifetime,
        Duration::from_secs(7 * 86_400)
    );
    assert_eq!(policy("BUFFER", "4096").buffer, 4096);
    assert_eq!(policy("METHODS", "POST").methods, [Method::POST]);
    let both = [Method::POST, Method::PATCH];
    assert_eq!(policy("METHODS", "POST, PATCH").methods, both);
    assert_eq!(policy("METHODS", "[\"POST\", \"PATCH\"]").methods, both);
    assert!(policy("STORE", "all").store.contains(500));
    let store = policy("STORE", "200,400-404").store;
    assert!(store.contains(200) && store.contains(402) && !store.contains(201));
    assert!(policy("STORE", "204").store.contains(204));
    assert_eq!(
        policy("VALIDATE", "{ min-length = 8 }").validate,
        onlyonce_core::KeyRule::MinLength(8)
    );
    let pointers = policy("FINGERPRINT", "/amount,/currency").fingerprint;
    let expected =
        onlyonce_core::BodyFingerprint::Pointers(vec!["/amount".into(), "/currency".into()]);
    assert_eq!(
        pointers,
        onlyonce_core::FingerprintRule::On {
            body: expected,
            headers: vec![]
        }
    );

    // Digits alone are a text where a text is asked for.
    let secret = |text: &str| {
        let name = "ONLYONCE_IDEMPOTENCY__SECRET";
        Given::nothing()
            .upstream()
            .variable(name, text)
            .settings()
            .secret
    };
    assert_eq!(
        secret("1234567890123456"),
        Some(onlyonce_core::Secret::from_passphrase("1234567890123456"))
    );
}

#[test]
fn routes_start_from_idempotency_or_from_their_profile() {
    let settings = Given::file(
        "[idempotency]\nlifetime = \"48h\"\nstore_timeout = \"500ms\"\nrequired = false\n\
         [[route]]\npath = \"/plain\"\nidempotency = { lease = \"5s\" }\n\
         [[route]]\npath = \"/pay\"\nidempotency = { profile = \"payments\", max_waiters = 3 }\n\
         [[route]]\npath = \"/off\"\nidempotency = false\n\
         [[route]]\npath = \"/same\"\n",
    )
    .upstream()
    .settings();
    let base = &settings.idempotency;
    let at = |path: &str| settings.routes.resolve(&Method::POST, path).policy;
    let plain = at("/plain").unwrap();
    let mut expected = Policy::clone(base);
    expected.lease = Duration::from_secs(5);
    assert_eq!(**plain, expected);
    let mut expected = Policy::new(Profile::Payments);
    expected.store_timeout = Duration::from_millis(500);
    expected.max_waiters = 3;
    assert_eq!(
        **at("/pay").unwrap(),
        expected,
        "what profiles speak of comes from the profile"
    );
    assert_eq!(at("/off"), None);
    assert_eq!(at("/same"), Some(base));
    assert_eq!(at("/elsewhere"), Some(base));
}

#[test]
fn the_number_of_routes_is_bounded() {
    let file = |count: usize| "[[route]]\npath = \"/a/{b}\"\n".repeat(count);
    assert_eq!(
        Given::file(file(1000))
            .upstream()
            .settings()
            .routes
            .iter()
            .count(),
        1000
    );
    let said = Given::file(file(1001)).upstream().messages();
    assert!(said.contains("there are 1001 routes"), "{said}");
}

#[test]
fn a_secret_in_a_file_is_read_without_its_line_break() {
    let given = Given::nothing().upstream();
    let path = given.folder.path().join("secret");
    std::fs::write(&path, "0123456789abcdef\r\n").unwrap();
    let path = path.to_str().unwrap().to_owned();
    let settings = given
        .variable("ONLYONCE_IDEMPOTENCY__SECRET_FILE", &path)
        .settings();
    let expected = onlyonce_core::Secret::from_passphrase("0123456789abcdef");
    assert_eq!(settings.secret, Some(expected));
}

/// A file in which nothing is as it is by default.
const EVERYTHING: &str = r#"
listen = "127.0.0.2:81"
upstream = ["https://a.example:8443", "http://[::1]:3000"]
admin = { listen = "off", hosts = ["gateway.internal"] }
proxy = { connect_timeout = "1s", response_timeout = "1m30s", idle_timeout = "2s", total_timeout = "10m", pool_max_idle = 0, pool_idle_timeout = "0s", h2c = true, host = "upstream", max_failures = 0, cooldown = "1s", insecure_skip_verify = true, trust_forwarded = true, via = "off", tunnel_idle_timeout = "1s", max_header_bytes = "1MiB" }
limits = { max_connections = 1, max_header_bytes = "1MiB", max_headers = 8, header_timeout = "1s", body_idle_timeout = "1s", keep_alive_timeout = "1s", tls_handshake_timeout = "1s", max_concurrent_streams = 1, max_tls_handshakes = 1, write_timeout = "1s", max_request_body = 1000, drain_timeout = "0s" }
log = { format = "json", level = "trace" }
context = { enabled = true, trace_context = "accept" }
envelope = { enabled = true, status_mode = "always-200", debug = true, language = "zh-CN", read_codes = true }
auth = { audience = "shop", issuer = "https://id.example.com", leeway = "1s", state = "redis://127.0.0.1", expires = "1d", auto_refresh = false, refresh_interval = "1h", max_refresh_times = "off", multi_login = false, max_length = "1KiB", ticket_expires = "1s", super_roles = ["root"], user_header = "X-Id", role_header = "X-Role" }
client_address = { trusted_proxies = ["10.0.0.0/8"], header = "forwarded", proxy_protocol = true, proxy_protocol_timeout = "1s" }
cors = { origins = ["https://shop.example"], credentials = true, methods = ["GET"], headers = ["X-Card"], expose_headers = ["X-Left"], max_age = "1m" }
blocklist = { enabled = true, poll = "1m", capacity = 1000, store = "memory:" }
allow_list = { paths = ["/metrics"], addresses = ["10.0.0.5-90"] }
read_only = { enabled = true, switchable = true, methods = "post", exempt = ["/login"] }
filter = { max_body = "2MiB" }
access_log = { enabled = true, lines = "stderr", format = "json", store = "sqlite:/var/log/requests.db", modules = ["admin"], skip_codes = [-1], skip_paths = ["/healthz"], skip_bodies = ["/upload/{*rest}"], max_body = "1KiB", redact = ["card_number"], redact_headers = ["X-Card"], retention = "7d", queue = 7, batch = 3, linger = "2s" }
[store]
url = "file:/var/lib/onlyonce"
durability = "relaxed"
relaxed_every = "5ms"
max_bytes = "5TiB"
near_cache = "8MiB"
breaker_failures = 7
breaker_open_for = "9s"
compression = "lz4"
scrub = ["Set-Cookie", "/card/number"]
[idempotency]
profile = "redis-gin"
headers = ["X-Key"]
syntax = "strict"
validate = { min-length = 8 }
required = false
methods = ["POST", "PURGE"]
scope = "header:X-Tenant"
anonymous = "refuse"
fingerprint = { body = ["/a", "/b"], headers = ["X-Version"] }
mismatch_status = 409
concurrent = "wait"
wait_timeout = "1500ms"
max_waiters = 1
max_in_progress = 2
lease = "1h"
lifetime = "365d"
store = [200, "400-404", 503]
store_service_errors = false
on_unknown = "hold"
on_store_failure = "reject"
store_failure_status = 599
store_timeout = "3s"
buffer = 17
max_request_body = 18
max_response_body = 19
abandoned_stream_timeout = "7s"
replay_header = "X-Replayed"
verdict_headers = true
keep_headers = ["Location"]
reveal_keys = true
docs_url = "https://docs.example.com/x?y=z"
principal_header = "X-User"
[[route]]
path = "/v1/{id}/{*rest}"
methods = ["POST"]
idempotency = { profile = "stripe", drop_headers = ["Set-Cookie"], keep_headers = "off" }
[[route]]
path = "/hooks"
idempotency = false
envelope = false
cors = false
blocklist = false
read_only = false
filter = false
[[route]]
path = "/export"
envelope = { type = "xml" }
[[route]]
path = "/same"
envelope = true
"#;

#[test]
fn print_config_shows_every_value_and_where_it_came_from() {
    let given = Given::file(EVERYTHING)
        .variable("ONLYONCE_IDEMPOTENCY__LEASE", "30m")
        .flag(Flag::LogLevel, "debug");
    let printed = Loaded::load(&given.sources).unwrap().print();
    let folder = format!("{}/", given.folder.path().display());
    snapshot!(printed.replace(&folder, ""));
}

#[test]
fn print_config_of_nothing() {
    let given = Given::nothing().upstream();
    snapshot!(Loaded::load(&given.sources).unwrap().print());
}

#[test]
fn what_print_config_prints_gives_the_same_settings() {
    let profiles = Profile::ALL.map(|profile| {
        Given::file(format!("{QUIET}[idempotency]\nprofile = \"{profile}\"\n").replace(QUIET, ""))
            .upstream()
    });
    let all = [Given::file(EVERYTHING), Given::nothing().upstream()];
    for given in all.into_iter().chain(profiles) {
        let loaded = Loaded::load(&given.sources).unwrap();
        let again = Given::file(loaded.print()).settings();
        assert_eq!(again, loaded.settings, "{}", loaded.print());
    }
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";

/// With a key `k1` in a file and, in another, no key.
fn sealing(encryption: &str) -> Given {
    let mut given = Given::nothing();
    let folder = given.folder.path();
    std::fs::write(folder.join("good.key"), KEY).unwrap();
    std::fs::write(folder.join("bad.key"), "hunter2hunter2").unwrap();
    let encryption = encryption.replace("DIR", &folder.display().to_string());
    let text = format!("{UPSTREAM}[store]\nencryption = {encryption}\n");
    given.sources = given.sources.with_text("onlyonce.toml", text.as_bytes());
    given
}

#[test]
fn keys_are_read_with_the_settings() {
    let given = sealing(r#"{ active = "k1", keys = { k1 = { file = "DIR/good.key" } } }"#);
    let settings = given.settings();
    let encryption = settings.store.wrappers.encryption.unwrap();
    assert_eq!(encryption.ring.active(), "k1");
    assert!(!encryption.accept_plain());
}

#[test]
fn keys_that_cannot_be_used_are_named_and_not_shown() {
    for (encryption, said) in [
        (
            r#"{ active = "k", keys = { k1 = { file = "DIR/good.key" } } }"#,
            "did you mean \"k1\"?",
        ),
        (
            r#"{ active = "k1", keys = { k1 = { file = "DIR/bad.key" } } }"#,
            "openssl rand -base64 32",
        ),
        (
            r#"{ active = "k1", keys = { k1 = { file = "DIR/none.key" } } }"#,
            "none.key: No such file",
        ),
        (
            r#"{ active = "k1", keys = { k1 = { env = "ONLYONCE_NO_SUCH" } } }"#,
            "can't read ONLYONCE_NO_SUCH",
        ),
        (
            r#"{ active = "k1", keys = { k1 = {} } }"#,
            "either `file` or `env`",
        ),
        (
            r#"{ active = "a b", keys = { "a b" = { file = "DIR/good.key" } } }"#,
            "1 to 64 letters",
        ),
        (r#"{ active = "k1" }"#, "keys"),
        (r#"{ active = "k1", keys = {}, kes = 1 }"#, "kes"),
    ] {
        let messages = sealing(encryption).messages();
        assert!(messages.contains(said), "{encryption}: {messages}");
        assert!(messages.contains("onlyonce.toml:3"), "{messages}");
        assert!(!messages.contains("hunter2"), "{messages}");
    }
}

#[test]
fn a_printed_secret_is_not_taken_for_one() {
    let given = Given::file("[idempotency]\nsecret = \"0123456789abcdef\"\n").upstream();
    let printed = Loaded::load(&given.sources).unwrap().print();
    let said = Given::file(printed).messages();
    assert!(
        said.contains("this is how `print-config` hides the secret"),
        "{said}"
    );
}

#[test]
fn everything_differs_from_its_default() {
    // So that the tests above leave no setting out.
    let given = Given::file(EVERYTHING);
    let printed = Loaded::load(&given.sources).unwrap().print();
    let of_default = [
        "profile",
        "cert",
        "key",
        "ca_file",
        "secret",
        "secret_file",
        "drop_headers",
        "error_page",
    ];
    for setting in &Catalog::all().settings {
        let is_default = printed.lines().any(|line| {
            line.starts_with(&format!("{} = ", setting.key)) && line.ends_with("# default")
        });
        assert!(
            !is_default || of_default.contains(&setting.key.as_str()),
            "{}",
            setting.key
        );
    }
}

#[test]
fn the_file_that_init_writes_is_good_as_it_is_and_with_every_line_in_use() {
    let settings = Given::file(INIT_TEMPLATE).settings();
    assert_eq!(settings, Given::nothing().upstream().settings());
    let in_use: Vec<String> = INIT_TEMPLATE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c != ' ') => rest.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let given = Given::nothing();
    let files = ["onlyonce.secret", "cert.pem", "key.pem"];
    let mut content = in_use.join("\n");
    for file in files {
        let path = given.folder.path().join(file);
        std::fs::write(&path, "0123456789abcdef").unwrap();
        content = content.replace(&format!("\"{file}\""), &format!("{path:?}"));
    }
    let in_use = Given::file(content).settings();
    assert_eq!(in_use.routes.iter().count(), 2);
    assert!(in_use.tls.is_some());
    // What is commented out is the default.
    assert_eq!(in_use.idempotency, settings.idempotency);
    assert_eq!(
        (in_use.listen, in_use.admin, in_use.store),
        (settings.listen, settings.admin, settings.store)
    );
    assert_eq!(
        (in_use.proxy, in_use.limits, in_use.log),
        (settings.proxy, settings.limits, settings.log)
    );
}

#[test]
fn init_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("onlyonce.toml");
    init(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), INIT_TEMPLATE);
    std::fs::write(&path, "mine").unwrap();
    let error = init(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is there already and was left as it is")
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    let nowhere = init(&folder.path().join("no/such/onlyonce.toml")).unwrap_err();
    assert!(matches!(nowhere, InitError::Write { .. }));
}

/// Compares a file of the project with what it is made from; writes it anew when
/// `ONLYONCE_REGENERATE=1` is set.
fn compare_with_docs(name: &str, made: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os("ONLYONCE_REGENERATE").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/{name} has fallen behind: run the tests with ONLYONCE_REGENERATE=1 and commit it"
    );
}

#[test]
fn the_schema_in_docs_is_up_to_date() {
    compare_with_docs("onlyonce.schema.json", &schema_json());
}

#[test]
fn the_page_in_docs_is_up_to_date() {
    compare_with_docs("settings.md", &settings_page());
}

#[test]
fn every_setting_of_the_schema_is_explained_on_the_page() {
    fn names(schema: &serde_json::Value, out: &mut Vec<(String, bool)>) {
        let properties = schema.get("properties").and_then(|all| all.as_object());
        for (name, entry) in properties.into_iter().flatten() {
            let explained = entry.get("description").is_some_and(|text| text != "");
            out.push((name.clone(), explained));
            names(entry, out);
            names(entry.get("items").unwrap_or(&serde_json::Value::Null), out);
        }
    }
    let schema: serde_json::Value = serde_json::from_str(&schema_json()).unwrap();
    let mut all = Vec::new();
    names(&schema, &mut all);
    // Tables within values (`validate`, `fingerprint`) are explained where they stand.
    assert!(all.len() > 70, "{all:?}");
    let page = settings_page();
    for (name, explained) in all {
        assert!(explained, "{name} has no description");
        let row = page.contains(&format!("\n| `{name}` | "));
        let heading = page.contains(&format!("\n## `[{name}]`"))
            || page.contains(&format!("\n## `[[{name}]]`"));
        assert!(row || heading, "{name} is not on the page");
    }
}

#[test]
fn what_the_schema_says_of_defaults_is_true() {
    // Each default of the schema, written into a file, changes nothing.
    let expected = Given::nothing().upstream().settings();
    let schema: serde_json::Value = serde_json::from_str(&schema_json()).unwrap();
    let mut count = 0;
    for (section, entry) in schema["properties"].as_object().unwrap() {
        for (key, entry) in entry["properties"].as_object().into_iter().flatten() {
            let Some(default) = entry.get("default") else {
                continue;
            };
            count += 1;
            let value = toml::Value::try_from(default).unwrap();
            let file = format!("[{section}]\n{key} = {value}\n");
            assert_eq!(Given::file(&file).upstream().settings(), expected, "{file}");
        }
    }
    assert!(count > 50);
}

#[test]
fn defaults_are_those_of_the_parts_they_are_for() {
    let limits = LimitSettings::default().front_options();
    assert_eq!(
        format!("{limits:?}"),
        format!("{:?}", FrontOptions::default())
    );
    let proxy = ProxySettings::default();
    let upstream = UpstreamOptions::default();
    assert_eq!(
        format!("{:?}", proxy.upstream_options()),
        format!("{upstream:?}")
    );
    let options = ProxyOptions::default();
    assert_eq!(
        format!("{:?}", proxy.proxy_options()),
        format!("{options:?}")
    );
}

#[test]
fn settings_reach_the_parts_they_are_for() {
    // Nothing in the file is as it is by default, so whatever still is was not passed on.
    let settings = Given::file(EVERYTHING).settings();
    let fields = |debug: String| -> Vec<String> { debug.lines().map(str::to_owned).collect() };
    let differ = |one: String, other: String, same: &[&str]| {
        for (one, other) in fields(one).iter().zip(fields(other)) {
            let is_frame = one.ends_with(['{', '(', '[']) || one.trim().len() < 4;
            let named = same.iter().any(|name| one.contains(name));
            assert!(is_frame || named || *one != other, "{one}");
        }
    };
    differ(
        format!("{:#?}", settings.limits.front_options()),
        format!("{:#?}", FrontOptions::default()),
        &[],
    );
    differ(
        format!("{:#?}", settings.proxy.upstream_options()),
        format!("{:#?}", UpstreamOptions::default()),
        &["system: true", "authorities: []"],
    );
    differ(
        format!("{:#?}", settings.proxy.proxy_options()),
        format!("{:#?}", ProxyOptions::default()),
        &[],
    );
    let mut proxy = settings.proxy;
    assert_eq!(
        proxy.upstream_options().unhealthy_after,
        u32::MAX,
        "0 never leaves it out"
    );
    proxy.ca_file = Some("ca.pem".into());
    let trust = proxy.upstream_options().trust;
    assert!(!trust.system && trust.authorities == ["ca.pem"].map(std::path::PathBuf::from));
}

#[test]
fn the_admin_listener_is_found_without_an_upstream() {
    let listen =
        |given: Given| admin_listen(&given.sources).map(|listen| listen.map(|at| at.port()));
    assert_eq!(listen(Given::nothing()).unwrap(), Some(9090));
    assert_eq!(listen(Given::file("admin.listen = \"off\"")).unwrap(), None);
    assert_eq!(
        listen(Given::file("admin.listen = \"[::1]:7\"")).unwrap(),
        Some(7)
    );
    assert!(listen(Given::file("admin.listen = 7")).is_err());
}

#[test]
fn messages_have_nothing_in_them_that_a_terminal_obeys() {
    let given = Given::file("\u{1b}[31m = \"\u{1b}\"\n");
    assert!(!given.messages().contains('\u{1b}'));
    let given = Given::nothing().upstream().flag(Flag::Listen, "\u{1b}[31m");
    assert!(!given.messages().contains('\u{1b}'));
    let given = Given::nothing()
        .upstream()
        .variable("ONLYONCE_\u{1b}[31m", "x");
    assert!(!given.messages().contains('\u{1b}'));
}

#[test]
fn the_variable_that_names_the_file_is_no_setting() {
    let given = Given::file(QUIET)
        .upstream()
        .variable(CONFIG, "elsewhere.toml");
    assert_eq!(given.messages(), "");
}

/// TOML with names and values near to real ones, so that the loader is entered deeply.
fn nearly_toml() -> impl Strategy<Value = String> {
    let names: Vec<String> = schema_names(&serde_json::Value::Object(schema()));
    let name = prop_oneof![3 => proptest::sample::select(names), 1 => "[a-z_.\"é]{0,6}"];
    let value = prop_oneof![
        Just("true".to_owned()),
        "-?[0-9]{1,20}",
        "\"[a-z0-9:/.{}*é -]{0,12}\"",
        "\"[0-9]{1,12}(ms|s|m|h|d|KiB|TiB)\"",
        "\\[(\"[A-Z/]{0,4}\",?){0,3}\\]",
        "\\{ ?(min-length|body|path|profile|idempotency) = ([0-9]|\"/\"|\"json\") ?\\}",
        "1979-05-27",
        ".{0,8}",
    ];
    let line = prop_oneof![
        5 => (name.clone(), value).prop_map(|(name, value)| format!("{name} = {value}")),
        1 => name.clone().prop_map(|name| format!("[{name}]")),
        1 => Just("[[route]]".to_owned()),
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

fn schema_names(schema: &serde_json::Value) -> Vec<String> {
    let properties = schema.get("properties").and_then(|all| all.as_object());
    let mut names = Vec::new();
    for (name, entry) in properties.into_iter().flatten() {
        names.push(name.clone());
        names.extend(schema_names(entry));
        names.extend(schema_names(
            entry.get("items").unwrap_or(&serde_json::Value::Null),
        ));
    }
    names
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in "(?s).{0,200}") {
        let said = Given::file(&text).upstream().messages();
        prop_assert!(!said.contains('\u{1b}'), "a terminal would obey");
    }

    #[test]
    fn nothing_like_settings_makes_the_loader_panic(text in nearly_toml()) {
        let given = Given::file(&text).upstream();
        given.messages();
        if let Ok(loaded) = Loaded::load(&given.sources) {
            let again = Given::file(loaded.print());
            if loaded.settings.secret.is_none() {
                prop_assert_eq!(again.settings(), loaded.settings);
            }
        }
    }

    #[test]
    fn no_variable_makes_the_loader_panic(value in "(?s).{0,40}", which in any::<proptest::sample::Index>()) {
        let setting = which.get(&Catalog::all().settings);
        let value = value.replace('\0', "");
        Given::nothing().upstream().variable(&setting.variable(), &value).messages();
    }
}

#[test]
fn faults_of_the_envelope() {
    snapshot!(gallery(&[
        "[context]\ntrace_context = \"yes\"\n",
        "[context]\nenabled = 1\n",
        "[envelope]\nstatus_mode = \"always\"\n",
        "[envelope]\nlanguage = \"fr\"\n",
        "[envelope]\nerror_page = \"nowhere.html\"\n",
        "[envelope]\ndebugging = true\n",
        "[[route]]\npath = \"/a\"\nenvelope = \"xml\"\n",
        "[[route]]\npath = \"/a\"\nenvelope = { type = \"yaml\" }\n",
        "[[route]]\npath = \"/a\"\nenvelope = {}\n",
    ]));
}

#[test]
fn a_malformed_error_page_is_named_with_its_line() {
    let given = Given::nothing();
    let page = given.folder.path().join("page.html");
    std::fs::write(&page, "<p>\n{{ message </p>").unwrap();
    let given = given
        .upstream()
        .variable("ONLYONCE_ENVELOPE__ERROR_PAGE", &page.display().to_string());
    let said = given.messages();
    assert!(said.contains("`error_page` in `[envelope]`"), "{said}");
    assert!(
        said.contains("the template for error pages, line 2: "),
        "{said}"
    );
}

mod access_log;
mod auth;
mod blocklist;
mod docs;
mod edge;
