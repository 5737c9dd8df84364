//! Files that are not as they were left.

use std::io;

use onlyonce_core::{Clock as _, StoreErrorKind};

use super::*;
use crate::disk::sim::{Call, Crash, Fault, Image};
use crate::log::frame::{HEADER, Header};
use crate::log::segment::{self, DATA_START, SegmentHeader};
use crate::log::segment_name;
use crate::recover;

const DATA: usize = DATA_START as usize;

/// A store of several segments with completed, open and removed records; as it lies on the disk
/// after it was closed, and after its process was killed.
fn written() -> (Image, Image) {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = open(&disk, &clock).unwrap();
    block_on(async {
        for key in 0..14 {
            let lease = with_upkeep(&store, win(&store, key)).await;
            if key % 3 == 0 {
                assert_eq!(store.release(&lease).await.unwrap(), Fenced::Applied);
            } else if key != 13 {
                let body = vec![7; 900];
                with_upkeep(&store, finish(&store, &lease, body, KEEP)).await;
            }
        }
    });
    let killed = Crash::at_end_of(&disk.base(), &disk.trace()).image(|_| true);
    drop(store);
    let closed = disk.live();
    assert!(closed.contains_key(&segment_name(2)), "several segments");
    (closed, killed)
}

/// What can be read of a store: where each key lies, or why it does not open.
fn opened(image: &Image) -> Result<Vec<Option<(u32, u32)>>, StoreError> {
    let disk = SimDisk::new(image.clone());
    let now = ManualClock::new().now();
    let recovered = recover::recover(&disk, "sim", now, SEGMENT)?;
    let index = recovered.start.index;
    Ok((0..14)
        .map(|key| {
            let slot = index.find(&id(key))?;
            Some((slot.at.segment, slot.at.offset))
        })
        .collect())
}

fn newest(image: &Image) -> u32 {
    let mut numbers = 1..;
    numbers
        .find(|number| !image.contains_key(&segment_name(number + 1)))
        .unwrap()
}

fn refusal(image: &Image) -> StoreError {
    opened(image).expect_err("it must not open")
}

