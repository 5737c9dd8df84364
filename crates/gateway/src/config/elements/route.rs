//! `[[route]]`: what is different where.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::Method;
use onlyonce_core::Policy;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::auth::RouteAuth;
use super::cors::{CorsRule, CorsSettings};
use super::envelope::{EnvelopeRule, RouteEnvelope};
use super::filter::{FilterRule, FilterSettings, RawFilter};
use super::idempotency::{GATEWAY_WIDE, RawIdempotency, adopt};
use super::toggle::Toggle;
use crate::config::error::Problem;
use crate::config::policy::{check_policy, warn_of_sharing};
use crate::config::report::Report;
use crate::config::routes::{Pattern, PatternError, Route, RouteLayers};
use crate::config::scalar::{As, Remedy, Scalar, Written};
use crate::config::tree::Path;

/// What is different for some requests. The first route that matches a request decides, in the
/// order of the file; there can be 1000.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table with `path`")]
#[schemars(inline)]
pub(in crate::config) struct RawRoute {
    /// Which paths: `{name}` stands for one part between slashes, `{*rest}` at the end for all
    /// that follows, also nothing. The query doesn't count, and other spellings of a path
    /// (escapes, `//`, `..`) find the same route.
    #[schemars(required)]
    pub(in crate::config) path: Option<As<Pattern>>,
    /// Which methods; left out: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) methods: Option<Vec<As<Method>>>,
    /// `false` passes requests on untouched. A table has settings of `[idempotency]`, which win
    /// here; with a `profile`, all that profiles speak of comes from that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) idempotency: Option<RouteIdempotency>,
    /// Whether answers come in an envelope, and in which form: as in `[envelope]` where nothing is
    /// said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) envelope: Option<Toggle<RouteEnvelope>>,
    /// Which pages of other origins may use it. `false`: the upstream sees to it itself. A table
    /// has settings of `[cors]`, which win here; with a `preset`, nothing of `[cors]` holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) cors: Option<Toggle<CorsSettings>>,
    /// `false` lets everybody in who is on the blocklist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) blocklist: Option<bool>,
    /// `false` leaves it open in read-only mode, as `exempt` in `[read_only]` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) read_only: Option<bool>,
    /// What bodies must fit. `false` passes them unread. A table has settings of `[filter]`,
    /// which win here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) filter: Option<Toggle<RawFilter>>,
    /// Who may use it: the name of an `[[auth.module]]` that it belongs to, wherever it lies.
    /// `false`: it passes without a login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) auth: Option<RouteAuth>,
}

/// What holds where a route says nothing.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Base<'s> {
    pub(in crate::config) policy: &'s Arc<Policy>,
    pub(in crate::config) cors: &'s CorsSettings,
    pub(in crate::config) filter: &'s FilterSettings,
}

/// Off, or what is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum RouteIdempotency {
    Off,
    On(Box<RawIdempotency>),
}

impl RawRoute {
    pub(in crate::config) fn resolve(
        &self,
        path: &Path,
        base: &Base<'_>,
        report: &mut Report<'_>,
    ) -> Option<Route> {
        let cors = CorsRule::new(self.cors.as_ref(), base.cors, &path.key("cors"), report);
        let filter = FilterRule::new(
            self.filter.as_ref(),
            base.filter,
            &path.key("filter"),
            report,
        );
        let base = base.policy;
        let policy = match &self.idempotency {
            None => Some(Arc::clone(base)),
            Some(RouteIdempotency::Off) => None,
            Some(RouteIdempotency::On(changes)) => {
                let path = path.key("idempotency");
                for key in GATEWAY_WIDE {
                    let path = path.key(key);
                    if report.is_set(&path) {
                        let problem = Problem::new(format!("{path} is for the whole gateway"))
                            .label("it belongs in `[idempotency]`");
                        report.error(&path, problem);
                    }
                }
                let mut policy = Policy::clone(base);
                if let Some(As(profile)) = changes.profile {
                    adopt(&mut policy, profile);
                }
                changes.apply(&mut policy);
                check_policy(&policy, &path, report);
                warn_of_sharing(&policy, &path, Some(base), report);
                Some(Arc::new(policy))
            }
        };
        let methods: Option<Vec<Method>> = self
            .methods
            .as_ref()
            .map(|methods| methods.iter().map(|As(method)| method.clone()).collect());
        if methods.as_ref().is_some_and(Vec::is_empty) {
            report.invalid(
                &path.key("methods"),
                "an empty list, so no request would ever match",
                "leave `methods` out for all methods",
            );
        }
        let Some(As(pattern)) = self.path.clone() else {
            // A mistyped `path` has been reported already.
            if !report.was_faulty(path) {
                let path = path.key("path");
                report.error(
                    &path,
                    Problem::new(format!("{path} is missing"))
                        .label("a route needs a `path`")
                        .help("add for example `path = \"/v1/payments/{*rest}\"`"),
                );
            }
            return None;
        };
        Some(Route {
            pattern,
            methods,
            policy,
            layers: RouteLayers {
                envelope: EnvelopeRule::new(self.envelope.as_ref()),
                cors,
                blocklist: self.blocklist,
                read_only: self.read_only,
                filter,
                auth: self.auth.clone().unwrap_or_default(),
            },
        })
    }

