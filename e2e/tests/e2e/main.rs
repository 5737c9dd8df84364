//! Scenarios over real sockets, with real processes. See `onlyonce_e2e`.

mod once;
