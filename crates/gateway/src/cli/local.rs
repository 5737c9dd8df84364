//! Commands that need no gateway.

use std::io::{self, IsTerminal as _, Write};

use clap::CommandFactory as _;

use super::{Cli, CompletionsArgs, Exit, InitArgs, SettingsArgs};
use crate::config::{Loaded, Settings, Sources, init};

/// Where a command writes.
pub struct Streams<'s> {
    /// Results.
    pub out: &'s mut dyn Write,
    /// Everything else.
    pub err: &'s mut dyn Write,
    /// Whether `err` takes colours.
    pub colours: bool,
}

impl std::fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams")
            .field("colours", &self.colours)
            .finish_non_exhaustive()
    }
}

/// Whether standard error takes colours: it is a terminal, and `NO_COLOR` is not set.
#[must_use]
pub fn colours_wanted() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Loads the settings; says what is wrong with them, or what is probably not meant.
///
/// # Errors
/// How the process should end, when they are wrong.
pub fn load(sources: &Sources, streams: &mut Streams<'_>) -> Result<Loaded, Exit> {
    match Loaded::load(sources) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                let text = if streams.colours {
                    warning.styled()
                } else {
                    warning.to_string()
                };
                say(streams.err, &format!("{text}\n\n"));
            }
            Ok(loaded)
        }
        Err(errors) => {
            let text = if streams.colours {
                errors.styled()
            } else {
                errors.to_string()
            };
            say(streams.err, &format!("{text}\n"));
            Err(Exit::Usage)
        }
    }
}

/// What `check` says in the end, when all that the settings point to is good as well.
#[must_use]
pub fn praise(settings: &Settings) -> String {
    let upstreams: Vec<String> = settings
        .upstreams
        .iter()
        .map(|uri| uri.to_string().trim_end_matches('/').to_owned())
        .collect();
    format!(
        "The settings are good: {} to {}, records in {}, routes: {}.\n",
        settings.listen,
        upstreams.join(", "),
        settings.store.url,
        settings.routes.iter().count(),
    )
}

/// `print-config`
#[must_use]
pub fn print_config(args: &SettingsArgs, streams: &mut Streams<'_>) -> Exit {
    match load(&args.sources(), streams) {
        Ok(loaded) => {
            say(streams.out, &loaded.print());
            Exit::Success
        }
        Err(exit) => exit,
    }
}

/// `init`
#[must_use]
pub fn write_settings(args: &InitArgs, streams: &mut Streams<'_>) -> Exit {
    let file = args.file.display();
    match init(&args.file) {
        Ok(()) => {
            let text = format!(
                "Wrote {file}. Set `upstream` in it to your service, then run\n  \
                 onlyonce serve --config {file}\n"
            );
            say(streams.out, &text);
            Exit::Success
        }
        Err(error) => {
            say(streams.err, &format!("error: {error}\n"));
            Exit::Failure
        }
    }
}

/// `completions`
#[must_use]
pub fn completions(args: &CompletionsArgs, streams: &mut Streams<'_>) -> Exit {
    // Into memory first: the generator panics when it can't write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "onlyonce", &mut script);
    say(streams.out, &String::from_utf8_lossy(&script));
    Exit::Success
}

/// Writes; whoever reads may have had enough (`onlyonce print-config | head`), which is no fault.
pub(crate) fn say(stream: &mut dyn Write, text: &str) {
    let _ = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flag, INIT_TEMPLATE};

    fn run<T>(command: impl FnOnce(&mut Streams<'_>) -> T) -> (T, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let result = command(&mut Streams {
            out: &mut out,
            err: &mut err,
            colours: false,
        });
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (result, text(out), text(err))
    }

    #[test]
    fn good_settings_are_said_to_be_good_with_warnings_aside() {
        let sources = Sources::none().with_flag(Flag::Upstream, "http://127.0.0.1:3000");
        let (loaded, out, err) = run(|streams| load(&sources, streams));
        assert_eq!(out, "", "nothing is said before all has been looked at");
        assert_eq!(
            praise(&loaded.ok().unwrap().settings),
            "The settings are good: 127.0.0.1:8080 to http://127.0.0.1:3000, records in \
             file:./onlyonce-data, routes: 0.\n"
        );
        assert!(
            err.starts_with("warning: callers without any credential"),
            "{err}"
        );
    }

    #[test]
    fn wrong_settings_end_with_usage() {
        let (result, out, err) = run(|streams| load(&Sources::none(), streams).err());
        assert_eq!((result, out.as_str()), (Some(Exit::Usage), ""));
        assert!(err.starts_with("error: no upstream"), "{err}");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams {
            out: &mut out,
            err: &mut err,
            colours: true,
        };
        assert!(load(&Sources::none(), &mut streams).is_err());
        assert!(String::from_utf8(err).unwrap().contains('\u{1b}'));
    }

    #[test]
    fn init_says_what_it_did_and_what_it_did_not() {
        let folder = tempfile::tempdir().unwrap();
        let args = InitArgs {
            file: folder.path().join("x.toml"),
        };
        let (exit, out, _) = run(|streams| write_settings(&args, streams));
        assert_eq!(exit, Exit::Success);
        assert!(out.starts_with("Wrote "), "{out}");
        assert_eq!(std::fs::read_to_string(&args.file).unwrap(), INIT_TEMPLATE);
        let (exit, _, err) = run(|streams| write_settings(&args, streams));
        assert_eq!(exit, Exit::Failure);
        assert!(
            err.contains("is there already and was left as it is"),
            "{err}"
        );
    }

    #[test]
    fn completions_name_all_commands() {
        use clap_complete::Shell;
        for shell in [
            Shell::Bash,
            Shell::Zsh,
            Shell::Fish,
            Shell::PowerShell,
            Shell::Elvish,
        ] {
            let (exit, out, _) = run(|streams| completions(&CompletionsArgs { shell }, streams));
            assert_eq!(exit, Exit::Success);
            assert!(
                out.contains("print-config") && out.contains("not-executed"),
                "{shell}"
            );
        }
    }
}
