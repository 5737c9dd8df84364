//! A gateway as a process, and the folder that outlives it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::Value;

use crate::{Call, Finished, Program, Settings, eventually, onlyonce, run};

/// The folder of a gateway: its settings and its records, for as many processes as come and go.
#[derive(Clone, Debug)]
pub struct Home {
    folder: Arc<tempfile::TempDir>,
    started: Arc<AtomicUsize>,
}

impl Home {
    /// A new folder with these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let home = Self {
            folder: Arc::new(folder),
            started: Arc::default(),
        };
        home.write(settings);
        home
    }

    /// Writes other settings, for the next start or reload.
    pub fn write(&self, settings: &Settings) {
        std::fs::write(self.config(), settings.text(self.path())).unwrap();
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The file of settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path().join("onlyonce.toml")
    }

    /// Where its records are, unless the settings say otherwise.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.path().join("records")
    }

    /// Starts a gateway, and waits until it is ready.
    pub async fn start(&self) -> Gateway {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.path().join(format!("log-{number}"));
        // A signal that is ignored stays so over `exec`: a write beyond the limit of `fail_writes`
        // is an error then, and not the end of the process.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        command.arg(onlyonce());
        command.arg("serve").arg("--config").arg(self.config());
        command.current_dir(self.path());
        let mut program = Program::start(command, &log);
        let ready = eventually("the gateway's readiness", || {
            if let Some(status) = program.ended() {
                panic!("the gateway ended: {status}\n{}", program.log());
            }
            std::future::ready(ready_line(&program.log()))
        })
        .await;
        let (addr, admin) = ready;
        let home = self.clone();
        Gateway {
            home,
            program,
            addr,
            admin,
        }
    }

    /// Starts a gateway that does not get ready, and waits for its end.
    pub async fn fail_to_start(&self) -> Finished {
        self.run(["serve"]).await
    }

    /// Runs the program with these settings, to its end.
    pub async fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        let mut command = Command::new(onlyonce());
        command.args(arguments).arg("--config").arg(self.config());
        command.current_dir(self.path());
        run(command).await
    }
}

fn ready_line(log: &str) -> Option<(SocketAddr, Option<SocketAddr>)> {
    // Warnings about settings come before the log begins, as text.
    let events = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ready = events.filter(|event| {
        let message = event["message"].as_str().unwrap_or_default();
        message.ends_with("is ready")
    });
    let ready = ready.next()?;
    let address = |name: &str| Some(ready[name].as_str()?.parse().expect("an address"));
    Some((address("listen")?, address("admin")))
}

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    /// Dropped first, as its log is in the folder.
    program: Program,
    home: Home,
    addr: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Gateway {
    /// Starts one in a folder of its own.
    pub async fn start(settings: Settings) -> Self {
        Home::new(&settings).start().await
    }

    /// Its folder, which lives on when the process ends.
    #[must_use]
    pub fn home(&self) -> Home {
        self.home.clone()
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://` and the address where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where operators connect.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.expect("the admin listener is on")
    }

    /// The process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// Waits until a line of the log contains `text`.
    pub async fn logs(&self, text: &str) -> String {
        eventually(&format!("{text:?} in the log"), || async {
            let log = self.log();
            let line = log.lines().find(|line| line.contains(text))?;
            Some(line.to_owned())
        })
        .await
    }

    /// A request through it.
    pub fn call(&self, method: Method, path: &str) -> Call {
        Call::new(self.addr, method, path)
    }

    /// A POST through it.
    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    /// A GET through it.
    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// A request to its admin listener, allowed to change things.
    pub fn admin(&self, method: Method, path: &str) -> Call {
        Call::new(self.admin_addr(), method, path).header("onlyonce-admin", "1")
    }

    /// `onlyonce` with these arguments and the URL of the admin listener: `["keys", "list"]`.
    pub async fn command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Finished {
        let mut command = Command::new(onlyonce());
        command.args(arguments);
        command.args(["--admin", &format!("http://{}", self.admin_addr())]);
        command.current_dir(self.home.path());
        run(command).await
    }

    /// The one record it holds, as the admin API shows it.
    pub async fn only_record(&self) -> Value {
        let list = self.admin(Method::GET, "/api/keys").send().await.json();
        let keys = list["keys"].as_array().expect("a list of keys");
        assert_eq!(keys.len(), 1, "{list}");
        keys[0].clone()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// `kill -9`, and waits until it is gone. Returns what it leaves behind.
    pub async fn kill(mut self) -> Home {
        self.signal(Signal::KILL);
        self.program.end().await;
        self.home()
    }

    /// SIGTERM, and waits until it is gone, which must be a good end.
    pub async fn stop(mut self) -> Home {
        self.signal(Signal::TERM);
        let status = self.end().await;
        assert!(status.success(), "{status}");
        self.home()
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        self.program.end().await
    }

    /// From now on each of its writes to a file fails, as on a broken disk (Linux).
    pub fn fail_writes(&self) {
        self.limit(Resource::Fsize, 0);
    }

    /// From now on it can have so many files and connections open at most (Linux).
    pub fn limit_files(&self, most: u64) {
        self.limit(Resource::Nofile, most);
    }

    fn limit(&self, resource: Resource, most: u64) {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        prlimit(Some(self.program.pid()), resource, limit).expect("Linux");
    }

    /// The most memory it has held at any time, in bytes.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.program.id());
        let status = std::fs::read_to_string(path).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok())
            .expect("a figure in kB")
            * 1024
    }
}
