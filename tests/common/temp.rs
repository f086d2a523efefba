//! Temporary folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// A new, empty folder, removed with everything in it when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        TempDir::new_in(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// A folder in memory, if the system has `/dev/shm`: syncs cost nothing there.
    pub fn in_memory() -> TempDir {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }
    }

    /// A folder in the system's folder for temporary files, which other users can reach. Its path is short enough for a
    /// Unix socket.
    pub fn in_system() -> TempDir {
        TempDir::new_in(&std::env::temp_dir())
    }

    fn new_in(root: &Path) -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ordercast-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = root.join(name);
        // A killed test run with the same process id may have left the folder behind.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary folder can be made");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into the folder and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file can be written into the temporary folder");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
