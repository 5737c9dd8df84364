//! Bodies: one enum for each direction, unboxed on the ways that are taken most.

mod error;
mod hashing;
mod request;
mod response;

pub use error::BodyError;
pub(super) use hashing::{Hashed, Hashing, HashingBody, Rest};
pub use request::RequestBody;
pub(super) use request::{Prefix, poll_inner, read_prefix};
pub use response::ResponseBody;
pub(super) use response::{FrameSender, channel};

use bytes::{Buf, Bytes};
use http_body::Frame;

/// A frame over any buffer as a frame over `Bytes`; no copy where it is one already.
fn to_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}
