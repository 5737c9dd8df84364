//! The request pipeline around the idempotency core, as tower layers.
