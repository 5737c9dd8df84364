//! PostgreSQL: one server.

use std::fs::Permissions;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::disk::SmallDisk;
use crate::process::{Account, Port, Program, patiently};

/// Who owns the server's databases.
pub const USER: &str = "onlyonce";
/// The password of [`USER`].
pub const PASSWORD: &str = "correct-horse";

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    program: Option<Program>,
    binaries: PathBuf,
    arguments: Vec<String>,
    account: Option<Account>,
    port: Port,
    /// Before the folder that it is in.
    disk: Option<SmallDisk>,
    folder: TempDir,
}

/// Starts a server with the defaults of a fresh installation: what it answered is on the disk.
#[must_use]
pub fn start_postgres() -> Postgres {
    start_postgres_with(&[])
}

/// Starts a server with these settings (`name=value`).
///
/// # Panics
/// When PostgreSQL is not here, or does not come up.
#[must_use]
pub fn start_postgres_with(settings: &[&str]) -> Postgres {
    start_postgres_from(&Setup {
        settings,
        ..Setup::default()
    })
}

/// What a server begins with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'a> {
    /// `name=value`
    pub settings: &'a [&'a str],
    /// Names and contents of files in its data directory, such as `pg_hba.conf`.
    pub files: &'a [(&'a str, &'a str)],
    /// Its data are on a disk that [`Postgres::fill_disk`] fills up.
    pub disk: Option<Disk>,
}

/// A disk with little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// For all that the server writes.
    ForAll,
    /// For all but the write-ahead log, which the server can't do without.
    ForData,
}

/// A fresh installation and some records: its log in segments of 1 MiB.
const ROOM: u64 = 128 << 20;

/// Starts a server with more than settings.
///
/// # Panics
/// When PostgreSQL is not here, or does not come up.
#[must_use]
pub fn start_postgres_from(setup: &Setup<'_>) -> Postgres {
    let binaries = binaries();
    let folder = tempfile::Builder::new()
        .prefix("onlyonce-")
        .tempdir()
        .expect("there is a temporary folder");
    // PostgreSQL does not run as root.
    let account = Account::other_than_root("postgres");
    if let Some(account) = &account {
        chown(folder.path(), Some(account.user), Some(account.group))
            .expect("root may give a folder away");
    }
    let home = folder.path().join("home");
    std::fs::create_dir(&home).expect("the temporary folder can be written");
    let disk = setup.disk.map(|_| SmallDisk::make(&home, ROOM));
    if let Some(account) = &account {
        chown(&home, Some(account.user), Some(account.group)).expect("root may give a folder away");
    }
    let data = home.join("data");
    let password = folder.path().join("password");
    std::fs::write(&password, PASSWORD).expect("the temporary folder can be written");
    let mut initdb = Command::new(binaries.join("initdb"));
    initdb
        .args(["--no-sync", "--no-instructions", "--auth=scram-sha-256"])
        .args(["--encoding=UTF8", "--locale=C", "--username", USER])
        .arg("--pwfile")
        .arg(&password)
        .arg("--pgdata")
        .arg(&data)
        .current_dir(folder.path())
        .stdin(Stdio::null());
    if disk.is_some() {
        initdb.arg("--wal-segsize=1");
    }
    if setup.disk == Some(Disk::ForData) {
        initdb.arg("--waldir").arg(folder.path().join("log-ahead"));
    }
    if let Some(account) = &account {
        initdb.uid(account.user).gid(account.group);
    }
    let made = initdb.output().expect("initdb can be run");
    assert!(made.status.success(), "initdb: {made:?}");
    for (name, content) in setup.files {
        let file = data.join(name);
        std::fs::write(&file, content).expect("the temporary folder can be written");
        let own = std::fs::set_permissions(&file, Permissions::from_mode(0o600));
        own.expect("a file of ours can be kept to ourselves");
        if let Some(account) = &account {
            chown(&file, Some(account.user), Some(account.group))
                .expect("root may give a file away");
        }
    }

    let port = Port::take();
    let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
    let number = format!("port={}", port.number());
    let sockets = format!("unix_socket_directories={}", folder.path().display());
    let fixed = ["listen_addresses=127.0.0.1", &number, &sockets];
    for setting in fixed.iter().chain(setup.settings) {
        arguments.extend(["-c".to_owned(), (*setting).to_owned()]);
    }
    let mut server = Postgres {
        program: None,
        binaries,
        arguments,
        account,
        port,
        disk,
        folder,
    };
    server.start();
    server
}

