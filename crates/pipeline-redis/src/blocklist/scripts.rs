//! The scripts.

use onlyonce_redis::LinkScript;

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) change: LinkScript,
    pub(super) since: LinkScript,
    pub(super) scan: LinkScript,
    pub(super) look_up: LinkScript,
    pub(super) add_hits: LinkScript,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            change: LinkScript::new(include_str!("change.lua")),
            since: LinkScript::new(include_str!("since.lua")),
            scan: LinkScript::new(include_str!("scan.lua")),
            look_up: LinkScript::new(include_str!("look_up.lua")),
            add_hits: LinkScript::new(include_str!("add_hits.lua")),
        }
    }
}
