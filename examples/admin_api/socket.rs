//! `/socket`: WebSockets, opened with a ticket.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use onlyonce_pipeline::context::Identity;

use crate::app::App;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/echo", get(echo))
}

async fn echo(upgrade: WebSocketUpgrade, Extension(caller): Extension<Arc<Identity>>) -> Response {
    upgrade.on_upgrade(move |socket| greet(socket, caller))
}

async fn greet(mut socket: WebSocket, caller: Arc<Identity>) {
    let greeting = format!("hello {}", caller.id);
    if socket.send(Message::text(greeting)).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.recv().await {
        let is_text = matches!(message, Message::Text(_));
        if is_text && socket.send(message).await.is_err() {
            return;
        }
    }
}
