//! The blocklist in a file.

use std::path::PathBuf;

use onlyonce_core::{Clock as _, ManualClock};
use tempfile::TempDir;

use super::super::*;
use super::support::{eager, ip, until};

struct Place {
    _folder: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocklist.json");
    Place {
        _folder: folder,
        path,
    }
}

impl Place {
    /// A node of its own: another process has no more in common with the others.
    async fn open(&self) -> Blocklist {
        let store = FileBlocklist::new(&self.path);
        Blocklist::load_with(store, eager()).await.unwrap()
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }
}

#[tokio::test]
async fn entries_survive_the_process() {
    let place = place();
    let list = place.open().await;
    let draft = Draft::new("10.0.0.0/24").with_remark("探测");
    let one = list.add(&draft).await.unwrap();
    let two = list.add(&Draft::new("10.0.1.1")).await.unwrap();
    assert!(list.remove(two.id).await.unwrap());
    assert!(list.hit(ip("10.0.0.9")).is_some());
    list.flush_hits().await.unwrap();
    drop(list);
    let list = place.open().await;
    assert_eq!(list.find(ip("10.0.0.9")), Some(one.id));
    assert_eq!(list.find(ip("10.0.1.1")), None);
    let found = list.entries(None, 9).await.unwrap();
    assert_eq!(found, [Entry { hits: 1, ..one }]);
    let three = list.add(&Draft::new("10.0.1.1")).await.unwrap();
    assert!(three.id > two.id, "a name is never given again");
}

#[tokio::test]
async fn what_another_process_writes_is_seen() {
    let place = place();
    let (here, there) = (place.open().await, place.open().await);
    let entry = here.add(&Draft::new("10.0.0.1")).await.unwrap();
    until("the entry", async || {
        there.find(ip("10.0.0.1")) == Some(entry.id)
    })
    .await;
    assert!(there.remove(entry.id).await.unwrap());
    until("its end", async || here.find(ip("10.0.0.1")).is_none()).await;
}

#[tokio::test]
async fn people_may_write_it_and_be_wrong() {
    let place = place();
    place.write(
        r#"{"version": 1, "entries": [
            {"id": 7, "ip": "10.0.0.1"},
            {"id": 8, "ip": "10.0.0.300"},
            {"id": 9},
            "nonsense",
            {"id": 10, "ip": "10.0.0.2", "status": 0}
        ]}"#,
    );
    let list = place.open().await;
    assert_eq!(list.find(ip("10.0.0.1")), Some(EntryId(7)));
    assert_eq!(list.find(ip("10.0.0.2")), None);
    let wrong: Vec<_> = list.unreadable().into_iter().map(|one| one.id).collect();
    assert_eq!(wrong, [Some(EntryId(8)), Some(EntryId(9))]);
    // What is not understood is not lost, and can be mended or removed.
    let added = list.add(&Draft::new("10.0.0.3")).await.unwrap();
    assert_eq!(added.id, EntryId(11));
    let text = std::fs::read_to_string(&place.path).unwrap();
    assert!(
        text.contains("nonsense") && text.contains("10.0.0.300"),
        "{text}"
    );
    assert!(list.remove(EntryId(8)).await.unwrap());
    let mended = list
        .update(EntryId(9), &Draft::new("10.0.0.9"))
        .await
        .unwrap();
    assert!(mended.is_some());
    assert_eq!(list.find(ip("10.0.0.9")), Some(EntryId(9)));
    assert!(list.unreadable().is_empty());
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_state_and_is_not_written_over() {
    let place = place();
    let list = place.open().await;
    list.add(&Draft::new("10.0.0.1")).await.unwrap();
    place.write("{\n  \"version\": 1,\n  \"entries\": [,]\n}");
    until("the failure", async || list.stats().failed_reloads > 0).await;
    assert!(list.find(ip("10.0.0.1")).is_some());
    let BlocklistError::Store(refused) = list.add(&Draft::new("10.0.0.2")).await.unwrap_err()
    else {
        panic!("the store refuses it");
    };
    let message = refused.to_string();
    assert!(
        message.contains("blocklist.json, line 3, column 15"),
        "{message}"
    );
    place.write(r#"{"version": 2, "entries": []}"#);
    let error = list.reload().await.unwrap_err();
    let BlocklistError::Store(error) = error else {
        panic!("the store refuses it");
    };
    assert!(error.to_string().contains("has version 2"), "{error}");
    assert!(list.find(ip("10.0.0.1")).is_some());
}

#[tokio::test]
async fn a_file_that_is_gone_is_no_empty_one() {
    let place = place();
    let list = place.open().await;
    let entry = list.add(&Draft::new("10.0.0.1")).await.unwrap();
    let elsewhere = place.path.with_file_name("put-away");
    std::fs::rename(&place.path, &elsewhere).unwrap();
    until("the failure", async || list.stats().failed_reloads > 0).await;
    assert_eq!(list.find(ip("10.0.0.1")), Some(entry.id));
    // What is added now would be all that there is.
    let BlocklistError::Store(error) = list.add(&Draft::new("10.0.0.2")).await.unwrap_err() else {
        panic!("the store refuses it");
    };
    assert!(
        error.to_string().contains("is gone: put it back"),
        "{error}"
    );
    std::fs::rename(&elsewhere, &place.path).unwrap();
    list.add(&Draft::new("10.0.0.2")).await.unwrap();
    place.write(r#"{"version": 1, "entries": []}"#);
    until("its end", async || list.find(ip("10.0.0.1")).is_none()).await;
}

/// A writer that was killed before it had replaced the file.
#[tokio::test]
async fn half_a_file_of_a_dead_writer_is_no_matter() {
    let place = place();
    let list = place.open().await;
    let entry = list.add(&Draft::new("10.0.0.1")).await.unwrap();
    drop(list);
    std::fs::write(place.path.with_file_name("blocklist.json.next"), "{\"vers").unwrap();
    let list = place.open().await;
    assert_eq!(list.find(ip("10.0.0.1")), Some(entry.id));
    list.add(&Draft::new("10.0.0.2")).await.unwrap();
    assert_eq!(place.open().await.stats().entries, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_take_turns() {
    let place = place();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u8 {
        let store = FileBlocklist::new(&place.path);
        writers.spawn(async move {
            for round in 0..10_u8 {
                let draft = Draft::new(format!("10.0.{writer}.{round}"));
                store.add(&draft, ManualClock::new().now()).await.unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let list = place.open().await;
    let mut ids: Vec<_> = list.entries(None, 99).await.unwrap();
    ids.dedup_by_key(|entry| entry.id);
    assert_eq!(ids.len(), 40);
}

#[tokio::test]
async fn hits_are_no_change() {
    let place = place();
    let store = FileBlocklist::new(&place.path);
    let now = ManualClock::new().now();
    let (revision, entry) = store.add(&Draft::new("10.0.0.1"), now).await.unwrap();
    store
        .add_hits(&[(entry.id, 3), (EntryId(99), 1)])
        .await
        .unwrap();
    let listing = store.list(Some(revision)).await.unwrap();
    assert!(!listing.complete && listing.entries.is_empty());
    assert_eq!(store.look_up(&[entry.id]).await.unwrap()[0].hits, 3);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileBlocklist::new(folder.path().join("missing/blocklist.json"));
    let error = store
        .add(&Draft::new("10.0.0.1"), ManualClock::new().now())
        .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("missing/blocklist.json can't be locked"),
        "{error}"
    );
}
