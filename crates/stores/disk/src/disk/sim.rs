//! A disk in memory that remembers what was made durable and what was not.
//!
//! It keeps a trace of all that was asked of it. From any beginning of that trace it tells what
//! the disk may hold after the power went: what was flushed, and any choice of the sectors and
//! folder entries that were not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, Lock};

const SECTOR: usize = 512;

/// What a disk holds: files by name.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug)]
pub(crate) enum Traced {
    Create {
        name: String,
        inode: usize,
    },
    Write {
        inode: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    Sync {
        inode: usize,
    },
    /// A flush that failed: the system takes the pages for clean and never writes them.
    Forgotten {
        inode: usize,
    },
    Rename {
        from: String,
        to: String,
        inode: usize,
    },
    Remove {
        name: String,
    },
    SyncFolder,
    /// Something that the test noted: no matter to the disk.
    Note(usize),
}

/// What is asked of the disk, for a test to interfere with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Lock,
    List,
    Create,
    Open,
    Read,
    Write,
    Sync,
    Rename,
    Remove,
    SyncFolder,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Fail(io::ErrorKind),
    /// Only this many bytes are taken.
    Short(usize),
}

type Interfere = Box<dyn FnMut(Call, &str) -> Option<Fault> + Send>;

#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

struct State {
    base: Image,
    names: BTreeMap<String, usize>,
    inodes: Vec<Vec<u8>>,
    trace: Vec<Traced>,
    locked: bool,
    interfere: Option<Interfere>,
}

impl SimDisk {
    pub(crate) fn new(base: Image) -> Self {
        let mut names = BTreeMap::new();
        let mut inodes = Vec::new();
        for (name, bytes) in &base {
            names.insert(name.clone(), inodes.len());
            inodes.push(bytes.clone());
        }
        Self(Arc::new(Mutex::new(State {
            base,
            names,
            inodes,
            trace: Vec::new(),
            locked: false,
            interfere: None,
        })))
    }

    /// From now on `interfere` decides what goes wrong.
    pub(crate) fn interfere(
        &self,
        interfere: impl FnMut(Call, &str) -> Option<Fault> + Send + 'static,
    ) {
        self.state().interfere = Some(Box::new(interfere));
    }

    /// From now on nothing goes wrong.
    pub(crate) fn behave(&self) {
        self.state().interfere = None;
    }

    pub(crate) fn note(&self, note: usize) {
        self.state().trace.push(Traced::Note(note));
    }

    pub(crate) fn trace(&self) -> Vec<Traced> {
        self.state().trace.clone()
    }

    /// What the system sees now, flushed or not.
    pub(crate) fn live(&self) -> Image {
        let state = self.state();
        let names = state.names.iter();
        names
            .map(|(name, inode)| (name.clone(), state.inodes[*inode].clone()))
            .collect()
    }

