//! The codec: what was encoded comes back, and nothing else is taken for it.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use onlyonce_core::codec::{
    DecodeError, decode_entry, decode_response, encode_entry, encode_response,
};
use onlyonce_core::{
    Algorithm, Entry, EntryState, Fence, Fingerprint, Nonce, StoredResponse, Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn fields() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
    let value = vec(
        prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff, Just(b'\t')],
        0..20,
    );
    let field = ("[a-z][a-z0-9-]{0,10}", value).prop_map(|(name, value)| {
        (
            name.parse().unwrap(),
            HeaderValue::from_bytes(&value).unwrap(),
        )
    });
    vec(field, 0..6)
}

fn response() -> impl Strategy<Value = StoredResponse> {
    (100_u16..=999, fields(), vec(any::<u8>(), 0..200), fields()).prop_map(
        |(status, headers, body, trailers)| StoredResponse {
            status,
            headers,
            body: body.into(),
            trailers,
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let state = prop_oneof![
        (any::<u64>(), any::<u64>()).prop_map(|(until, keep)| EntryState::InProgress {
            lease_until: Timestamp::from_millis(until),
            keep: Duration::from_millis(keep),
        }),
        Just(EntryState::Unknown),
        (any::<u16>(), proptest::option::of(vec(any::<u8>(), 0..200))).prop_map(
            |(status, kept)| EntryState::Completed {
                status,
                kept: kept.map(Bytes::from)
            }
        ),
    ];
    let digest = proptest::option::of((any::<[u8; 32]>(), any::<bool>()));
    (
        digest,
        1..u32::MAX,
        any::<u64>(),
        any::<[u8; 16]>(),
        any::<[u64; 2]>(),
        ".{0,20}",
        state,
    )
        .prop_map(
            |(digest, attempt, fence, nonce, [created, expires], label, state)| Entry {
                fingerprint: digest.map(|(digest, on)| {
                    let algorithm = if on {
                        Algorithm::Blake3
                    } else {
                        Algorithm::Off
                    };
                    Fingerprint::from_parts(algorithm, digest)
                }),
                attempt,
                fence: Fence::new(fence),
                nonce: Nonce::from_bytes(nonce),
                created: Timestamp::from_millis(created),
                expires: Timestamp::from_millis(expires),
                state,
                label: label.into(),
            },
        )
}

#[test]
fn a_fraction_of_a_millisecond_rounds_up_as_deadlines_do() {
    let entry = Entry {
        fingerprint: None,
        attempt: 1,
        fence: Fence::new(1),
        nonce: Nonce::from_bytes([1; 16]),
        created: Timestamp::from_millis(0),
        expires: Timestamp::from_millis(12),
        state: EntryState::InProgress {
            lease_until: Timestamp::from_millis(10),
            keep: Duration::from_micros(1_001),
        },
        label: "".into(),
    };
    let decoded = decode_entry(encode_entry(&entry)).expect("it was just encoded");
    let EntryState::InProgress { keep, .. } = decoded.state else {
        panic!("in progress, not {:?}", decoded.state);
    };
    assert_eq!(keep, Duration::from_millis(2));
}

proptest! {
    #[test]
    fn hazard_25_a_response_comes_back_as_it_was(response in response()) {
        let encoded = encode_response(&response);
        prop_assert_eq!(decode_response(encoded), Ok(response));
    }

    #[test]
    fn an_entry_comes_back_as_it_was(entry in entry()) {
        prop_assert_eq!(decode_entry(encode_entry(&entry)), Ok(entry));
    }

    #[test]
    fn every_shorter_or_longer_text_is_refused(response in response(), entry in entry()) {
        for encoded in [encode_response(&response), encode_entry(&entry)] {
            for end in 0..encoded.len() {
                prop_assert!(decode_response(encoded.slice(..end)).is_err());
                prop_assert!(decode_entry(encoded.slice(..end)).is_err());
            }
            let longer = Bytes::from([&encoded[..], b"\0"].concat());
            prop_assert!(decode_response(longer.clone()).is_err());
            prop_assert!(decode_entry(longer).is_err());
        }
    }

    #[test]
    fn noise_never_panics_nor_allocates_on_its_word(mut noise in vec(any::<u8>(), 0..300)) {
        let _ = decode_response(noise.clone().into());
        let _ = decode_entry(noise.clone().into());
        if noise.len() > 2 {
            noise[1] = 1;
            for tag in [b'R', b'E'] {
                noise[0] = tag;
                let _ = decode_response(noise.clone().into());
                let _ = decode_entry(noise.clone().into());
            }
        }
    }
}

#[test]
fn hazard_47_an_unknown_version_fails_closed() {
    let mut encoded = encode_response(&StoredResponse {
        status: 200,
        ..Default::default()
    })
    .to_vec();
    encoded[1] = 2;
    assert_eq!(
        decode_response(encoded.clone().into()),
        Err(DecodeError::Version(2))
    );
    encoded[0] = b'X';
    assert_eq!(decode_response(encoded.into()), Err(DecodeError::Tag(b'X')));
}

/// Bytes written by version 1, kept here so that a change of the encoding cannot go unnoticed.
#[test]
fn version_1_of_a_response_is_read_for_ever() {
    let old = b"R\x01\xc9\x00\
        \x01\x00\x00\x00\x08\x00location\x02\x00\x00\x00/1\
        \x00\x00\x00\x00\
        \x02\x00\x00\x00\x00\x00\x00\x00hi";
    let expected = StoredResponse {
        status: 201,
        headers: vec![(http::header::LOCATION, HeaderValue::from_static("/1"))],
        body: Bytes::from_static(b"hi"),
        trailers: vec![],
    };
    assert_eq!(
        decode_response(Bytes::from_static(old)),
        Ok(expected.clone())
    );
    assert_eq!(encode_response(&expected), &old[..]);
}

#[test]
fn version_1_of_an_entry_is_read_for_ever() {
    let mut old = b"E\x01\x01".to_vec();
    old.extend([7; 32]);
    old.extend(b"\x02\0\0\0\x09\0\0\0\0\0\0\0");
    old.extend([5; 16]);
    old.extend(b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x04\0\0\0POST");
    old.extend(b"\x02\xc8\0\x02\0\0\0\0\0\0\0ok");
    let expected = Entry {
        fingerprint: Some(Fingerprint::from_parts(Algorithm::Blake3, [7; 32])),
        attempt: 2,
        fence: Fence::new(9),
        nonce: Nonce::from_bytes([5; 16]),
        created: Timestamp::from_millis(1),
        expires: Timestamp::from_millis(2),
        state: EntryState::Completed {
            status: 200,
            kept: Some(Bytes::from_static(b"ok")),
        },
        label: "POST".into(),
    };
    assert_eq!(decode_entry(old.clone().into()), Ok(expected.clone()));
    assert_eq!(encode_entry(&expected), &old[..]);
}

#[test]
fn values_out_of_range_are_named() {
    let mut encoded = encode_response(&StoredResponse {
        status: 200,
        ..Default::default()
    })
    .to_vec();
    encoded[2..4].copy_from_slice(&99_u16.to_le_bytes());
    assert_eq!(
        decode_response(encoded.into()),
        Err(DecodeError::Field("status"))
    );
}
