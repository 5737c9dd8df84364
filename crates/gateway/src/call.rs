//! Calls to a running gateway's admin listener.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::{ADMIN_HEADER, OPERATOR_HEADER};
use crate::upstream::{Upstream, UpstreamOptions};

/// Longest answer, in bytes.
const MOST: usize = 16 << 20;
/// For one call.
const LIMIT: Duration = Duration::from_secs(30);

/// A client of the admin API.
pub(crate) struct AdminClient {
    url: Uri,
    upstream: Upstream,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl AdminClient {
    pub(crate) fn new(url: Uri) -> anyhow::Result<Self> {
        let options = UpstreamOptions {
            total_timeout: Some(LIMIT),
            ..UpstreamOptions::default()
        };
        let upstream = Upstream::new([url.clone()], options)?;
        Ok(Self { url, upstream })
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn get_json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.get(path).await?.json()
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, serde_json::to_vec(body)?.into())
            .await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse()?;
        let headers = request.headers_mut();
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(ADMIN_HEADER, HeaderValue::from_static("1"));
        // Who is at the keyboard, for the audit; whoever can reach the listener can say anything.
        let operator = std::env::var("USER")
            .ok()
            .and_then(|user| user.parse().ok());
        if let Some(operator) = operator {
            headers.insert(OPERATOR_HEADER, operator);
        }
        let response = self
            .upstream
            .send(request, crate::upstream::HostRule::Upstream, false)
            .await
            .with_context(|| {
                format!(
                    "no gateway answers at {}: is it running, and is its admin listener there \
                     (--admin URL)?",
                    self.url
                )
            })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        Ok(Answer { status, body })
    }
}

impl Answer {
    /// The answer's content, if the call was carried out; else what the gateway says of it.
    pub(crate) fn success(self) -> anyhow::Result<Bytes> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let problem: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let detail = problem
            .as_ref()
            .and_then(|problem| problem["detail"].as_str());
        bail!(
            "{}",
            detail.map_or_else(
                || format!("the gateway answers {}", self.status),
                str::to_owned
            )
        )
    }

    pub(crate) fn json<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.success()?).context("the gateway's answer is not understood")
    }
}
