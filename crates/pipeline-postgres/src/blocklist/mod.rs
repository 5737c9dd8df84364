//! The blocklist.
