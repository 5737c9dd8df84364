//! `kill -9`, at random moments, again and again on the same folder.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{
    Attempt, Claim, Completion, Done, Fenced, Fingerprint, Inspect, Nonce, OnUnknown, RecordId,
    State, Store,
};
use onlyonce_disk::DiskStore;
use tempfile::TempDir;

const FOLDER: &str = "ONLYONCE_DISK_KILL_FOLDER";
const ROUND: &str = "ONLYONCE_DISK_KILL_ROUND";
const DAY: Duration = Duration::from_secs(24 * 3600);
const TASKS: u64 = 16;

fn id(number: u64) -> RecordId {
    RecordId::from_bytes(*Fingerprint::of(&number.to_le_bytes()).digest())
}

fn body(number: u64) -> Vec<u8> {
    number
        .to_le_bytes()
        .repeat(usize::try_from(number % 200).unwrap() + 1)
}

fn open(folder: &Path) -> DiskStore {
    DiskStore::builder(folder)
        .segment_bytes(1 << 20)
        .open()
        .unwrap()
}

/// Says each acknowledgement in one write, so that no half of it is read.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("@{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn hammer(store: Arc<DiskStore>, first: u64) {
    for number in (first..).step_by(usize::try_from(TASKS).unwrap()) {
        let attempt = Attempt {
            id: id(number),
            nonce: Nonce::random(),
            fingerprint: None,
            lease: Duration::from_secs(10),
            keep: DAY,
            on_unknown: OnUnknown::Hold,
            label: "kill".into(),
        };
        let Claim::Won(lease) = store.claim(&attempt).await.unwrap() else {
            panic!("nobody else claims {number}");
        };
        say(&format!("claimed {number} {}", lease.fence));
        let done = Completion {
            fingerprint: None,
            done: Done::Kept {
                status: 200,
                result: body(number).into(),
            },
        };
        let fenced = store.complete(&lease, &done, DAY).await.unwrap();
        assert_eq!(fenced, Fenced::Applied);
        say(&format!("completed {number} {}", lease.fence));
    }
}

/// The process that is killed; does nothing unless the other test has started it.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(open(Path::new(&folder)));
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| tokio::spawn(hammer(Arc::clone(&store), round << 32 | task)))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

struct Victim(Child);

impl Victim {
    fn start(folder: &Path, round: u64) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(FOLDER, folder)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn hazard_46_what_was_acknowledged_survives_kill_9() {
    let folder = TempDir::new().unwrap();
    let mut acknowledged: HashMap<u64, bool> = HashMap::new();
    let mut highest = 0;
    for round in 1..=8 {
        let mut victim = Victim::start(folder.path(), round);
        let lines = BufReader::new(victim.0.stdout.take().unwrap()).lines();
        let nonce = Nonce::random();
        // Anywhere from the first acknowledgement to well into the work.
        let kill_after = usize::from(nonce.as_bytes()[0]) * 16 + 1;
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            // The harness writes to the same pipe, and not always a line of its own.
            let Some((_, line)) = line.split_once('@') else {
                continue;
            };
            let words: Vec<&str> = line.split(' ').collect();
            let (number, fence) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            acknowledged.insert(number, words[0] == "completed");
            highest = highest.max(fence);
            seen += 1;
            if seen == kill_after {
                victim.0.kill().unwrap();
            }
        }
        assert!(
            seen >= kill_after,
            "round {round}: the child ended by itself"
        );
        drop(victim);

        let store = open(folder.path());
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(async {
                for (number, completed) in &acknowledged {
                    let record = store.show(&id(*number)).await.unwrap();
                    let record = record.unwrap_or_else(|| panic!("{number} is lost"));
                    match record.state {
                        State::Completed { kept, .. } => {
                            assert_eq!(kept.unwrap(), body(*number), "{number}");
                        }
                        State::InProgress { .. } => assert!(!completed, "{number}"),
                        State::Unknown => panic!("{number} was never left unknown"),
                    }
                }
            });
        // Claims are newer than all before, whoever has seen them.
        let attempt = Attempt {
            id: id(u64::MAX - round),
            nonce,
            fingerprint: None,
            lease: DAY,
            keep: DAY,
            on_unknown: OnUnknown::Hold,
            label: "kill".into(),
        };
        let claim = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(store.claim(&attempt))
            .unwrap();
        let Claim::Won(lease) = claim else {
            panic!("the key is new");
        };
        assert!(lease.fence.get() > highest);
        highest = lease.fence.get();
    }
    assert!(acknowledged.len() > 100);
}
