//! `codec::decode_response`: the result in a record.

use bytes::Bytes;
use onlyonce_core::codec::{decode_response, encode_response};

/// Whatever a store gives back as a recorded response.
///
/// # Panics
/// When a response that was decoded does not come back from its own encoding.
pub fn codec_response(data: &[u8]) {
    let Ok(response) = decode_response(Bytes::copy_from_slice(data)) else {
        return;
    };
    assert!((100..=999).contains(&response.status));
    let encoded = encode_response(&response);
    // Names of fields are read in any case and written in lower case; the rest has one form.
    assert!(encoded.eq_ignore_ascii_case(data));
    assert_eq!(decode_response(encoded.clone()), Ok(response));
    // A torn or padded record is refused, never guessed at.
    assert!(decode_response(encoded.slice(..encoded.len() - 1)).is_err());
    assert!(decode_response([&encoded[..], b"x"].concat().into()).is_err());
}
