//! The bodies of the fuzz targets: plain functions over bytes, which panic when a rule is broken.
//!
//! `cargo +nightly fuzz run NAME` drives each with coverage-guided input (see `fuzz/`), and this
//! crate's test drives all of them with seeds and made input on every run of the tests.
//!
//! Each body checks more than that nothing panics: what is accepted must keep the promises of
//! its type, come back from its own encoding, and not depend on how the input was cut.

mod codec_entry;
mod codec_response;
mod config;
mod fingerprint;
mod http_front;
mod input;
mod key_parser;
mod record_id;

pub use codec_entry::codec_entry;
pub use codec_response::codec_response;
pub use config::config;
pub use fingerprint::fingerprint;
pub use http_front::http_front;
pub use key_parser::key_parser;
pub use record_id::record_id;
