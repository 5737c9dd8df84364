//! Keeps the access log of the request pipeline in `SQLite` or `PostgreSQL`.
