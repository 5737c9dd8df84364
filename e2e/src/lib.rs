//! The whole of onlyonce, from the outside: the real program, real sockets, real signals.
//!
//! ```no_run
//! use onlyonce_e2e::{Gateway, Reply, Settings, Upstream};
//!
//! # async fn example() {
//! let upstream = Upstream::answering(|_| Reply::new(201).body("charged")).await;
//! let gateway = Gateway::start(Settings::before(&upstream)).await;
//! let first = gateway.post("/charges").key("a").body("10").send().await;
//! let retry = gateway.post("/charges").key("a").body("10").send().await;
//! assert_eq!((first.status, retry.status), (201, 201));
//! assert!(retry.is_replay());
//! assert_eq!(upstream.executions("a"), 1);
//! # }
//! ```
//!
//! - [`Settings`] become a file, [`Home`] is the folder of a gateway that outlives its process,
//!   [`Gateway`] is the process. What it logs is shown when a test fails.
//! - [`Call`] is a request, over HTTP/1.1, HTTP/2 or TLS; [`Wire`] is a connection byte by byte.
//! - [`Upstream`] is a programmable service behind the gateway, [`RawUpstream`] one that does not
//!   even have to speak HTTP. A [`Gate`] holds requests at a point until the test lets them go.
//! - [`eventually`] polls with a deadline. Nothing here sleeps in order to wait.
//! - [`outside`] finds programs that nobody here wrote.
//!
//! Everything ends when it is dropped, each process by its own id.
#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test harness: whatever goes wrong fails the test, at the place where it is used"
)]

mod binary;
mod body;
mod call;
mod clock;
mod gate;
mod gateway;
pub mod outside;
mod process;
mod raw;
mod settings;
pub mod tls;
mod upstream;

pub use binary::onlyonce;
pub use body::{AnyBody, BoxError, counted, full, zeroes};
pub use call::{Answer, Call, Connection, Streaming};
pub use clock::{DEADLINE, eventually, within};
pub use gate::Gate;
pub use gateway::{Gateway, Home};
pub use process::{Finished, Program, free_port, run};
pub use raw::{RawUpstream, Wire};
pub use settings::Settings;
pub use upstream::{Received, Reply, Upstream};
