//! Disk faults: the server runs with `tests/common/disk_shim.c` preloaded, which makes calls on the data folder fail,
//! stop short or hang, and records every call in a trace. In `tests/durability`, `trace.rs` reads the trace, and
//! `replay.rs` computes from it what a power cut may leave on the disk.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

use super::{Builder, DEADLINE, Server, TempDir, skip, wait_until};

/// Files of the data folder, as bits: one fault can affect several.
pub const MAIN: u32 = 1;
pub const LOG: u32 = 2;
pub const SHARED_MEMORY: u32 = 4;
pub const FOLDER: u32 = 32;

/// Error numbers of Linux.
pub const EIO: u32 = 5;
pub const ENOSPC: u32 = 28;

/// The calls that can fail, with their numbers in the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write = 2,
    Sync = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Fail = 1,
    Short,
    ShortThenFail,
    Hang,
}

/// A fault: which calls on which files fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    call: Call,
    targets: u32,
    also: Option<Call>,
    action: Action,
    error: u32,
    bytes: u32,
    skip: u32,
    times: u32,
}

impl Fault {
    /// The call fails with that error and has no effect.
    pub const fn fails(call: Call, targets: u32, error: u32) -> Fault {
        Fault { call, targets, also: None, action: Action::Fail, error, bytes: 0, skip: 0, times: 0 }
    }

    /// A write writes its first `bytes` and fails.
    pub const fn torn(targets: u32, error: u32, bytes: u32) -> Fault {
        Fault { action: Action::ShortThenFail, bytes, ..Fault::fails(Call::Write, targets, error) }
    }

    /// A write writes its first `bytes` and returns their number: a short write.
    pub const fn short(targets: u32, bytes: u32) -> Fault {
        Fault { action: Action::Short, bytes, ..Fault::fails(Call::Write, targets, 0) }
    }

    /// The call does not return until [`Disk::lift`].
    pub const fn hangs(call: Call, targets: u32) -> Fault {
        Fault { action: Action::Hang, ..Fault::fails(call, targets, 0) }
    }

    /// The first `calls` succeed.
    pub const fn after(self, calls: u32) -> Fault {
        Fault { skip: calls, ..self }
    }

    /// At most this many calls are hit; without it, all are.
    pub const fn times(self, times: u32) -> Fault {
        Fault { times, ..self }
    }

    /// Hits calls of this kind too.
    pub const fn and(self, call: Call) -> Fault {
        Fault { also: Some(call), ..self }
    }

    pub fn is_hang(&self) -> bool {
        self.action == Action::Hang
    }

    /// The fields of the shim's `struct fault` after `armed`.
    fn fields(&self) -> [u32; 10] {
        let kinds = [Some(self.call), self.also].into_iter().flatten().fold(0, |bits, call| bits | 1 << call as u32);
        [kinds, self.targets, self.action as u32, self.error, self.bytes, self.skip, self.times, 0, 0, 0]
    }
}

// Offsets in bytes of fields of the shim's `struct fault`.
const ARMED_AT: u64 = 0;
const FIELDS_AT: u64 = 4;
const RELEASED_AT: u64 = 32;
const HITS_AT: u64 = 40;
const CONTROL_BYTES: usize = 64;

/// A data folder on a disk with faults.
#[derive(Debug)]
pub struct Disk {
    temp: TempDir,
    folder: PathBuf,
    control: File,
}

impl Disk {
    /// An empty data folder. `None` without a C compiler, after a message; where `CI` is `true` that is a failure.
    pub fn new() -> Option<Disk> {
        shim().map(|_| Disk::over(TempDir::new()))
    }

    fn over(temp: TempDir) -> Disk {
        // The shim compares paths as they come, and SQLite resolves links before it opens a file.
        let root = temp.path().canonicalize().expect("the folder is there");
        let folder = root.join("data");
        fs::create_dir(&folder).expect("a folder can be made");
        temp.write("control", [0; CONTROL_BYTES]);
        let control = OpenOptions::new().read(true).write(true).open(root.join("control")).expect("it is there");
        Disk { temp, folder, control }
    }

    /// A disk with copies of these files, as the system has them now. It is in memory, which is fast.
    pub fn copy(&self) -> Disk {
        let copy = Disk::over(TempDir::in_memory());
        for entry in fs::read_dir(&self.folder).expect("the folder can be read") {
            let from = entry.expect("the folder can be read").path();
            fs::copy(&from, copy.folder.join(from.file_name().expect("a name"))).expect("a file can be copied");
        }
        copy
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The builder of a server on this disk.
    pub fn builder(&self) -> Builder {
        let text = |path: &Path| path.to_str().expect("the path is UTF-8").to_owned();
        let root = self.folder.parent().expect("it has a parent");
        let shim = shim().expect("there was a compiler before");
        Server::builder()
            .data(&self.folder)
            .env("LD_PRELOAD", &text(shim))
            .env("DISK_FOLDER", &text(&self.folder))
            .env("DISK_TRACE", &text(&root.join("trace")))
            .env("DISK_CONTROL", &text(&root.join("control")))
    }

    /// From now on the fault is active; its counters start at 0.
    pub fn arm(&self, fault: Fault) {
        self.put(ARMED_AT, &[0]);
        self.put(FIELDS_AT, &fault.fields());
        self.put(ARMED_AT, &[1]);
    }

    /// No fault is active any more, and calls that hang go on.
    pub fn lift(&self) {
        self.put(ARMED_AT, &[0]);
        self.put(RELEASED_AT, &[1]);
    }

    /// The number of calls that were hit.
    pub fn hits(&self) -> u32 {
        let mut bytes = [0; 4];
        self.control.read_exact_at(&mut bytes, HITS_AT).expect("the control file can be read");
        u32::from_ne_bytes(bytes)
    }

    #[track_caller]
    pub fn wait_for_hit(&self) {
        wait_until(DEADLINE, "the disk fails", || self.hits() > 0);
    }

    /// The file in which the shim records every call.
    pub fn trace(&self) -> PathBuf {
        self.folder.parent().expect("it has a parent").join("trace")
    }

    fn put(&self, at: u64, numbers: &[u32]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        self.control.write_all_at(&bytes, at).expect("the control file can be written");
    }
}

/// The shim, compiled once a process.
fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    SHIM.get_or_init(compile).as_deref()
}

fn compile() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/disk_shim.c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Another test process may compile and use it at the same time, so it is renamed when it is complete.
    let unfinished = folder.join(format!("disk-shim-{}.so", process::id()));
    let finished = folder.join("disk-shim.so");
    // `LD_PRELOAD` separates names by spaces and colons.
    let name = finished.to_str().expect("the path is UTF-8");
    assert!(!name.contains([' ', ':']), "nothing can be preloaded from {name}");
    let run = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&unfinished, &source])
        .arg("-ldl")
        .output();
    match run {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            skip(&format!("the tests of the disk need a C compiler: cc: {error}"), true);
            return None;
        }
    }
    fs::rename(&unfinished, &finished).expect("the shim can be renamed");
    Some(finished)
}
