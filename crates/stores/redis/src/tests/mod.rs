//! Tests that need to set the clock, or to see what others don't.

mod clock;
mod conformance;
mod differential;
mod shared;
mod support;

pub(crate) use clock::TestClock;
