//! A small file system, for tests that fill it.

use std::path::Path;
use std::process::Command;

use super::{TempDir, skip};

/// A file system in memory; dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// One of three megabytes; `None`, after a message, if this user may not mount one.
    pub fn mount() -> Option<SmallDisk> {
        SmallDisk::of_megabytes(3)
    }

    /// The same with another size.
    pub fn of_megabytes(megabytes: u32) -> Option<SmallDisk> {
        let folder = TempDir::new();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk(folder));
        }
        skip("this user may not mount a file system", false);
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Lets nothing be written any more, or again.
    #[track_caller]
    pub fn set_read_only(&self, is_read_only: bool) {
        let how = if is_read_only { "remount,ro" } else { "remount,rw" };
        let status = Command::new("mount").args(["-o", how]).arg(self.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "{how}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because the server under test may not have ended yet.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
