//! The layer that lets few addresses in.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Extensions;
use tower_layer::Layer;

use super::super::addr::{AddrFn, default_addr};
use super::paths::{ProtectedPath, ProtectedPathError};
use super::service::AllowListService;
use super::{AllowList, SharedPaths};
use crate::Answers;

/// Lets only the addresses of an [`AllowList`] reach protected paths: all others get code 59, as
/// does everybody while the list is empty. Other paths are open to all.
///
/// It needs the client's address of a layer outside, as
/// [`BlocklistLayer`](crate::blocklist::BlocklistLayer) does; without one nobody is let in.
///
/// # Example
/// ```
/// use http::{Request, Response};
/// use onlyonce_pipeline::Answers;
/// use onlyonce_pipeline::blocklist::{AllowList, AllowListLayer};
/// use std::net::SocketAddr;
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let list = AllowList::parse(["192.0.2.0/24"])?;
/// let layer = AllowListLayer::new(list, ["/internal/{*rest}"], Answers::new())?;
/// let service = layer.layer(service_fn(async |_: Request<()>| {
///     Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Empty::<&[u8]>::new()))
/// }));
/// let stranger: SocketAddr = "203.0.113.9:49152".parse()?;
/// let request = Request::get("/internal/reports").extension(stranger).body(())?;
/// assert_eq!(service.oneshot(request).await?.status(), 403);
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct AllowListLayer {
    list: Arc<AllowList>,
    paths: SharedPaths,
    answers: Answers,
    address: AddrFn,
}

impl AllowListLayer {
    /// Protects paths by `list`, and refuses in the way of `answers`. Paths are patterns as in
    /// axum: `/reports`, `/reports/{id}`, `/reports/{*rest}`, which holds `/reports` as well.
    /// Another spelling of a protected path is protected, too: in other letters, with empty, `.` or
    /// `..` segments, with `;` parameters, percent-encoded.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn new<T: AsRef<str>>(
        list: AllowList,
        paths: impl IntoIterator<Item = T>,
        answers: Answers,
    ) -> Result<Self, ProtectedPathError> {
        let paths = paths.into_iter();
        let paths: Result<Vec<_>, _> = paths
            .map(|path| ProtectedPath::parse(path.as_ref()))
            .collect();
        Ok(Self {
            list: Arc::new(list),
            paths: paths?.into(),
            answers,
            address: default_addr(),
        })
    }

    /// Finds the client's address by `address`: see
    /// [`BlocklistLayer::with_client_addr`](crate::blocklist::BlocklistLayer::with_client_addr).
    pub fn with_client_addr(
        mut self,
        address: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.address = Arc::new(address);
        self
    }
}

impl<S> Layer<S> for AllowListLayer {
    type Service = AllowListService<S>;

    fn layer(&self, inner: S) -> AllowListService<S> {
        AllowListService {
            inner,
            list: Arc::clone(&self.list),
            paths: Arc::clone(&self.paths),
            answers: self.answers.clone(),
            address: Arc::clone(&self.address),
        }
    }
}

impl fmt::Debug for AllowListLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllowListLayer")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}