    /// A route that says all a route can.
    pub(in crate::config) fn example() -> Self {
        Self {
            path: Pattern::new("/").ok().map(As),
            methods: Some(vec![As(Method::POST)]),
            idempotency: Some(RouteIdempotency::Off),
            envelope: Some(Toggle::On),
            cors: Some(Toggle::On),
            blocklist: Some(false),
            read_only: Some(false),
            filter: Some(Toggle::On),
            auth: Some(RouteAuth::Exempt),
        }
    }

    /// What gives this route back, with every setting named.
    pub(in crate::config) fn of_route(route: &Route, base: &Arc<Policy>) -> Self {
        let idempotency = match &route.policy {
            None => Some(RouteIdempotency::Off),
            // The very same: nothing was said of it.
            Some(policy) if Arc::ptr_eq(policy, base) => None,
            Some(policy) => Some(RouteIdempotency::On(Box::new(RawIdempotency::of_policy(
                policy,
            )))),
        };
        Self {
            path: Some(As(route.pattern.clone())),
            methods: route
                .methods
                .as_ref()
                .map(|methods| methods.iter().cloned().map(As).collect()),
            idempotency,
            envelope: route.layers.envelope.to_raw(),
            cors: route.layers.cors.to_raw(),
            blocklist: route.layers.blocklist,
            read_only: route.layers.read_only,
            filter: route.layers.filter.to_raw(),
            auth: Some(route.layers.auth.clone()).filter(|auth| *auth != RouteAuth::AsElsewhere),
        }
    }
}

/// Warns of routes that no request reaches, since earlier ones take them all.
pub(in crate::config) fn warn_of_shadows(routes: &[(Path, Route)], report: &mut Report<'_>) {
    for (position, (path, route)) in routes.iter().enumerate() {
        let earlier = routes[..position]
            .iter()
            .position(|(_, earlier)| earlier.covers(route));
        if let Some(earlier) = earlier {
            let pattern = &routes[earlier].1.pattern;
            report.warn(
                &path.key("path"),
                Problem::new(format!("no request reaches {path}"))
                    .label(format!(
                        "`[[route]]` number {} takes them all: {pattern}",
                        earlier + 1
                    ))
                    .help("the first match decides: put the more specific route before it"),
            );
        }
    }
}

impl<'de> Deserialize<'de> for RouteIdempotency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OffOrTable;

        impl<'de> Visitor<'de> for OffOrTable {
            type Value = RouteIdempotency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`false` or a table such as { profile = \"payments\" }")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<RouteIdempotency, E> {
                Ok(if on {
                    RouteIdempotency::On(Box::default())
                } else {
                    RouteIdempotency::Off
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RouteIdempotency, A::Error> {
                RawIdempotency::deserialize(MapAccessDeserializer::new(map))
                    .map(|raw| RouteIdempotency::On(Box::new(raw)))
            }
        }

        deserializer.deserialize_any(OffOrTable)
    }
}

impl Serialize for RouteIdempotency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On(raw) => raw.serialize(serializer),
        }
    }
}

impl JsonSchema for RouteIdempotency {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RouteIdempotency".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut table = RawIdempotency::json_schema(generator);
        if let Some(properties) = table.get_mut("properties").and_then(|p| p.as_object_mut()) {
            properties.retain(|name, _| !GATEWAY_WIDE.contains(&name.as_str()));
        }
        json_schema!({
            "title": "`false`, or table of settings of `[idempotency]`",
            "anyOf": [{ "type": "boolean" }, table],
        })
    }
}

impl Scalar for Pattern {
    fn expected() -> Cow<'static, str> {
        "a pattern of paths such as \"/v1/payments/{*rest}\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        Self::new(text).map_err(|error: PatternError| error.to_string().into())
    }

    fn written(&self) -> Written {
        Written::Text(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "path pattern",
            "type": "string",
            "pattern": "^/",
            "examples": ["/v1/payments/{*rest}", "/v1/charges/{id}"],
        })
    }
}
