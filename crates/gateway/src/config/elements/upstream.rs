//! `upstream`: the services that requests go to.

use std::borrow::Cow;
use std::fmt;

use http::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, SeqAccess, Visitor, value};
use serde::{Deserialize, Serialize, Serializer, de};

use crate::config::scalar::{As, Remedy, Scalar, Written};

/// One URL or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Upstreams(pub(in crate::config) Vec<Uri>);

impl<'de> Deserialize<'de> for Upstreams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Upstreams;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of URLs such as [\"http://127.0.0.1:3000\"]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Upstreams, E> {
                let As(uri) = As::<Uri>::deserialize(value::StrDeserializer::new(text))?;
                Ok(Upstreams(vec![uri]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Upstreams, A::Error> {
                let mut uris = Vec::new();
                while let Some(As(uri)) = list.next_element()? {
                    uris.push(uri);
                }
                Ok(Upstreams(uris))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

impl Serialize for Upstreams {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().cloned().map(As))
    }
}

impl JsonSchema for Upstreams {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Upstreams".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "URL, or list of URLs",
            "anyOf": [
                { "type": "array", "items": Uri::schema(), "minItems": 1 },
                Uri::schema(),
            ],
        })
    }
}

/// The URL of an upstream.
impl Scalar for Uri {
    fn expected() -> Cow<'static, str> {
        "a URL such as \"http://127.0.0.1:3000\"".into()
    }

    fn from_text(text: &str) -> Result<Self, Remedy> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("the scheme is missing: write \"http://{text}\"").into());
        };
        if !matches!(scheme, "http" | "https") {
            return Err("upstreams are reached over http or https".into());
        }
        let uri: Self = text.parse().map_err(|_| Remedy::none())?;
        let authority = uri.authority().ok_or_else(Remedy::none)?;
        if authority.as_str().contains('@') {
            return Err("user and password can't be given here".into());
        }
        // `Uri` reads over ports that are none.
        let host = authority.host();
        let plain = match uri.port_u16() {
            None => host.to_owned(),
            Some(port) => format!("{host}:{port}"),
        };
        if host.is_empty() || authority.as_str() != plain || uri.port_u16() == Some(0) {
            return Err(Remedy::none());
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || rest.contains('#') {
            return Err(
                format!("requests keep their own path: write \"{scheme}://{authority}\"").into(),
            );
        }
        Ok(uri)
    }

    fn written(&self) -> Written {
        Written::Text(self.to_string().trim_end_matches('/').to_owned())
    }

    fn schema() -> Schema {
        json_schema!({
            "title": "URL",
            "type": "string",
            "pattern": "^https?://[^/?#@]+/?$",
            "examples": ["http://127.0.0.1:3000"],
        })
    }
}
