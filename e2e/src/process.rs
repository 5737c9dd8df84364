//! Processes that end with the test.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;

/// A running program; killed by its id when dropped. What it writes to standard output and error
/// goes to a file, which is shown when the test fails.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    log: PathBuf,
}

impl Program {
    /// Starts `command`; its output is added to the file `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log);
        let file = file.expect("the log can be written");
        let name = command.get_program().to_string_lossy().into_owned();
        without_own_variables(&mut command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} can't be run: {error}"));
        Self {
            name,
            child,
            ended: None,
            log: log.to_owned(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        assert!(self.ended.is_none(), "{} has ended already", self.name);
        kill_process(self.pid(), signal).expect("the process is there until it is waited for");
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, || std::future::ready(self.ended())).await
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} wrote:\n{}---", self.name, self.log());
        }
    }
}

/// A program that has run to its end.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Finished {
    /// Fails the test unless it ended well.
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }
}

/// Runs `command` to its end, which must come before the deadline.
pub async fn run(mut command: Command) -> Finished {
    without_own_variables(&mut command);
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} can't be run: {error}"));
    let mut program = Program {
        name,
        child,
        ended: None,
        log: err.clone(),
    };
    let status = program.end().await;
    let text = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    Finished {
        code: status.code(),
        out: text(out),
        err: text(err),
    }
}

/// `ONLYONCE_BIN` and its like are the tests' own, and no settings of the gateway.
fn without_own_variables(command: &mut Command) {
    let given: Vec<_> = command
        .get_envs()
        .map(|(name, _)| name.to_owned())
        .collect();
    let own = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with("ONLYONCE_"));
    for name in own.filter(|name| !given.contains(name)) {
        command.env_remove(name);
    }
}

/// A port that is free, for programs that can't take any free one by themselves. Below those that
/// systems give to outgoing connections, so that none of these takes it in the meantime.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests are processes of their own: each begins elsewhere.
    let first = u16::try_from(std::process::id() * 37 % 10_000).unwrap();
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(turn < 10_000, "no port is free");
        let port = 20_000 + (first + turn) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
