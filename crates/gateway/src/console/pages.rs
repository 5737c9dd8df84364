//! The access log as pages.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, context};
use onlyonce_pipeline::access_log::visible;

use super::Console;
use super::api::Refusal;
use super::query::Typed;

/// The pages' templates. Everything that is put in is escaped.
#[derive(Debug)]
pub(super) struct Templates(Environment<'static>);

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

impl Templates {
    pub(super) fn new() -> Self {
        let mut environment = Environment::new();
        // By the names' ending it would be so anyway; this must not hang on a name.
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.add_filter("visible", |text: &str| visible(text));
        for (name, text) in [
            ("base.html", include_str!("templates/base.html")),
            ("list.html", include_str!("templates/list.html")),
            ("detail.html", include_str!("templates/detail.html")),
            ("problem.html", include_str!("templates/problem.html")),
        ] {
            let added = environment.add_template(name, text);
            added.expect("our own templates are sound");
        }
        Self(environment)
    }

    fn page(&self, status: StatusCode, name: &str, values: Value) -> Response {
        let rendered = self
            .0
            .get_template(name)
            .and_then(|template| template.render(values));
        match rendered {
            Ok(page) => (status, Html(page)).into_response(),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a console page");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn problem(&self, refusal: &Refusal) -> Response {
        let title = refusal.status.canonical_reason().unwrap_or_default();
        let values = context! { title, detail => refusal.detail.as_str() };
        self.page(refusal.status, "problem.html", values)
    }
}

pub(super) async fn list(
    State(console): State<Console>,
    typed: Result<Query<Typed>, QueryRejection>,
) -> Response {
    let typed = match typed {
        Ok(Query(typed)) => typed,
        Err(error) => {
            return console.templates.problem(&Refusal {
                status: StatusCode::BAD_REQUEST,
                detail: error.body_text(),
            });
        }
    };
    // A filter that can't be read leaves the others as they were typed.
    let (status, listing, problem) = match console.listing(&typed).await {
        Ok(listing) => (StatusCode::OK, Some(listing), None),
        Err(refusal) => (refusal.status, None, Some(refusal.detail)),
    };
    let next = listing.as_ref().and_then(|listing| listing.next.as_deref());
    let values = context! {
        title => "Access log",
        filters => Value::from(Serde(&typed)),
        methods => METHODS,
        older => next.map(|next| typed.older(next)),
        rows => listing.map(|listing| Value::from(Serde(listing.rows))),
        problem,
    };
    console.templates.page(status, "list.html", values)
}

pub(super) async fn detail(State(console): State<Console>, Path(id): Path<String>) -> Response {
    match console.row(&id).await {
        Ok(row) => {
            let values = context! { title => "Request", body => row.readable_body(), row => Value::from(Serde(row)) };
            console
                .templates
                .page(StatusCode::OK, "detail.html", values)
        }
        Err(refusal) => console.templates.problem(&refusal),
    }
}

pub(super) async fn style() -> Response {
    let content_type = (header::CONTENT_TYPE, "text/css; charset=utf-8");
    ([content_type], include_str!("style.css")).into_response()
}
