//! `[access_log]`.

use http::HeaderName;
use onlyonce_pipeline::Code;

use super::*;
use crate::config::{LineTarget, RowStore};

#[test]
fn faults_of_the_access_log() {
    snapshot!(gallery(&[
        "[access_log]\nenabled = \"yes\"\n",
        "[access_log]\nenable = true\n",
        "[access_log]\nlines = \"stdin\"\n",
        "[access_log]\nlines = \"./access.log\"\n",
        "[access_log]\nlines = \"file:\"\n",
        "[access_log]\nlines = \"file:~/access.log\"\n",
        "[access_log]\nlines = true\n",
        "[access_log]\nformat = \"xml\"\n",
        "[access_log]\nstore = \"./access.db\"\n",
        "[access_log]\nstore = \"sqlite:\"\n",
        "[access_log]\nstore = \"sqlite://logs/access.db\"\n",
        "[access_log]\nstore = \"sqlite:./a.db?mode=ro\"\n",
        "[access_log]\nstore = \"mysql://host/logs\"\n",
        "[access_log]\nstore = \"postgres://me:hunter2@host:port/logs\"\n",
        "[access_log]\nmodules = \"admin\"\n",
        "[access_log]\nmodules = [\"/admin\"]\n",
        "[access_log]\nmodules = [\"\"]\n",
        "[access_log]\nskip_codes = [\"61\"]\n",
        "[access_log]\nskip_codes = [99999999999]\n",
        "[access_log]\nskip_codes = [-99999999999]\n",
        "[access_log]\nskip_codes = 61\n",
        "[access_log]\nskip_paths = [\"healthz\"]\n",
        "[access_log]\nskip_paths = [\"/{a}{b}\"]\n",
        "[access_log]\nskip_paths = [\"/{a}\", \"/{b}\"]\n",
        "[access_log]\nskip_bodies = [\"/up\", \"/up\"]\n",
        "[access_log]\nmax_body = \"2MiB\"\n",
        "[access_log]\nmax_body = \"16K\"\n",
        "[access_log]\nredact = [\"card number\"]\n",
        "[access_log]\nredact_headers = [\"X Card\"]\n",
        "[access_log]\nretention = \"1s\"\n",
        "[access_log]\nretention = 30\n",
        "[access_log]\nqueue = 0\n",
        "[access_log]\nqueue = 1000000\n",
        "[access_log]\nbatch = 0\n",
        "[access_log]\nbatch = 5000\n",
        "[access_log]\nlinger = \"5m\"\n",
        "[access_log]\nenabled = true\nlines = \"off\"\nstore = \"off\"\n",
        "[access_log]\nretention = \"7d\"\n",
        "[access_log]\nenabled = true\nlines = \"file:/no/such/x.log\"\n",
        "[access_log]\nenabled = true\nstore = \"sqlite:no-such-folder/x.db\"\n",
        "[access_log]\nenabled = true\nskip_paths = [\"/health*\"]\n",
    ]));
}

#[test]
fn no_message_shows_the_database_s_password() {
    for url in [
        "postgres://me:hunter2@host:port/logs",
        "mysql://me:hunter2@host/logs",
        "postgres://me:hunter2@host/logs?sslmode=perhaps",
    ] {
        let given = Given::nothing()
            .upstream()
            .variable("ONLYONCE_ACCESS_LOG__STORE", url);
        let said = given.messages();
        assert!(said.contains("ONLYONCE_ACCESS_LOG__STORE"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let file = "upstream = [\"http://127.0.0.1:1\"]\n[access_log]\nstore = \"postgres://me:hunter2@host/logs\"\n";
    let settings = Given::file(file).settings();
    assert!(!format!("{settings:?}").contains("hunter2"));
    let Some(RowStore::Postgres(url)) = &settings.access_log.store else {
        panic!("{:?}", settings.access_log.store);
    };
    assert_eq!(url.expose(), "postgres://me:hunter2@host/logs");
}

#[test]
fn what_is_set_is_what_is_done() {
    let file = "upstream = [\"http://127.0.0.1:1\"]\n[access_log]\nlines = \"file:./a.log\"\n\
        store = \"off\"\nqueue = 7\nbatch = 3\nlinger = \"2s\"\nretention = \"off\"\n\
        skip_codes = [-1, 61]\nredact = [\"card_number\"]\n";
    let settings = Given::file(file).settings();
    let log = settings.access_log;
    assert_eq!(log.lines, Some(LineTarget::File("./a.log".into())));
    assert_eq!(log.store, None);
    let writer = log.writer_options();
    assert_eq!((writer.queue, writer.batch, writer.retention), (7, 3, None));
    assert_eq!(writer.linger, Duration::from_secs(2));
    let rules = format!("{:?}", log.rules(&[HeaderName::from_static("payment-key")]));
    for part in [
        "cardnumber",
        "payment-key",
        &format!("{:?}", Code::new(61)),
        &format!("{:?}", Code::NONE),
    ] {
        assert!(rules.contains(part), "{part} in {rules}");
    }
}
