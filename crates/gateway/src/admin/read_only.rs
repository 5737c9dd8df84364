//! The switch of read-only mode, for operators.

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use onlyonce_pipeline::read_only::ReadOnly;
use serde::{Deserialize, Serialize};

use super::api::{Refusal, refusal};
use super::guard::OPERATOR_HEADER;
use crate::front::Peer;

/// The routes of the switch; `None`: nothing would follow it, and they say so.
pub(super) fn router<S>(switch: Option<ReadOnly>) -> Router<S> {
    Router::new()
        .route("/-/read-only", get(show).post(turn))
        .with_state(Switchable(switch))
}

#[derive(Clone)]
struct Switchable(Option<ReadOnly>);

impl Switchable {
    fn switch(&self) -> Result<&ReadOnly, Refusal> {
        self.0.as_ref().ok_or_else(|| {
            let detail =
                "read-only mode can't be switched: write `switchable = true` in [read_only]";
            refusal(StatusCode::NOT_FOUND, detail)
        })
    }
}

/// Whether read-only mode is on, or is to be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    on: bool,
}

async fn show(State(switchable): State<Switchable>) -> Result<Json<Position>, Refusal> {
    let on = switchable.switch()?.is_on();
    Ok(Json(Position { on }))
}

async fn turn(
    State(switchable): State<Switchable>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Json(Position { on }): Json<Position>,
) -> Result<Json<Position>, Refusal> {
    let before = switchable.switch()?.set(on);
    let operator = headers
        .get(OPERATOR_HEADER)
        .and_then(|value| value.to_str().ok());
    tracing::info!(
        target: "onlyonce::audit",
        operator = operator.unwrap_or("-"),
        peer = peer.map(|Extension(peer)| tracing::field::display(peer.addr)),
        before,
        on,
        "read-only mode"
    );
    Ok(Json(Position { on }))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use axum::http::header::CONTENT_TYPE;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn call(switch: Option<&ReadOnly>, body: Option<&'static str>) -> (u16, String) {
        let request = match body {
            None => Request::get("/-/read-only"),
            Some(_) => Request::post("/-/read-only"),
        };
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body.unwrap_or_default()))
            .unwrap();
        let router: Router = router(switch.cloned());
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn it_is_shown_and_turned() {
        let switch = ReadOnly::off();
        let on = (200, r#"{"on":true}"#.to_owned());
        let off = (200, r#"{"on":false}"#.to_owned());
        assert_eq!(call(Some(&switch), None).await, off);
        assert_eq!(call(Some(&switch), Some(r#"{"on":true}"#)).await, on);
        assert!(switch.is_on());
        assert_eq!(call(Some(&switch), None).await, on);
        assert_eq!(call(Some(&switch), Some(r#"{"on":false}"#)).await, off);
        assert!(!switch.is_on());
    }

    #[tokio::test]
    async fn what_is_malformed_turns_nothing() {
        let switch = ReadOnly::on();
        for body in [
            "",
            "{}",
            r#"{"on":"no"}"#,
            r#"{"off":true}"#,
            r#"{"on":false,"x":1}"#,
        ] {
            let (status, said) = call(Some(&switch), Some(body)).await;
            assert!((400..500).contains(&status), "{body}: {said}");
        }
        assert!(switch.is_on());
    }

    #[tokio::test]
    async fn without_a_layer_that_follows_it_says_so() {
        for body in [None, Some(r#"{"on":true}"#)] {
            let (status, said) = call(None, body).await;
            assert_eq!(status, 404);
            assert!(said.contains("switchable = true"), "{said}");
        }
    }
}