#[test]
fn hazard_46_a_flipped_bit_loses_nothing_in_silence() {
    let (closed, killed) = written();
    for image in [closed, killed] {
        let whole = opened(&image).unwrap();
        let mut refused = 0;
        for (name, bytes) in image.iter().filter(|(name, _)| name.ends_with(".log")) {
            for at in 0..bytes.len() {
                let mut image = image.clone();
                image.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
                match opened(&image) {
                    Ok(found) => assert_eq!(found, whole, "{name} at {at}"),
                    Err(error) => {
                        assert!(error.to_string().contains(name), "{name} at {at}: {error}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(refused > 10_000, "{refused}");
    }
}

#[test]
fn hazard_46_damage_in_the_middle_names_the_place() {
    let (closed, _) = written();
    let mut image = closed.clone();
    image.get_mut(&segment_name(1)).unwrap()[DATA + HEADER + 3] ^= 1;
    let error = refusal(&image);
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    let text = error.to_string();
    assert!(
        text.contains("sim/0000000001.log") && text.contains("offset 4096"),
        "{text}"
    );
    // A whole sector gone is a torn write only where nothing was acknowledged after it.
    let name = segment_name(newest(&closed));
    let mut image = closed;
    image.get_mut(&name).unwrap()[DATA..DATA + 512].fill(0);
    assert_eq!(refusal(&image).kind(), StoreErrorKind::Corrupt);
}

#[test]
fn hazard_46_a_truncated_segment_is_refused() {
    let (closed, killed) = written();
    for image in [closed, killed] {
        let whole = opened(&image).unwrap();
        for name in (1..=newest(&image)).map(segment_name) {
            for length in (0..image[&name].len()).step_by(509) {
                let mut image = image.clone();
                image.get_mut(&name).unwrap().truncate(length);
                match opened(&image) {
                    // A sealed segment's unused end is of no account.
                    Ok(found) => assert_eq!(found, whole, "{name} cut to {length}"),
                    Err(error) => assert_eq!(error.kind(), StoreErrorKind::Corrupt),
                }
            }
        }
    }
}

#[test]
fn hazard_46_a_missing_segment_is_refused() {
    let (closed, _) = written();
    for number in 1..=newest(&closed) {
        let mut image = closed.clone();
        image.remove(&segment_name(number));
        let error = refusal(&image);
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(error.to_string().contains(&segment_name(number)), "{error}");
    }
    let mut image = closed;
    image.retain(|name, _| !name.ends_with(".log"));
    let error = refusal(&image);
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn hazard_46_stale_frames_in_a_preallocated_tail_are_not_data() {
    let (_, killed) = written();
    let whole = opened(&killed).unwrap();
    let (name, first) = (segment_name(newest(&killed)), &killed[&segment_name(1)]);
    let bytes = &killed[&name];
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 8 * 8 + 8;
    // The frames of another segment lie where the next ones would go.
    let mut image = killed.clone();
    let length = (bytes.len() - end).min(first.len() - DATA);
    image.get_mut(&name).unwrap()[end..end + length].copy_from_slice(&first[DATA..DATA + length]);
    match opened(&image) {
        Ok(found) => assert_eq!(found, whole),
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Corrupt),
    }
}

#[test]
fn hazard_47_an_unknown_format_fails_closed() {
    let (closed, _) = written();
    let mut image = closed;
    image.get_mut(&segment_name(1)).unwrap()[8] = 2;
    let error = refusal(&image);
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(error.to_string().contains("version is 2"), "{error}");
}

#[test]
fn hazard_47_an_unknown_record_version_fails_closed() {
    let (closed, _) = written();
    let mut image = closed;
    let name = segment_name(1);
    let file = image.get_mut(&name).unwrap();
    let disk = SimDisk::new([(name.clone(), file.clone())].into());
    let header = crate::disk::Disk::open(&disk, &name).unwrap();
    let seed = SegmentHeader::read(&*header).unwrap().unwrap().seed();
    // A frame as a later version might write it: whole, and its record of another version.
    let mut frame = Header::decode(&file[DATA..], seed).unwrap();
    let meta = DATA + HEADER;
    file[meta + 1] = 9;
    frame.meta_crc = crc32c::crc32c(&file[meta..meta + frame.meta_len as usize]);
    let mut bytes = Vec::new();
    frame.encode(seed, &mut bytes);
    file[DATA..DATA + HEADER].copy_from_slice(&bytes);
    let error = refusal(&image);
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(error.to_string().contains("version 9"), "{error}");
}

#[test]
fn foreign_files_are_refused() {
    let image: Image = [("holiday.jpg".to_owned(), vec![1])].into();
    let error = refusal(&image);
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(error.to_string().contains("`holiday.jpg`"), "{error}");

    let image: Image = [(
        segment_name(1),
        b"not a segment, but long enough to be one: \
        it goes on and on, and says nothing at all that anybody would want to read"
            .to_vec(),
    )]
    .into();
    assert!(refusal(&image).to_string().contains("not a segment"));

    // Segments of two stores in one folder.
    let (one, _) = written();
    let (mut two, _) = written();
    two.insert(segment_name(1), one[&segment_name(1)].clone());
    assert!(refusal(&two).to_string().contains("another store"));

    // What others leave everywhere does not matter.
    let image: Image = [(".DS_Store".to_owned(), vec![1])].into();
    opened(&image).unwrap();
}

#[test]
fn a_folder_that_may_not_be_written_is_refused_with_the_remedy() {
    for (kind, remedy) in [
        (
            io::ErrorKind::PermissionDenied,
            "the right to read and write",
        ),
        (io::ErrorKind::ReadOnlyFilesystem, "can be written to"),
    ] {
        let disk = SimDisk::new(Image::new());
        disk.interfere(move |call, _| (call == Call::Lock).then_some(Fault::Fail(kind)));
        let error = open(&disk, &Arc::new(ManualClock::new())).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[test]
fn a_damaged_record_is_an_error_and_never_a_miss() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = open(&disk, &clock).unwrap();
    block_on(async {
        let lease = win(&store, 1).await;
        finish(&store, &lease, vec![7; 100], KEEP).await;
        let file = crate::disk::Disk::open(&disk, &segment_name(1)).unwrap();
        let mut bytes = vec![0; SEGMENT as usize];
        file.read_full(&mut bytes, 0).unwrap();
        let body = bytes
            .windows(100)
            .position(|bytes| bytes == [7; 100])
            .unwrap();
        file.write_full(&[8], body as u64 + 50).unwrap();
        let error = store.claim(&attempt(1)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(error.to_string().contains("0000000001.log"), "{error}");
    });
}

#[test]
fn a_segment_removed_behind_the_stores_back_is_an_error() {
    let (disk, clock) = (SimDisk::new(Image::new()), Arc::new(ManualClock::new()));
    let store = open(&disk, &clock).unwrap();
    block_on(async {
        let lease = win(&store, 1).await;
        finish(&store, &lease, vec![7; 100], KEEP).await;
        crate::disk::Disk::remove(&disk, &segment_name(1)).unwrap();
        let error = store.claim(&attempt(1)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(error.to_string().contains("is missing"), "{error}");
    });
}

#[test]
fn seeds_differ_by_store_and_number() {
    let seed = segment::seed(&[1; 16], 1);
    assert_ne!(seed, segment::seed(&[1; 16], 2));
    assert_ne!(seed, segment::seed(&[2; 16], 1));
}
