//! What a user must be allowed to do, tried out one by one, so that a refusal names what is missing.

use std::sync::Arc;

use onlyonce_core::{Operation, RecordId, StoreError, StoreErrorKind};
use redis::{Cmd, Pipeline, Value};

use crate::RedisStore;
use crate::error::Fault;
use crate::node::Node;
use crate::place::Places;
use crate::scripts::Scripts;

/// What a store asks of its servers.
pub(crate) struct Needs<'a> {
    pub(crate) places: &'a Places,
    /// A record that would lie on the server.
    pub(crate) id: &'a RecordId,
    pub(crate) clustered: bool,
    /// Announcements go by shard.
    pub(crate) sharded: bool,
    /// Steps wait for replicas.
    pub(crate) waits: bool,
}

/// A command to try, and the rule that allows it.
struct Right {
    rule: &'static str,
    /// The key or the channel that it is tried on.
    on: String,
    command: Cmd,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack<'a> {
    /// This command, as rules spell it.
    Command(&'a str),
    /// Some key.
    Key,
    /// Some channel.
    Channel,
    /// The server doesn't say.
    Something,
}

/// What the user lacks, if that is what the server's error says.
///
/// Every line of versions says it in its own words: 6.2 `this user has no permissions to access one
/// of the keys used as arguments`, 7.0 `No permissions to access a key`, and within scripts `The
/// user executing the script can't …` or `ACL failure in script: …`.
pub(crate) fn lack<'a>(code: &str, details: &'a str) -> Option<Lack<'a>> {
    let within = ["user executing the script can't", "ACL failure in script"];
    let refusal = code == "NOPERM"
        || details.contains("NOPERM ")
        || within.iter().any(|text| details.contains(text));
    if !refusal {
        return None;
    }
    let command = details.split_once("run the '").and_then(|(_, rest)| {
        let (command, _) = rest.split_once('\'')?;
        Some(Lack::Command(command))
    });
    let about = |texts: &[&str]| texts.iter().any(|text| details.contains(text));
    Some(match command {
        Some(command) => command,
        None if about(&[
            "one of the channels",
            "access a channel",
            "' channel",
            "to the channel",
        ]) =>
        {
            Lack::Channel
        }
        None if about(&["one of the keys", "access a key", "' key", "of the keys"]) => Lack::Key,
        None => Lack::Something,
    })
}

