//! Logins and logouts for the services behind, over HTTP and JSON: they know who somebody is, the
//! gateway keeps the tokens.

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use onlyonce_pipeline::auth::{TokenError, Tokens};
use onlyonce_pipeline::context::Identity;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::api::{Refusal, refusal};
use super::guard::OPERATOR_HEADER;
use crate::front::Peer;
use crate::logins::Logins;

/// The routes of a module's tokens; where there is no such module, they say so.
pub(super) fn router<S>(logins: Logins) -> Router<S> {
    Router::new()
        .route("/api/auth/{module}/login", post(login))
        .route("/api/auth/{module}/refresh", post(refresh))
        .route("/api/auth/{module}/ticket", post(ticket))
        .route("/api/auth/{module}/logout", post(logout))
        .with_state(logins)
}

/// Of a user's ID, so many characters stand in the audit.
const LONGEST_SHOWN: usize = 256;

/// Who logs in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    id: String,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    claims: Map<String, Value>,
}

/// Whose token it is about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    token: String,
}

/// What ends: one login, or all of a user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Logout {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    id: Option<String>,
}

#[derive(Serialize)]
struct Issued {
    token: String,
    expires_in_seconds: u64,
}

#[derive(Serialize)]
struct Ticket {
    ticket: String,
    expires_in_seconds: u64,
}

#[derive(Serialize)]
struct Ended {
    /// Whether there was a login to end.
    ended: bool,
}

type Who = Option<Extension<Peer>>;

async fn login(
    State(logins): State<Logins>,
    Path(module): Path<String>,
    peer: Who,
    headers: HeaderMap,
    Json(who): Json<Login>,
) -> Result<Json<Issued>, Refusal> {
    let tokens = tokens(&logins, &module)?;
    let mut identity = Identity::new(who.id, tokens.app());
    identity.role = who.role;
    identity.claims = who.claims;
    let issued = tokens.login(&identity).await.map_err(refused)?;
    audit("login", &module, &identity.id, peer, &headers);
    Ok(Json(Issued {
        token: issued.token,
        expires_in_seconds: issued.expires_in.as_secs(),
    }))
}

async fn refresh(
    State(logins): State<Logins>,
    Path(module): Path<String>,
    Json(held): Json<Held>,
) -> Result<Json<Issued>, Refusal> {
    let tokens = tokens(&logins, &module)?;
    let issued = tokens.refresh(&held.token).await.map_err(refused)?;
    Ok(Json(Issued {
        token: issued.token,
        expires_in_seconds: issued.expires_in.as_secs(),
    }))
}

async fn ticket(
    State(logins): State<Logins>,
    Path(module): Path<String>,
    Json(held): Json<Held>,
) -> Result<Json<Ticket>, Refusal> {
    let tokens = tokens(&logins, &module)?;
    let issued = tokens.issue_ticket(&held.token).await.map_err(refused)?;
    Ok(Json(Ticket {
        ticket: issued.ticket,
        expires_in_seconds: issued.expires_in.as_secs(),
    }))
}

async fn logout(
    State(logins): State<Logins>,
    Path(module): Path<String>,
    peer: Who,
    headers: HeaderMap,
    Json(whose): Json<Logout>,
) -> Result<Json<Ended>, Refusal> {
    let tokens = tokens(&logins, &module)?;
    let ended = match (whose.token, whose.id) {
        (Some(token), None) => tokens.logout(&token).await.map_err(refused)?,
        (None, Some(id)) => {
            tokens.logout_everywhere(&id).await.map_err(refused)?;
            audit("logout everywhere", &module, &id, peer, &headers);
            true
        }
        _ => {
            let detail = "write either `token`, or `id` for all logins of a user";
            return Err(refusal(StatusCode::BAD_REQUEST, detail));
        }
    };
    Ok(Json(Ended { ended }))
}

