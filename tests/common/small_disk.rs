//! A small file system, for tests that fill it.

use std::path::Path;
use std::process::Command;

use super::{TempDir, skip};

/// A file system in memory of three megabytes; dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, after a message, if this user may not mount one.
    pub fn mount() -> Option<SmallDisk> {
        let folder = TempDir::new();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk(folder));
        }
        skip("this user may not mount a file system", false);
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because the server under test may not have ended yet.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
