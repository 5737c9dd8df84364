//! A disk with little room, which can be filled up.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::process::Account;

/// How a disk is made small.
#[derive(Debug)]
pub(crate) enum SmallDisk {
    /// A file system of its own.
    Mounted(Mounted),
    /// Where nobody may mount one: what is on it is a plain folder, and what is full is every file,
    /// by the limit that a process has for the files it writes. The server's errors name another
    /// code, as this is not what it takes for a full disk.
    Limited,
}

#[derive(Debug)]
pub(crate) struct Mounted {
    folder: PathBuf,
    /// Waits for the end of its input, which is ours; then unmounts.
    watchdog: Child,
}

/// Longer than this no file may become where the disk is full by limit: a segment of the log, as
/// `initdb --wal-segsize=1` makes them.
pub(crate) const LONGEST: u64 = 1 << 20;

impl SmallDisk {
    /// In an empty folder.
    pub(crate) fn make(folder: &Path, bytes: u64) -> Self {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={bytes},mode=0700"))
            .arg("tmpfs")
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            return Self::Limited;
        }
        let watch = "read -r _; sleep 1; umount -l \"$1\"; rmdir \"$1\" \"${1%/*}\"";
        let watchdog = Command::new("sh")
            .args(["-c", watch, "watchdog"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self::Mounted(Mounted {
            folder: folder.to_path_buf(),
            watchdog: watchdog.expect("there is a shell"),
        })
    }

    /// Leaves no room to a process and its children.
    pub(crate) fn fill(&self, process: u32, account: Option<&Account>) {
        match self {
            Self::Mounted(mounted) => {
                let mut ballast = File::create(mounted.folder.join("ballast"))
                    .expect("the disk has room for a name");
                // To the last byte: by a page at a time.
                while ballast.write_all(&[0; 4096]).is_ok() {}
            }
            Self::Limited => limit(process, account, &LONGEST.to_string()),
        }
    }

    /// Takes back what [`fill`](Self::fill) did.
    pub(crate) fn free(&self, process: u32, account: Option<&Account>) {
        match self {
            Self::Mounted(mounted) => std::fs::remove_file(mounted.folder.join("ballast"))
                .expect("what was filled can be freed"),
            Self::Limited => limit(process, account, "unlimited"),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

fn limit(process: u32, account: Option<&Account>, bytes: &str) {
    // One that has ended starts anew without a limit.
    if !Path::new(&format!("/proc/{process}")).exists() {
        return;
    }
    // First the one that the others come from: a child that is born meanwhile has its limit.
    set_limit(process, account, bytes);
    let children = format!("/proc/{process}/task/{process}/children");
    let children =
        std::fs::read_to_string(children).expect("the kernel names a process's children");
    for child in children.split_whitespace() {
        // It may have ended by now.
        if let Ok(child) = child.parse() {
            set_limit(child, account, bytes);
        }
    }
}

fn set_limit(process: u32, account: Option<&Account>, bytes: &str) {
    let mut command = Command::new("prlimit");
    command
        .args(["--pid", &process.to_string()])
        .arg(format!("--fsize={bytes}:"))
        .stdin(Stdio::null());
    if let Some(account) = account {
        // Only the same user may, or one with a right of its own.
        command.uid(account.user).gid(account.group);
    }
    let set = command.output().expect("prlimit is here (util-linux)");
    let gone = !Path::new(&format!("/proc/{process}")).exists();
    assert!(set.status.success() || gone, "prlimit: {set:?}");
}
