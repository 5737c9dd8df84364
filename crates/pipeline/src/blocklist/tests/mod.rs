//! The blocklist as a whole.

mod file;
mod layer;
mod list;
mod rules;
mod support;
