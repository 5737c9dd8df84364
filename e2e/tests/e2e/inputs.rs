//! Bad input from operators: a clear message, and the right exit code.

use std::path::Path;
use std::process::Command;

use onlyonce_e2e::{Finished, Gateway, Home, Settings, Upstream, onlyonce, run};

/// Settings that are good, before nobody.
fn good() -> Settings {
    Settings::before_url("http://127.0.0.1:1")
}

fn home_with(more: &str) -> Home {
    let home = Home::new(&good());
    let text = std::fs::read_to_string(home.config()).unwrap();
    std::fs::write(home.config(), text + more).unwrap();
    home
}

async fn in_folder(folder: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(onlyonce());
    command.args(arguments).current_dir(folder);
    run(command).await
}

fn assert_says(finished: &Finished, code: i32, texts: &[&str]) {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    for text in texts {
        assert!(finished.err.contains(text), "{text}: {}", finished.err);
    }
    assert!(!finished.err.contains("panicked"), "{}", finished.err);
}

#[tokio::test]
async fn an_unknown_setting_is_named_with_its_line_and_the_nearest_one() {
    let home = home_with("[idempotency]\nlifetme = \"1h\"\n");
    let lines = std::fs::read_to_string(home.config()).unwrap();
    let line = 1 + lines
        .lines()
        .position(|line| line.starts_with("lifetme"))
        .unwrap();
    let place = format!("onlyonce.toml:{line}:1");
    for command in ["serve", "check", "print-config"] {
        let finished = home.run([command]).await;
        assert_says(&finished, 2, &["lifetme", &place, "lifetime"]);
    }
}

#[tokio::test]
async fn wrong_values_say_what_was_expected() {
    for (lines, texts) in [
        (
            "[idempotency]\nlifetime = \"1 fortnight\"",
            ["lifetime", "24h"],
        ),
        ("[idempotency]\nlifetime = 24", ["lifetime", "unit"]),
        ("[idempotency]\nprofile = \"strip\"", ["profile", "stripe"]),
        ("[idempotency]\non_unknown = true", ["on_unknown", "hold"]),
        ("[limits]\nmax_connections = -1", ["max_connections", "-1"]),
        (
            "[idempotency]\nstore_timeout = \"9s\"",
            ["store_timeout", "lease"],
        ),
        ("[[route]]\npath = \"payments\"", ["path", "/payments"]),
        ("[idempotency", ["TOML", "onlyonce.toml:"]),
    ] {
        let finished = home_with(lines).run(["serve"]).await;
        assert_says(&finished, 2, &texts);
    }
}

#[tokio::test]
async fn all_faults_are_said_at_once() {
    let home = home_with("[idempotency]\nlifetme = \"1h\"\nlease = \"x\"\n[stoore]\n");
    assert_says(
        &home.run(["check"]).await,
        2,
        &["lifetme", "lease", "stoore"],
    );
}

#[tokio::test]
async fn no_upstream_says_how_to_name_one() {
    let folder = tempfile::tempdir().unwrap();
    let finished = in_folder(folder.path(), &["serve"]).await;
    assert_says(&finished, 2, &["upstream", "--upstream http://"]);
    let finished = in_folder(folder.path(), &["serve", "--upstream", "localhost:3000"]).await;
    assert_says(&finished, 2, &["http://localhost:3000"]);
    let finished = in_folder(folder.path(), &["serve", "--upstream", "ftp://a"]).await;
    assert_says(&finished, 2, &["ftp"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let finished = in_folder(folder.path(), &["serve", "--config", "nowhere.toml"]).await;
    assert_says(
        &finished,
        2,
        &["nowhere.toml", "No such file", "onlyonce init"],
    );
    std::fs::create_dir(folder.path().join("onlyonce.toml")).unwrap();
    assert_says(
        &in_folder(folder.path(), &["serve"]).await,
        2,
        &["onlyonce.toml"],
    );
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"\xff\xfe\x00").unwrap();
    let finished = in_folder(folder.path(), &["check", "--config", "binary.toml"]).await;
    assert_says(&finished, 2, &["binary.toml", "UTF-8"]);
}

#[tokio::test]
async fn variables_that_are_no_settings_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(onlyonce());
    command
        .args(["check", "--upstream", "http://127.0.0.1:1"])
        .current_dir(folder.path());
    command.env("ONLYONCE_IDEMPOTENCY__LIFETIM", "1h");
    let expected = [
        "ONLYONCE_IDEMPOTENCY__LIFETIM",
        "ONLYONCE_IDEMPOTENCY__LIFETIME",
    ];
    assert_says(&run(command).await, 2, &expected);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_setting_and_the_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let serve = [
        "serve",
        "--upstream",
        "http://127.0.0.1:1",
        "--store",
        "memory:",
    ];
    let public = [
        &serve[..],
        &["--listen", &addr, "--admin-listen", "127.0.0.1:0"],
    ]
    .concat();
    let expected = ["listen", &addr, "another program", "--listen"];
    assert_says(&in_folder(folder.path(), &public).await, 1, &expected);
    let admin = [
        &serve[..],
        &["--listen", "127.0.0.1:0", "--admin-listen", &addr],
    ]
    .concat();
    let expected = [
        "`listen` of [admin]",
        &addr,
        "another program",
        "--admin-listen",
    ];
    assert_says(&in_folder(folder.path(), &admin).await, 1, &expected);
}

