//! The scripts, in the form that a server takes.

use redis::Script;

macro_rules! scripts {
    ($($name:ident: $flags:literal, $file:literal;)*) => {
        /// All scripts, for one kind of server.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $name: Source,)*
        }

        impl Scripts {
            /// The scripts for servers of this version or newer.
            pub(crate) fn for_version(version: Version) -> Self {
                Self {
                    $($name: Source::new(
                        version,
                        $flags,
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

// What is under way still gets its record when the memory is full; new claims don't, but what is
// known of a key is still told.
scripts! {
    claim: "", "scripts/claim.lua";
    renew: "allow-oom", "scripts/renew.lua";
    complete: "allow-oom", "scripts/complete.lua";
    release: "allow-oom", "scripts/release.lua";
    look: "", "scripts/look.lua";
    resolve: "allow-oom", "scripts/resolve.lua";
    forget: "allow-oom", "scripts/forget.lua";
}

/// What connecting tries out. Not kept on the server.
pub(crate) const PROBE: &str = include_str!("scripts/probe.lua");

/// A server's version, the first two numbers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl Version {
    /// The oldest that will do: `SET … PXAT` came with it.
    pub(crate) const OLDEST: Self = Self(6, 2);
    /// Scripts with flags, and sharded pub/sub, came with it.
    pub(crate) const SEVEN: Self = Self(7, 0);
}

/// A script and the name that the server knows it by.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) text: String,
    pub(crate) hash: String,
}

impl Source {
    fn new(version: Version, flags: &str, text: &str) -> Self {
        // A script with flags is judged before it runs: only those that need to be have some.
        let text = if version >= Version::SEVEN && !flags.is_empty() {
            format!("#!lua flags={flags}\n{text}")
        } else {
            text.to_owned()
        };
        let hash = Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }
}
