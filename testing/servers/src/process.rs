//! Programs, ports and patience.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A program that is killed when its handle goes, or this process, however that ends.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// Waits for the end of its input, which is ours; then kills, and cleans up.
    watchdog: Child,
}

/// Whose rights a program has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Program {
    /// Starts `program`; what it says goes to `log`.
    pub(crate) fn start(program: &Path, arguments: &[String], folder: &Path, log: &Path) -> Self {
        Self::start_as(None, program, arguments, folder, log)
    }

    /// The same with somebody else's rights.
    pub(crate) fn start_as(
        account: Option<&Account>,
        program: &Path,
        arguments: &[String],
        folder: &Path,
        log: &Path,
    ) -> Self {
        let open = || {
            let file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(log);
            file.unwrap_or_else(|error| panic!("{} can't be written: {error}", log.display()))
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open());
        if let Some(account) = account {
            command.uid(account.user).gid(account.group);
        }
        let child = command.spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{} can't start: {error}", program.display()));
        // With its folder: a handle in a static is never dropped, nor is that of a killed process.
        let watch = "read -r _; kill -9 \"$1\"; sleep 0.2; rm -rf -- \"$2\"";
        let watchdog = Command::new("sh")
            .args(["-c", watch, "watchdog", &child.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self {
            child,
            watchdog: watchdog.expect("there is a shell"),
        }
    }

    /// Ends it at once, as a crash would: nothing is flushed, nobody is told.
    pub(crate) fn kill(&mut self) {
        // First who would kill whatever has the same number later.
        for child in [&mut self.watchdog, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it in its tracks, or lets it go on: a frozen machine, whose connections stay open.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.signal(if frozen { "STOP" } else { "CONT" });
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, signal: &str) {
        let line = format!("kill -{signal} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &line]).status();
        let sent = status.is_ok_and(|status| status.success());
        assert!(sent, "`{line}` works");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where `name` is, on the path or where servers are kept.
///
/// # Panics
/// When it is nowhere; the message names the remedy.
pub(crate) fn find(name: &str, debian_package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{name} is not here. `cargo xtask test` installs what the tests need; by hand: \
                 apt-get install {debian_package}"
            )
        })
}

/// A port of the loopback interface that is kept free for one server, while that is up and while
/// it is down: no other program, and no other test, is given it meanwhile.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Bound, but not listening: that leaves room for one who listens, and only for one who asks
    /// for this very port.
    _held: Socket,
}

impl Port {
    /// Takes a free port.
    ///
    /// # Panics
    /// When the machine has none left.
    #[must_use]
    pub fn take() -> Self {
        Self::hold(0).expect("there is a free port")
    }

    /// Takes this port, if it is free.
    pub(crate) fn take_this(number: u16) -> Option<Self> {
        Self::hold(number).ok()
    }

    fn hold(number: u16) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // For a port of one's choice only later: it must not be shared with one who holds it already.
        let chosen = number != 0;
        socket.set_reuse_address(!chosen)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, number)).into())?;
        socket.set_reuse_address(true)?;
        let address = socket.local_addr()?.as_socket();
        Ok(Self {
            number: address.map_or(number, |address| address.port()),
            _held: socket,
        })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Asks `done` every few milliseconds until it says yes.
///
/// # Panics
/// When it has not within half a minute.
pub fn patiently(what: &str, mut done: impl FnMut() -> bool) {
    const STEP: Duration = Duration::from_millis(5);
    for _ in 0..6_000 {
        if done() {
            return;
        }
        std::thread::sleep(STEP);
    }
    panic!("waited for half a minute in vain: {what}");
}
