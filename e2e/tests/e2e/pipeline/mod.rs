//! The layers around idempotency, through the gateway.

mod context;
mod envelope;