#[tokio::test]
async fn a_gateway_before_itself_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:4711",
        "--upstream",
        "http://localhost:4711",
    ];
    assert_says(
        &in_folder(folder.path(), &arguments).await,
        2,
        &["itself", "4711"],
    );
}

#[tokio::test]
async fn a_store_opened_twice_is_refused_and_says_by_whom_not_harmed() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    let second = gateway.home().fail_to_start().await;
    let folder = gateway.home().records();
    assert_says(&second, 1, &[folder.to_str().unwrap()]);
    assert_eq!(gateway.post("/").key("a").send().await.status, 201);
}

#[tokio::test]
async fn a_folder_of_others_is_left_alone() {
    let home = Home::new(&good());
    let folder = home.records();
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("thesis.txt"), "my only copy").unwrap();
    let finished = home.fail_to_start().await;
    assert_says(
        &finished,
        1,
        &[folder.to_str().unwrap(), "thesis.txt", "empty folder"],
    );
    let text = std::fs::read_to_string(folder.join("thesis.txt")).unwrap();
    assert_eq!(text, "my only copy");
    let names = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        names
            .into_iter()
            .all(|name| name == "thesis.txt" || name == "LOCK")
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_or_is_a_file_is_named() {
    for url in ["file:/dev/null/records", "file:/proc/records"] {
        let home = Home::new(&good().store(url));
        assert_says(&home.fail_to_start().await, 1, &[&url["file:".len()..]]);
    }
    let home = Home::new(&good());
    std::fs::write(home.records(), "a file").unwrap();
    let finished = home.fail_to_start().await;
    assert_says(&finished, 1, &[home.records().to_str().unwrap()]);
    // Stores of other kinds are named as what they are.
    let home = Home::new(&good().store("mysql://localhost/x"));
    assert_says(&home.fail_to_start().await, 2, &["mysql", "file:"]);
}

#[tokio::test]
async fn hazard_46_damaged_records_refuse_the_start_and_name_the_place() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    for number in 0..20 {
        gateway
            .post("/")
            .key(&format!("key-{number}"))
            .body("x")
            .send()
            .await;
    }
    let home = gateway.kill().await;
    // In the middle of what was acknowledged, not in the last write.
    let mut damaged = None;
    for entry in std::fs::read_dir(home.records()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let needle = b"POST /";
        let mut places = Vec::new();
        for (at, part) in bytes.windows(needle.len()).enumerate() {
            if part == needle {
                places.push(at);
            }
        }
        if places.len() > 10 {
            bytes[places[places.len() / 2]] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            damaged = Some(path);
        }
    }
    let damaged = damaged.expect("a file with the records");
    let name = damaged.file_name().unwrap().to_str().unwrap();
    assert_says(&home.fail_to_start().await, 1, &[name]);
}

