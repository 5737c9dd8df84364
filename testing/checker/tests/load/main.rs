//! Load with duplicates on real engines, while their store fails over, crashes, or cheats.
#![expect(
    clippy::unwrap_used,
    reason = "a test says best what is wrong by its line"
)]

mod clock;
mod generator;
mod node;
mod outside;
mod planted;
