//! Filter.

mod body;
mod future;
mod json;
mod refusal;
#[cfg(feature = "schema")]
pub mod schema;

pub use body::FilterBody;
