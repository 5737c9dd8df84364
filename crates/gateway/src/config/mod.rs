//! The gateway's settings: read, checked, and typed.
//!
//! [`Settings::load`] reads them from [`Sources`] (a file, the environment, flags) and says
//! everything that is wrong with them at once, each with its place and the remedy. What it
//! returns has been checked: every value is what it says, and no two contradict each other.
//!
//! One file under `elements` stands for each section.

mod decode;
mod duration;
mod elements;
mod env;
mod error;
mod init;
mod load;
mod mask;
mod names;
mod page;
mod policy;
mod print;
mod raw;
mod report;
mod routes;
mod scalar;
mod schema;
mod settings;
mod size;
mod source;
mod tree;

pub(crate) use duration::span;
pub use elements::access_log::{AccessLogSettings, LineTarget, RowStore, RowUrl};
pub use elements::admin::AdminSettings;
pub use elements::auth::{Auth, AuthError, AuthSettings, ModuleKind, ModuleSettings, RouteAuth};
pub use elements::blocklist::{AllowListSettings, BlocklistSettings, BlocklistUrl};
pub use elements::client_address::ClientAddressSettings;
pub use elements::context::ContextSettings;
pub use elements::cors::{CorsRule, CorsSettings};
pub use elements::envelope::{EnvelopeRule, EnvelopeSettings, Speech};
pub use elements::filter::{FilterRule, FilterSettings, SchemaFile};
pub use elements::limits::LimitSettings;
pub use elements::log::{LogFormat, LogLevel, LogSettings};
pub use elements::proxy::{ProxySettings, ViaName};
pub use elements::read_only::ReadOnlySettings;
pub use elements::store::{StoreSettings, StoreUrl};
pub use elements::tls::TlsSettings;
pub use elements::wrappers::{BreakerSettings, EncryptionSettings, ScrubEntry, WrapperSettings};
pub use env::ADMIN_URL;
pub use error::{ConfigErrors, Warning};
pub use init::{INIT_TEMPLATE, InitError, init};
pub use load::{Loaded, admin_listen, store_url};
pub use onlyonce_disk::Durability;
pub use page::settings_page;
pub use routes::{Matched, Route, RouteLayers, RouteTable};
pub use schema::schema_json;
pub use settings::Settings;
pub use source::{DEFAULT_FILE, Flag, Sources};

#[cfg(test)]
mod tests;