impl Postgres {
    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The URL of its database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_by(&self.address())
    }

    /// The same by another address, such as a proxy's.
    #[must_use]
    pub fn url_by(&self, address: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@{address}/postgres")
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops it in its tracks: its connections stay open. Those that are served go on: each has a
    /// process of its own.
    ///
    /// # Panics
    /// When it is not running.
    pub fn freeze(&self) {
        self.program.as_ref().expect("the server runs").freeze(true);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is not running.
    pub fn thaw(&self) {
        let program = self.program.as_ref().expect("the server runs");
        program.freeze(false);
    }

    /// Fills its disk up, to the last byte.
    ///
    /// # Panics
    /// When the server is not running, or has no disk of its own.
    pub fn fill_disk(&self) {
        let program = self.program.as_ref().expect("the server runs");
        self.disk().fill(program.id(), self.account.as_ref());
    }

    /// Makes room on its disk again.
    ///
    /// # Panics
    /// When the server has no disk of its own.
    pub fn free_disk(&self) {
        let process = self.program.as_ref().map_or(0, Program::id);
        self.disk().free(process, self.account.as_ref());
    }

    /// Whether its full disk is a file system's: where nobody may mount one, files are limited
    /// instead, and the server's errors don't say that the disk is full.
    ///
    /// # Panics
    /// When the server has no disk of its own.
    #[must_use]
    pub fn disk_is_mounted(&self) -> bool {
        matches!(self.disk(), SmallDisk::Mounted(_))
    }

    fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("it was asked for at the start")
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.program.as_mut().is_none_or(Program::has_ended)
    }

    /// Ends it as a crash would: nothing is flushed, transactions break off.
    ///
    /// # Panics
    /// When it won't end.
    pub fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            if program.has_ended() {
                return;
            }
            // Killed outright, its processes for each connection would outlive it for a moment,
            // and nobody could start it anew.
            program.signal("QUIT");
            patiently("PostgreSQL ends", || program.has_ended());
        }
    }

    /// Starts it, on the data it had, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its log.
    pub fn start(&mut self) {
        let log = self.folder.path().join("log");
        let binary = self.binaries.join("postgres");
        let account = self.account.as_ref();
        let folder = self.folder.path();
        let mut program = Program::start_as(account, &binary, &self.arguments, folder, &log);
        let mut ended = false;
        patiently(
            &format!("PostgreSQL on port {} answers", self.port()),
            || {
                ended = program.has_ended();
                ended || self.answers().unwrap_or(false)
            },
        );
        if ended {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = said.lines().rev().take(8).collect();
            panic!("PostgreSQL ended at once: {lines:#?}");
        }
        self.program = Some(program);
    }

    /// Whether it asks who we are, or refuses us for good, as it does once it has recovered.
    fn answers(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let said = format!("user\0{USER}\0database\0postgres\0\0");
        let length = u32::try_from(said.len() + 8).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes())?;
        // The protocol's version, 3.0.
        stream.write_all(&196_608_u32.to_be_bytes())?;
        stream.write_all(said.as_bytes())?;
        let mut answer = Vec::new();
        let mut first = [0];
        stream.read_exact(&mut first)?;
        if first == *b"E" {
            stream.read_to_end(&mut answer)?;
        }
        // It is starting up.
        let not_yet = answer.windows(6).any(|field| field == b"C57P03");
        Ok(!not_yet && (first == *b"R" || first == *b"E"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder of the newest version that is here.
fn binaries() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut found: Vec<(u32, PathBuf)> = debian
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("initdb").is_file())
        .collect();
    found.sort();
    if let Some((_, folder)) = found.pop() {
        return folder;
    }
    let initdb = crate::process::find("initdb", "postgresql");
    initdb
        .parent()
        .expect("a file is in a folder")
        .to_path_buf()
}

impl Account {
    /// Who servers run as that refuse to run as root: `None` for whoever is somebody else.
    fn other_than_root(name: &str) -> Option<Self> {
        let own = std::fs::metadata("/proc/self").ok()?.uid();
        if own != 0 {
            return None;
        }
        let accounts = std::fs::read_to_string("/etc/passwd").expect("the machine has accounts");
        let number = |wanted: &str| {
            accounts.lines().find_map(|line| {
                let mut fields = line.split(':');
                let is = fields.next()? == wanted;
                let user = fields.nth(1)?.parse().ok()?;
                let group = fields.next()?.parse().ok()?;
                is.then_some(Self { user, group })
            })
        };
        let account = number(name).or_else(|| number("nobody"));
        Some(account.expect("there is somebody besides root"))
    }
}

/// A pooler in front of a server, in transaction mode: a connection to it has a session of the
/// server only while a transaction lasts.
#[derive(Debug)]
pub struct PgBouncer {
    _program: Program,
    port: Port,
    _folder: TempDir,
}

/// Starts `PgBouncer` before `server`, with two sessions for all.
///
/// # Panics
/// When it is not here, or does not come up.
#[must_use]
pub fn start_pgbouncer(server: &Postgres) -> PgBouncer {
    let folder = tempfile::Builder::new()
        .prefix("onlyonce-")
        .tempdir()
        .expect("there is a temporary folder");
    let port = Port::take();
    let users = folder.path().join("users");
    let settings = folder.path().join("pgbouncer.ini");
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
         auth_type = plain\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 2\n\
         server_reset_query_always = 1\nserver_reset_query = DISCARD ALL\n",
        server.port(),
        port.number(),
        users.display(),
    );
    let written = std::fs::write(&users, format!("\"{USER}\" \"{PASSWORD}\"\n"))
        .and_then(|()| std::fs::write(&settings, text));
    written.expect("the temporary folder can be written");
    // It does not run as root either.
    let account = Account::other_than_root("postgres");
    if let Some(account) = &account {
        for path in [folder.path(), &users, &settings] {
            chown(path, Some(account.user), Some(account.group))
                .expect("root may give a file away");
        }
    }
    let binary = crate::process::find("pgbouncer", "pgbouncer");
    let arguments = [settings.display().to_string()];
    let log = folder.path().join("log");
    let account = account.as_ref();
    let program = Program::start_as(account, &binary, &arguments, folder.path(), &log);
    let address = (Ipv4Addr::LOCALHOST, port.number());
    patiently("PgBouncer answers", || TcpStream::connect(address).is_ok());
    PgBouncer {
        _program: program,
        port,
        _folder: folder,
    }
}

impl PgBouncer {
    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }
}