    /// What lay on the disk before the trace began.
    pub(crate) fn base(&self) -> Image {
        self.state().base.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

impl State {
    fn ask(&mut self, call: Call, name: &str) -> io::Result<Option<usize>> {
        match self.interfere.as_mut().and_then(|ask| ask(call, name)) {
            None => Ok(None),
            Some(Fault::Fail(kind)) => Err(kind.into()),
            Some(Fault::Short(length)) => Ok(Some(length)),
        }
    }
}

impl Disk for SimDisk {
    fn lock(&self, name: &str) -> io::Result<Lock> {
        let mut state = self.state();
        state.ask(Call::Lock, name)?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Lock::new(Unlock(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.ask(Call::List, "")?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.ask(Call::Create, name)?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Vec::new());
        state.names.insert(name.to_owned(), inode);
        let name = name.to_owned();
        state.trace.push(Traced::Create {
            name: name.clone(),
            inode,
        });
        let disk = self.clone();
        Ok(Box::new(SimFile { disk, inode, name }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.ask(Call::Open, name)?;
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let (disk, name) = (self.clone(), name.to_owned());
        Ok(Box::new(SimFile { disk, inode, name }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.ask(Call::Rename, from)?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        let (from, to) = (from.to_owned(), to.to_owned());
        state.trace.push(Traced::Rename { from, to, inode });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.ask(Call::Remove, name)?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        let name = name.to_owned();
        state.trace.push(Traced::Remove { name });
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state();
        state.ask(Call::SyncFolder, "")?;
        state.trace.push(Traced::SyncFolder);
        Ok(())
    }
}

#[derive(Debug)]
struct Unlock(SimDisk);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    name: String,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.ask(Call::Read, &self.name)?;
        let bytes = &state.inodes[self.inode];
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let length = buffer.len().min(bytes.len() - start);
        buffer[..length].copy_from_slice(&bytes[start..start + length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let short = state.ask(Call::Write, &self.name)?;
        let bytes = &bytes[..short.unwrap_or(bytes.len()).min(bytes.len())];
        let offset = usize::try_from(offset).unwrap();
        put(&mut state.inodes[self.inode], offset, bytes);
        state.trace.push(Traced::Write {
            inode: self.inode,
            offset,
            bytes: bytes.to_vec(),
        });
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let inode = self.inode;
        let asked = state.ask(Call::Sync, &self.name);
        state.trace.push(match &asked {
            Ok(_) => Traced::Sync { inode },
            Err(_) => Traced::Forgotten { inode },
        });
        asked.map(|_| ())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].len() as u64)
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// The power has gone: what was durable, and what might be.
#[derive(Debug)]
pub(crate) struct Crash {
    names: BTreeMap<String, usize>,
    inodes: HashMap<usize, Vec<u8>>,
    /// Pieces of at most a sector each, in the order in which they were written.
    sectors: Vec<(usize, usize, Vec<u8>)>,
    entries: Vec<Traced>,
}

impl Crash {
    /// At the end of this beginning of a trace.
    pub(crate) fn at_end_of(base: &Image, trace: &[Traced]) -> Self {
        let mut crash = Self {
            names: BTreeMap::new(),
            inodes: HashMap::new(),
            sectors: Vec::new(),
            entries: Vec::new(),
        };
        for (inode, (name, bytes)) in base.iter().enumerate() {
            crash.names.insert(name.clone(), inode);
            crash.inodes.insert(inode, bytes.clone());
        }
        for step in trace {
            crash.step(step);
        }
        crash
    }

    /// How many things may or may not have survived.
    pub(crate) fn doubts(&self) -> usize {
        self.sectors.len() + self.entries.len()
    }

    /// The disk, if those things survived for which `survives` says so.
    pub(crate) fn image(&self, mut survives: impl FnMut(usize) -> bool) -> Image {
        let mut inodes = self.inodes.clone();
        let mut names = self.names.clone();
        // The system writes a sector as it stands: what came first is in it as well.
        let mut lost = HashSet::new();
        for (number, (inode, offset, bytes)) in self.sectors.iter().enumerate() {
            let sector = (*inode, offset / SECTOR);
            if lost.contains(&sector) || !survives(number) {
                lost.insert(sector);
            } else {
                put(inodes.entry(*inode).or_default(), *offset, bytes);
            }
        }
        for (number, entry) in self.entries.iter().enumerate() {
            if survives(self.sectors.len() + number) {
                apply(&mut names, entry);
            }
        }
        names
            .into_iter()
            .map(|(name, inode)| (name, inodes.get(&inode).cloned().unwrap_or_default()))
            .collect()
    }

    fn step(&mut self, step: &Traced) {
        match step {
            Traced::Write {
                inode,
                offset,
                bytes,
            } => {
                let mut at = 0;
                while at < bytes.len() {
                    let piece = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
                    let bytes = bytes[at..at + piece].to_vec();
                    self.sectors.push((*inode, offset + at, bytes));
                    at += piece;
                }
            }
            Traced::Sync { inode } => {
                let file = self.inodes.entry(*inode).or_default();
                self.sectors.retain(|(of, offset, bytes)| {
                    if of == inode {
                        put(file, *offset, bytes);
                    }
                    of != inode
                });
            }
            Traced::Forgotten { inode } => self.sectors.retain(|(of, ..)| of != inode),
            Traced::Create { .. } | Traced::Rename { .. } | Traced::Remove { .. } => {
                self.entries.push(step.clone());
            }
            Traced::SyncFolder => {
                for entry in self.entries.drain(..) {
                    apply(&mut self.names, &entry);
                }
            }
            Traced::Note(_) => {}
        }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, entry: &Traced) {
    match entry {
        Traced::Create { name, inode } => {
            names.insert(name.clone(), *inode);
        }
        Traced::Rename { from, to, inode } => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
        Traced::Remove { name } => {
            names.remove(name);
        }
        Traced::Write { .. }
        | Traced::Sync { .. }
        | Traced::Forgotten { .. }
        | Traced::SyncFolder
        | Traced::Note(_) => {}
    }
}
