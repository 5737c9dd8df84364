//! `onlyonce demo`: what a newcomer sees.

use std::path::Path;
use std::process::Command;

use onlyonce_e2e::{Call, Program, eventually, onlyonce};
use rustix::process::Signal;

/// A running demonstration, and what it has printed up to its last line.
pub(crate) async fn demo(folder: &Path) -> (Program, String) {
    let mut command = Command::new(onlyonce());
    command.args([
        "demo",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    command.current_dir(folder);
    let mut program = Program::start(command, &folder.join("printed"));
    let printed = eventually("the demonstration", || {
        assert_eq!(program.ended(), None, "{}", program.log());
        let printed = program.log();
        std::future::ready(printed.contains("Ctrl-C ends it.").then_some(printed))
    })
    .await;
    (program, printed)
}

#[tokio::test]
async fn it_shows_a_charge_and_its_retry_and_ends_at_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let (mut program, printed) = demo(folder.path()).await;
    assert!(
        printed.contains("Two requests were sent. Charges made: 1\n"),
        "{printed}"
    );
    assert_eq!(printed.matches("HTTP 201 Created").count(), 2, "{printed}");
    assert_eq!(
        printed.matches("Idempotent-Replayed: true").count(),
        1,
        "{printed}"
    );
    let answers: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains("\"amount\":4200"))
        .collect();
    assert!(answers.len() == 2 && answers[0] == answers[1], "{printed}");

    let address = printed
        .split_once("the gateway before it on http://")
        .unwrap()
        .1;
    let address = address.split_once(' ').unwrap().0.parse().unwrap();
    let charges = || async {
        let answer = Call::new(address, http::Method::GET, "/charges")
            .send()
            .await;
        answer.json()["count"].as_u64().unwrap()
    };
    assert_eq!(charges().await, 1);
    let call = || {
        Call::new(address, http::Method::POST, "/charges")
            .key("mine")
            .json("{\"amount\":1}")
    };
    assert_eq!(call().send().await.status, 201);
    assert!(call().send().await.is_replay());
    assert_eq!(charges().await, 2);

    program.signal(Signal::INT);
    assert_eq!(program.end().await.code(), Some(0), "{}", program.log());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but what it printed");
}