impl Needs<'_> {
    /// All of it. `scripts` are loaded by that.
    fn rights(&self, scripts: &Scripts) -> Vec<Right> {
        let key = format!("{}:probe", self.places.key(self.id));
        let (void, sequence) = (self.places.announcements(), self.places.sequence(self.id));
        let (publish, subscribe, unsubscribe) = if self.sharded {
            (
                ("+spublish", "SPUBLISH"),
                ("+ssubscribe", "SSUBSCRIBE"),
                ("+sunsubscribe", "SUNSUBSCRIBE"),
            )
        } else {
            (
                ("+publish", "PUBLISH"),
                ("+subscribe", "SUBSCRIBE"),
                ("+unsubscribe", "UNSUBSCRIBE"),
            )
        };
        let mut rights = Vec::new();
        let mut add = |rule: &'static str, on: &str, words: &[&str]| {
            let mut command = Cmd::new();
            for word in words {
                command.arg(*word);
            }
            let on = on.to_owned();
            rights.push(Right { rule, on, command });
        };
        for script in scripts.all() {
            add("+script|load", "", &["SCRIPT", "LOAD", script.text]);
        }
        // A script that there is not: the user's rights are looked at first.
        add("+evalsha", "", &["EVALSHA", &"0".repeat(40), "0"]);
        add("+eval", "", &["EVAL", "return 1", "0"]);
        add("+time", "", &["TIME"]);
        add("+get", &key, &["GET", &key]);
        add("+get", &sequence, &["GET", &sequence]);
        // It goes by itself, should it be that nobody may remove it.
        add("+set", &key, &["SET", &key, "", "PX", "1000"]);
        add("+del", &key, &["DEL", &key]);
        add("+scan", "", &["SCAN", "0", "COUNT", "1"]);
        add("+ping", "", &["PING"]);
        add("+role", "", &["ROLE"]);
        // Nobody takes an empty message for a record.
        add("+publish", &void, &["PUBLISH", &void, ""]);
        add("+subscribe", &void, &["SUBSCRIBE", &void]);
        add("+unsubscribe", &void, &["UNSUBSCRIBE", &void]);
        add(publish.0, &key, &[publish.1, &key, ""]);
        add(subscribe.0, &key, &[subscribe.1, &key]);
        add(unsubscribe.0, &key, &[unsubscribe.1, &key]);
        if self.waits {
            add("+wait", "", &["WAIT", "0", "1"]);
        }
        if self.clustered {
            add("+cluster|slots", "", &["CLUSTER", "SLOTS"]);
            // For the command that follows, which cares for no slot.
            add("+asking", "", &["ASKING"]);
            add("+ping", "", &["PING"]);
        }
        rights
    }

    /// Tries everything out on a server, by `send`.
    pub(crate) async fn check(
        &self,
        node: &Arc<Node>,
        scripts: &Scripts,
        send: impl AsyncFnOnce(&Pipeline) -> Result<Vec<Value>, StoreError>,
    ) -> Result<(), StoreError> {
        let rights = self.rights(scripts);
        let mut pipeline = Pipeline::with_capacity(rights.len());
        for right in &rights {
            pipeline.add_command(right.command.clone());
        }
        let answers = send(&pipeline).await?;
        let (mut refused, mut rules): (Vec<String>, Vec<String>) = Default::default();
        for (right, answer) in rights.iter().zip(answers) {
            let Value::ServerError(error) = answer else {
                continue;
            };
            let Some(lack) = lack(error.code(), error.details().unwrap_or_default()) else {
                // There is no such script; and Valkey says so where there is nothing to unsubscribe
                // from, as what was to be subscribed to was refused.
                if ["NOSCRIPT", "NOSUB"].contains(&error.code()) {
                    continue;
                }
                let fault = Fault::of_reply(Operation::Open, error, node.address());
                match fault.give_up(Operation::Open) {
                    // Worth a warning, and no more.
                    error if error.kind() == StoreErrorKind::Full => continue,
                    error => return Err(error),
                }
            };
            let prefix = self.places.prefix();
            let name = right.rule.trim_start_matches('+').replace('|', " ");
            let name = name.to_ascii_uppercase();
            let (what, rule) = match lack {
                Lack::Command(_) => (format!("run {name}"), right.rule.to_owned()),
                Lack::Key => (format!("{name} `{}`", right.on), format!("~{prefix}*")),
                Lack::Channel => (format!("{name} on `{}`", right.on), format!("&{prefix}*")),
                Lack::Something => (
                    format!("{name} `{}`", right.on),
                    format!("{} ~{prefix}* &{prefix}*", right.rule),
                ),
            };
            if !rules.contains(&rule) {
                refused.push(what);
                rules.push(rule);
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(RedisStore::misconfigured(format!(
            "Redis at {} does not let the user of the URL {}: add to its ACL `{}`",
            node.address(),
            refused.join(", "),
            rules.join(" "),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_s_refusals_are_understood() {
        let within = "script: 8b64f4ab2aa743b8e06292330a8eb539c2c9faeb, on @user_script:1.";
        for (code, details, expected) in [
            (
                "NOPERM",
                "this user has no permissions to run the 'script|load' command",
                Some(Lack::Command("script|load")),
            ),
            (
                "NOPERM",
                "this user has no permissions to run the 'script' command or its subcommand",
                Some(Lack::Command("script")),
            ),
            (
                "NOPERM",
                "User key has no permissions to run the 'set' command",
                Some(Lack::Command("set")),
            ),
            (
                "NOPERM",
                "this user has no permissions to access one of the keys used as arguments",
                Some(Lack::Key),
            ),
            ("NOPERM", "No permissions to access a key", Some(Lack::Key)),
            (
                "NOPERM",
                "this user has no permissions to access one of the channels used as arguments",
                Some(Lack::Channel),
            ),
            (
                "NOPERM",
                "No permissions to access a channel",
                Some(Lack::Channel),
            ),
            (
                "ERR",
                &format!(
                    "The user executing the script can't run this command or subcommand {within}"
                ),
                Some(Lack::Something),
            ),
            (
                "ERR",
                &format!(
                    "The user executing the script can't access at least one of the keys mentioned \
                     in the command arguments {within}"
                ),
                Some(Lack::Key),
            ),
            (
                "ERR",
                &format!(
                    "The user executing the script can't publish to the channel mentioned in the \
                     command {within}"
                ),
                Some(Lack::Channel),
            ),
            (
                "ERR",
                &format!(
                    "ACL failure in script: User u has no permissions to run the 'set' command {within}"
                ),
                Some(Lack::Command("set")),
            ),
            (
                "ERR",
                &format!("ACL failure in script: No permissions to access a key {within}"),
                Some(Lack::Key),
            ),
            (
                "ERR",
                &format!("ACL failure in script: No permissions to access a channel {within}"),
                Some(Lack::Channel),
            ),
            ("ERR", "unknown command 'ROLE'", None),
            (
                "OOM",
                "command not allowed when used memory > 'maxmemory'.",
                None,
            ),
        ] {
            assert_eq!(lack(code, details), expected, "{details}");
        }
    }
}
