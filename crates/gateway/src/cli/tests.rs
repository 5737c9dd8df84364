//! What can be typed, and what is said of what can't.

use clap::CommandFactory as _;
use onlyonce_core::{Key, RecordId, Scope, StateKind};

use super::*;
use crate::config::Settings;

fn parse(line: &str) -> Result<Command, String> {
    let words = std::iter::once("onlyonce").chain(line.split_whitespace());
    Cli::try_parse_from(words)
        .map(|cli| cli.command)
        .map_err(|error| error.to_string())
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn help() {
    fn pages(command: &mut clap::Command, path: &str, out: &mut Vec<String>) {
        let path = format!("{path}{} ", command.get_name());
        out.push(format!("──── {path}--help\n{}", command.render_help()));
        for sub in command.get_subcommands_mut() {
            if sub.get_name() != "help" {
                pages(sub, &path, out);
            }
        }
    }
    let mut out = Vec::new();
    let mut command = Cli::command().term_width(100);
    command.build();
    pages(&mut command, "", &mut out);
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(out.join("\n"));
    });
}

#[test]
fn wrong_usage() {
    let mut out = String::new();
    for line in [
        "srve",
        "serve --upstreem x",
        "serve --profile payment",
        "serve --log-level loud",
        "keys",
        "keys list --state done",
        "keys list --limit 0",
        "keys show",
        "keys show --key a",
        "keys show --key a --scope me",
        "keys show --key a --scope shared --authorization x",
        "keys show abc",
        "keys resolve 00 completed",
        "keys forget",
        "keys list --admin 127.0.0.1:9090",
        "completions cmd",
    ] {
        let said = parse(line).map(|_| ()).unwrap_err();
        out.push_str(&format!("──── onlyonce {line}\n{said}\n"));
    }
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(out);
    });
}

#[test]
fn flags_make_settings() {
    let line = "serve --upstream http://127.0.0.1:1 -u http://127.0.0.1:2 -l 127.0.0.1:3 \
                --admin-listen off --store memory: --profile payments --log-format json \
                --log-level debug";
    let Ok(Command::Serve(args)) = parse(line) else {
        panic!("{:?}", parse(line));
    };
    let (settings, _) = Settings::load(&args.over(Sources::none())).unwrap();
    assert_eq!(settings.upstreams.len(), 2);
    assert_eq!(settings.listen.port(), 3);
    assert_eq!(settings.admin.listen, None);
    assert_eq!(settings.store.url, crate::config::StoreUrl::Memory);
    assert!(settings.idempotency.required);
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.log.level, LogLevel::Debug);
}

#[test]
fn commands_on_keys() {
    let id = "ab".repeat(32);
    let keys = |line: &str| match parse(&format!("keys {line}")) {
        Ok(Command::Keys(args)) => args,
        other => panic!("{other:?}"),
    };
    let args = keys("list --state unknown --limit 5 --json --admin http://127.0.0.1:7");
    assert_eq!(args.admin.admin.unwrap().port_u16(), Some(7));
    let KeysCommand::List(list) = args.command else {
        panic!();
    };
    assert_eq!(
        (list.state, list.limit, list.json),
        (Some(StateKind::Unknown), 5, true)
    );

    let target = |line: &str| match keys(line).command {
        KeysCommand::Show(show) => show.target().unwrap(),
        other => panic!("{other:?}"),
    };
    let record = RecordId::from_bytes([0xab; 32]);
    assert_eq!(target(&format!("show {id}")), Target::Id(record));
    let key = Key::new("order-1").unwrap();
    let of = |whose| Target::Key {
        key: key.clone(),
        whose,
    };
    assert_eq!(
        target("show --key order-1 --scope principal:a:b"),
        of(Whose::Scope(ScopeSpec::Principal("a:b".to_owned())))
    );
    assert_eq!(
        target("show --key order-1 --authorization token"),
        of(Whose::Authorization("token".to_owned()))
    );

    let outcome = |line: &str| match keys(&format!("resolve {id} {line}")).command {
        KeysCommand::Resolve(resolve) => resolve.outcome,
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome("not-executed"), OutcomeCommand::NotExecuted);
    assert_eq!(
        outcome("completed"),
        OutcomeCommand::Completed {
            status: http::StatusCode::OK,
            body_file: None,
            content_type: None,
        }
    );
    assert_eq!(
        outcome("completed --status 201 --body-file b"),
        OutcomeCommand::Completed {
            status: http::StatusCode::CREATED,
            body_file: Some("b".into()),
            content_type: Some("application/json".to_owned()),
        }
    );
}

#[test]
fn how_long_an_address_is_refused_is_written_as_in_the_settings() {
    let said = |time: &str| {
        let line = ["onlyonce", "blocklist", "add", "10.0.0.1", "--for", time];
        Cli::try_parse_from(line).map_err(|error| error.to_string())
    };
    assert!(said("7d").is_ok() && said("1h30m").is_ok());
    assert!(said("7").unwrap_err().contains("write \"7s\" for seconds"));
    let never = said("never").unwrap_err();
    assert!(never.contains("a duration such as"), "{never}");
}

#[test]
fn an_entry_is_removed_by_its_number() {
    let error = parse("blocklist remove 10.0.0.1").unwrap_err();
    assert!(error.contains("blocklist list` shows"), "{error}");
    assert!(parse("blocklist remove 7").is_ok());
}

#[test]
fn scopes_by_name() {
    let scope = |text: &str| text.parse::<ScopeSpec>().map(|spec| spec.scope());
    assert_eq!(scope("shared"), Ok(Scope::shared()));
    assert_eq!(scope("anonymous"), Ok(Scope::anonymous()));
    assert_eq!(
        scope("principal:anonymous"),
        Ok(Scope::principal("anonymous"))
    );
    assert_eq!(scope("header:acme"), Ok(Scope::header("acme")));
    for text in [
        "",
        "principal",
        "principal:",
        "header:",
        "credential:x",
        "Shared",
    ] {
        assert_eq!(scope(text), Err(ScopeSpecError), "{text}");
    }
}

#[test]
fn hazard_34_credentials_do_not_show_in_debug_output() {
    let whose = Whose::Authorization("Bearer hunter2".to_owned());
    assert_eq!(format!("{whose:?}"), "Authorization([hidden])");
}
