//! What is kept comes back byte for byte.

use bytes::Bytes;
use onlyonce_core::{Attempt, Fenced, Page, Resolution, Resolved, State};

use crate::Harness;
use crate::rig::{
    LEASE, LIFETIME, Rig, attempt, kept, new_id, result_of, retry_of, successor_of, ticks,
};

/// Hazard 25: binary results, in every byte value and in sequences that are special somewhere.
pub async fn hazard_25_binary_results_come_back<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let every_byte: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
    let results: [Bytes; 7] = [
        every_byte.into(),
        Bytes::from_static(b"\0"),
        Bytes::from_static(b"\r\n$-1\r\n*0\r\n"),
        Bytes::from_static(b"\xff\xfe\xc3\x28\x80"),
        Bytes::from_static(b"\\x00'; DROP TABLE records; --"),
        Bytes::from_static(b" padded "),
        Bytes::from_static(b"\n"),
    ];
    for result in results {
        assert_comes_back(&rig, result).await;
    }
}

/// Hazard 24: an empty result is a result: kept, and told apart from one that was not.
pub async fn hazard_24_empty_result_is_a_result<H: Harness>() {
    let rig = Rig::<H>::new().await;
    assert_comes_back(&rig, Bytes::new()).await;
    let bid = attempt::<H>(new_id());
    rig.win(&bid).await;
    rig.pass(LEASE).await;
    let resolution = Resolution::Completed {
        status: 204,
        result: Some(Bytes::new()),
    };
    assert_eq!(rig.resolve(&bid.id, &resolution).await, Resolved::Applied);
    let record = rig.held(&retry_of(&bid)).await;
    assert_eq!(result_of(&record), Some(Bytes::new()));
}

/// A record of 8 MiB, and ones around the sizes at which encodings and buffers turn over.
pub async fn large_results_come_back<H: Harness>() {
    let rig = Rig::<H>::new().await;
    for length in [4_095, 4_096, 65_535, 65_536, 65_537, 1 << 20, 8 << 20] {
        // No period that divides a power of two, so that a lost or repeated block shows.
        let result: Vec<u8> = (0_u8..=250).cycle().take(length).collect();
        assert_comes_back(&rig, result.into()).await;
    }
}

/// Labels are any text: long, in any script, with control characters and quotes, or empty.
pub async fn hostile_labels_come_back<H: Harness>() {
    let rig = Rig::<H>::new().await;
    let long = "/a-path-that-never-ends".repeat(3_000);
    let labels = [
        "",
        " ",
        "POST /caf\u{e9}/\u{6771}\u{4eac}/\u{1f980}",
        "right-to-left \u{202e} and zero\u{200b}width, e\u{301}",
        "a\0b\u{1}\u{7f}\u{85}\r\n\t\u{1b}[31m",
        "'; DROP TABLE records; -- \" ` $1 %s {} \\",
        "{\"json\": [1, 2]}",
        "\u{10ffff}\u{fffd}",
        long.as_str(),
    ];
    for label in labels {
        let bid = Attempt {
            label: label.into(),
            ..attempt::<H>(new_id())
        };
        let lease = rig.win(&bid).await;
        assert_eq!(&*rig.held(&retry_of(&bid)).await.label, label);
        assert_eq!(rig.renew(&lease).await, Fenced::Applied);
        assert_eq!(rig.complete(&lease, "done").await, Fenced::Applied);
        assert_eq!(&*rig.record(&bid.id).await.label, label);
        let listed = rig.list(&Page::default()).await;
        let line = listed.iter().find(|line| line.id == bid.id);
        let line = line.expect("the record is listed");
        assert_eq!(&*line.record.label, label);
    }
    // A successor brings its own.
    let bid = attempt::<H>(new_id());
    rig.win(&bid).await;
    rig.pass(LEASE).await;
    let next = Attempt {
        label: long.as_str().into(),
        ..successor_of(&bid)
    };
    rig.win(&next).await;
    assert_eq!(*rig.record(&bid.id).await.label, *long);
}

async fn assert_comes_back<H: Harness>(rig: &Rig<H>, result: Bytes) {
    let length = result.len();
    let bid = attempt::<H>(new_id());
    let lease = rig.win(&bid).await;
    let keep = ticks::<H>(LIFETIME);
    let done = rig.complete_with(&lease, &kept(result.clone()), keep).await;
    assert_eq!(done, Fenced::Applied);
    let expected = State::Completed {
        status: 201,
        kept: Some(result),
    };
    // Compared, not printed: megabytes in a panic's message help nobody.
    let held = rig.held(&retry_of(&bid)).await.state;
    assert!(
        held == expected,
        "{length} bytes are told to a claim as kept"
    );
    let shown = rig.record(&bid.id).await.state;
    assert!(shown == expected, "{length} bytes are shown as kept");
}