#[tokio::test]
async fn a_lost_or_another_secret_refuses_the_start() {
    let upstream = Upstream::counting().await;
    let gateway = Gateway::start(Settings::before(&upstream)).await;
    gateway.post("/").key("a").send().await;
    let home = gateway.stop().await;
    home.write(&Settings::before(&upstream).idempotency("secret = \"0123456789abcdef\""));
    assert_says(
        &home.fail_to_start().await,
        1,
        &["secret", "none of them would be found"],
    );
    home.write(&Settings::before(&upstream));
    let gateway = home.start().await;
    assert!(gateway.post("/").key("a").send().await.is_replay());
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named() {
    let home = home_with("[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n");
    assert_says(
        &home.run(["check"]).await,
        2,
        &["cert.pem", "key.pem", "No such file"],
    );
    std::fs::write(home.path().join("cert.pem"), "no certificate").unwrap();
    std::fs::write(home.path().join("key.pem"), "no key").unwrap();
    for command in ["check", "serve"] {
        assert_says(&home.run([command]).await, 1, &["cert.pem"]);
    }
}

#[tokio::test]
async fn check_looks_at_every_server_that_settings_name() {
    let auth = "[auth]\nsecret = \"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge\"\n";
    let module = "[[auth.module]]\nname = \"api\"\n";
    for (lines, place) in [
        (
            format!("{auth}state = \"redis://:hunter2@127.0.0.1:1\"\n{module}"),
            "`state` in [auth]",
        ),
        (
            "[blocklist]\nenabled = true\nstore = \"redis://:hunter2@127.0.0.1:1\"\n".to_owned(),
            "`store` in [blocklist]",
        ),
        (
            "[access_log]\nenabled = true\nstore = \"postgres://me:hunter2@127.0.0.1:1/logs\"\n"
                .to_owned(),
            "`store` in [access_log]",
        ),
    ] {
        let checked = home_with(&lines).run(["check"]).await;
        assert_says(&checked, 1, &[place, "Connection refused (os error 111)"]);
        assert!(!checked.err.contains("hunter2"), "{}", checked.err);
        assert_eq!(checked.out, "", "nothing is called good");
        let refused = checked.err.matches("Connection refused").count();
        assert_eq!(refused, 1, "once is enough: {}", checked.err);
    }
}

#[tokio::test]
async fn check_looks_for_a_place_for_each_folder_and_makes_none() {
    let home = home_with("");
    let in_file = format!("file:{}/records", home.config().display());
    let checked = home.run(["check", "--store", &in_file]).await;
    assert_says(&checked, 1, &["`url` in [store]", "onlyonce.toml/records"]);
    assert_eq!(checked.out, "", "nothing is called good");
    let not_yet = format!("file:{}/not/yet", home.path().display());
    let checked = home.run(["check", "--store", &not_yet]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(!home.path().join("not").exists());
}

#[tokio::test]
async fn wrong_usage_is_two_and_a_gateway_that_is_not_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["serv"][..],
        &[],
        &["serve", "--nonsense"],
        &["keys"],
        &["keys", "show"],
        &["keys", "forget", "xyz"],
        &["keys", "list", "--limit", "0"],
    ] {
        assert_eq!(
            in_folder(folder.path(), arguments).await.code,
            Some(2),
            "{arguments:?}"
        );
    }
    for arguments in [&["health"][..], &["keys", "list"]] {
        let admin = ["--admin", "http://127.0.0.1:1"];
        let finished = in_folder(folder.path(), &[arguments, &admin].concat()).await;
        assert_says(&finished, 1, &["127.0.0.1:1", "--admin"]);
    }
}

#[tokio::test]
async fn commands_that_need_no_gateway() {
    let folder = tempfile::tempdir().unwrap();
    in_folder(folder.path(), &["init"]).await.good();
    let again = in_folder(folder.path(), &["init"]).await;
    assert_says(&again, 1, &["onlyonce.toml", "there already"]);
    in_folder(
        folder.path(),
        &["check", "--upstream", "http://127.0.0.1:1"],
    )
    .await
    .good();
    let printed = in_folder(
        folder.path(),
        &["print-config", "--upstream", "http://127.0.0.1:1"],
    )
    .await;
    std::fs::write(folder.path().join("printed.toml"), printed.good().out).unwrap();
    in_folder(folder.path(), &["check", "--config", "printed.toml"])
        .await
        .good();
    assert!(
        in_folder(folder.path(), &["--version"])
            .await
            .good()
            .out
            .starts_with("onlyonce ")
    );
    let completions = in_folder(folder.path(), &["completions", "bash"])
        .await
        .good();
    assert!(completions.out.contains("onlyonce"));
}
