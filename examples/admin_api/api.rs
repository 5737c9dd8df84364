//! `/api`: for programs with a login.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use garde::Validate;
use onlyonce_pipeline::context::Identity;
use onlyonce_pipeline::envelope::Envelope;
use onlyonce_pipeline::filter::Validated;
use onlyonce_pipeline::{Code, Error};
use serde::{Deserialize, Serialize};

use crate::admin::Token;
use crate::app::{App, Logins};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/hello", get(hello))
        .route("/hello-by-header", get(hello_by_header))
        .route("/login", post(login))
        .route("/ticket", post(ticket))
}

#[derive(Deserialize, Validate)]
struct Greeting {
    #[garde(length(chars, max = 40))]
    #[serde(default = "hotgo")]
    name: String,
}

fn hotgo() -> String {
    "hotgo".to_owned()
}

#[derive(Serialize)]
struct Tips {
    tips: String,
}

fn tips(name: &str) -> Envelope<Tips> {
    Envelope::new(Tips {
        tips: format!("hello {name}, this is the api for HotGo applications."),
    })
}

/// In XML, as the route is declared to answer.
async fn hello(Validated(greeting): Validated<Greeting>) -> Envelope<Tips> {
    tips(&greeting.name)
}

/// In XML, as the header says.
async fn hello_by_header(Validated(greeting): Validated<Greeting>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/xml")], tips(&greeting.name))
}

#[derive(Deserialize, Validate)]
struct Program {
    #[garde(length(min = 1))]
    app_key: String,
}

async fn login(
    State(logins): State<Logins>,
    Validated(program): Validated<Program>,
) -> Result<Envelope<Token>, Error> {
    if program.app_key != "till-17" {
        return Err(Error::of(Code::NOT_AUTHORIZED));
    }
    let issued = logins
        .api
        .login(&Identity::new(program.app_key, "api"))
        .await?;
    Ok(Envelope::new(Token {
        token: issued.token,
        expires: issued.expires_in.as_secs(),
    }))
}

#[derive(Serialize)]
struct Ticket {
    ticket: String,
}

/// A URL is no place for a token: a WebSocket is opened with a ticket, which is good once.
async fn ticket(
    State(logins): State<Logins>,
    headers: HeaderMap,
) -> Result<Envelope<Ticket>, Error> {
    let bearer = headers.get(header::AUTHORIZATION);
    let token = bearer
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or_else(|| Error::of(Code::NOT_AUTHORIZED))?;
    let issued = logins.api.issue_ticket(token).await?;
    Ok(Envelope::new(Ticket {
        ticket: issued.ticket,
    }))
}
