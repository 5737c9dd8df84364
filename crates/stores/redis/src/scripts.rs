//! The scripts.

use redis::Script;

macro_rules! scripts {
    ($($name:ident: $file:literal;)*) => {
        /// All scripts.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $name: Source,)*
        }

        impl Scripts {
            pub(crate) fn new() -> Self {
                Self {
                    $($name: Source::new(
                        concat!(include_str!("scripts/record.lua"), include_str!($file)),
                    ),)*
                }
            }

            /// Each of them.
            pub(crate) fn all(&self) -> impl Iterator<Item = &Source> {
                [$(&self.$name,)*].into_iter()
            }
        }
    };
}

scripts! {
    claim: "scripts/claim.lua";
    renew: "scripts/renew.lua";
    complete: "scripts/complete.lua";
    release: "scripts/release.lua";
    look: "scripts/look.lua";
    resolve: "scripts/resolve.lua";
    forget: "scripts/forget.lua";
    secret: "scripts/secret.lua";
}

/// What connecting tries out. Not kept on the server.
pub(crate) const PROBE: &str = include_str!("scripts/probe.lua");

/// A script and the name that the server knows it by.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) text: &'static str,
    pub(crate) hash: String,
}

impl Source {
    pub(crate) fn new(text: &'static str) -> Self {
        let hash = Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }
}