fn tokens(logins: &Logins, module: &str) -> Result<Tokens, Refusal> {
    logins.of(module).ok_or_else(|| {
        let detail = "there is no such module: add `[[auth.module]]` to the settings";
        refusal(StatusCode::NOT_FOUND, detail)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn refused(error: TokenError) -> Refusal {
    let status = match &error {
        TokenError::Store(_) | TokenError::Random | TokenError::Signing(_) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a login's call failed"
            );
            StatusCode::SERVICE_UNAVAILABLE
        }
        TokenError::Identity(_) => StatusCode::BAD_REQUEST,
        TokenError::Stateless => {
            let detail = "sessions are not kept: add `state` to [auth]";
            return refusal(StatusCode::CONFLICT, detail);
        }
        TokenError::NoSigningKey => {
            let detail = "tokens are issued elsewhere: [auth] has no `secret`";
            return refusal(StatusCode::CONFLICT, detail);
        }
        _ => StatusCode::UNAUTHORIZED,
    };
    refusal(status, &error.to_string())
}

fn audit(what: &str, module: &str, user: &str, peer: Who, headers: &HeaderMap) {
    let operator = headers
        .get(OPERATOR_HEADER)
        .and_then(|value| value.to_str().ok());
    tracing::info!(
        target: "onlyonce::audit",
        operator = operator.unwrap_or("-"),
        peer = peer.map(|Extension(peer)| tracing::field::display(peer.addr)),
        module,
        user = user.chars().take(LONGEST_SHOWN).collect::<String>(),
        "{what}"
    );
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use axum::http::header::CONTENT_TYPE;
    use http_body_util::BodyExt as _;
    use onlyonce_pipeline::auth::{AuthLayer, Jwks, MemoryTokenStore, TokenKeys};
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::Auth;

    const SECRET: &[u8] = b"Jb2kz0vLq8dYw5Rt7XcN3mPs6UaHf1Ge";
    const PUBLIC: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn logins() -> Logins {
        let keys = || TokenKeys::hs256(SECRET).unwrap();
        let api = Tokens::builder("shop", keys()).with_store(MemoryTokenStore::new());
        let stateless = Tokens::builder("stateless", keys());
        let public = TokenKeys::jwks(Jwks::from_text(PUBLIC).unwrap());
        let logins = Logins::default();
        let tokens = [
            ("api", api),
            ("stateless", stateless),
            ("elsewhere", Tokens::builder("elsewhere", public)),
        ];
        let tokens = tokens.map(|(name, builder)| (name.into(), builder.build().unwrap()));
        let layer = AuthLayer::new([]).unwrap();
        logins.replace(Some(Auth::of(layer, tokens.into())));
        logins
    }

    async fn call(logins: &Logins, path: &str, body: Value) -> (u16, Value) {
        let request = Request::post(format!("/api/auth/{path}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let router: Router = router(logins.clone());
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_login_lives_until_it_is_ended() {
        let logins = logins();
        let who = serde_json::json!({ "id": "7", "role": "editor", "claims": { "dept": 3 } });
        let (status, issued) = call(&logins, "api/login", who.clone()).await;
        assert_eq!(
            (status, &issued["expires_in_seconds"]),
            (200, &Value::from(604_800))
        );
        let first = issued["token"].as_str().unwrap();
        let tokens = logins.of("api").unwrap();
        let identity = tokens.verify(first).await.unwrap();
        assert_eq!(
            (identity.id.as_str(), identity.role.as_deref()),
            ("7", Some("editor"))
        );
        assert_eq!(
            (identity.app.as_str(), &identity.claims["dept"]),
            ("shop", &Value::from(3))
        );

        let held = |token: &str| serde_json::json!({ "token": token });
        let (status, issued) = call(&logins, "api/refresh", held(first)).await;
        assert_eq!(status, 200);
        let second = issued["token"].as_str().unwrap();
        assert!(tokens.verify(first).await.is_err());
        let (status, issued) = call(&logins, "api/ticket", held(second)).await;
        assert_eq!(status, 200);
        let ticket = issued["ticket"].as_str().unwrap();
        assert_eq!(tokens.redeem_ticket(ticket).await.unwrap().id, "7");

        let (_, ended) = call(&logins, "api/logout", held(second)).await;
        assert_eq!(ended["ended"], true);
        assert!(tokens.verify(second).await.is_err());
        let (_, ended) = call(&logins, "api/logout", held(second)).await;
        assert_eq!(ended["ended"], false);
        assert_eq!(call(&logins, "api/refresh", held(second)).await.0, 401);

        let (_, issued) = call(&logins, "api/login", who).await;
        let third = issued["token"].as_str().unwrap();
        let everywhere = serde_json::json!({ "id": "7" });
        assert_eq!(call(&logins, "api/logout", everywhere).await.0, 200);
        assert!(tokens.verify(third).await.is_err());
    }

    #[tokio::test]
    async fn what_cannot_be_done_says_why() {
        let logins = logins();
        let seven = serde_json::json!({ "id": "7" });
        for (path, body, status) in [
            ("nowhere/login", seven.clone(), 404),
            ("api/login", serde_json::json!({ "id": "" }), 400),
            (
                "api/login",
                serde_json::json!({ "id": "7", "claims": { "exp": 1 } }),
                400,
            ),
            ("api/login", serde_json::json!({ "user": "7" }), 422),
            ("api/logout", serde_json::json!({}), 400),
            (
                "api/logout",
                serde_json::json!({ "id": "7", "token": "x" }),
                400,
            ),
            ("api/ticket", serde_json::json!({ "token": "x" }), 401),
            ("stateless/logout", seven.clone(), 409),
            ("elsewhere/login", seven, 409),
        ] {
            let (found, said) = call(&logins, path, body.clone()).await;
            assert_eq!(found, status, "{path} {body}: {said}");
        }
    }
}
