//! Runs tests that were written for a data folder on nodes: with `ORDERCAST_TEST_STORE`, the address of a superuser at a
//! cluster, every server gets a database there instead of its folder. `tests/postgres/suite.sh` sets it.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use super::TempDir;
use super::postgres::tool;
use super::server::{Finished, binary, ordercast, without_environment_twins};

/// A database of this name has the tables; new ones are copies of it.
const TEMPLATE: &str = "ordercast_template";

/// Flags whose values are settings of a database.
const KEPT: [&str; 3] = ["--keep-keys", "--max-keys", "--keep-orders"];

/// A database that stands for a data folder.
#[derive(Debug)]
pub struct SharedStore {
    cluster: String,
    name: String,
}

impl SharedStore {
    /// The one for this folder, if tests run on nodes.
    pub fn of(folder: &Path) -> Option<SharedStore> {
        let cluster = std::env::var("ORDERCAST_TEST_STORE").ok().filter(|url| !url.is_empty())?;
        let mut hasher = DefaultHasher::new();
        folder.hash(&mut hasher);
        Some(SharedStore { cluster, name: format!("test_{:016x}", hasher.finish()) })
    }

    /// Makes the database unless it exists.
    pub fn make(&self) {
        let exists = self.sql(&format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", self.name));
        if exists == "0" {
            self.sql(&format!("CREATE DATABASE {} TEMPLATE {TEMPLATE}", self.name));
        }
    }

    /// Removes the database.
    pub fn remove(&self) {
        self.sql(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }

    /// Copies the database into a data folder, and runs `ordercast check` there.
    #[track_caller]
    pub fn check(&self) -> Finished {
        let folder = TempDir::new();
        let copied = ordercast(folder.path(), &["migrate", "--from", &self.url(), "--to", "copy"], &[]);
        assert_eq!(copied.code, Some(0), "{}", copied.stderr);
        ordercast(folder.path(), &["check", "--data", "copy"], &[])
    }

    fn url(&self) -> String {
        self.cluster.rsplit_once('/').map_or_else(String::new, |(host, _)| format!("{host}/{}", self.name))
    }

    /// The arguments of a node for those of a server: what is kept becomes a setting of the database.
    pub fn arguments(&self, args: &[OsString]) -> Vec<OsString> {
        let url = self.url();
        let mut migrate = vec![OsString::from("migrate"), "--store".into(), url.clone().into()];
        let mut node = vec![OsString::from("--store"), url.into()];
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let is_kept = KEPT.iter().any(|flag| arg.to_string_lossy().split('=').next() == Some(flag));
            let to = if is_kept { &mut migrate } else { &mut node };
            to.push(arg.clone());
            if is_kept && !arg.to_string_lossy().contains('=') {
                to.extend(args.next().cloned());
            }
        }
        if migrate.len() > 3 {
            let mut command = Command::new(binary());
            without_environment_twins(&mut command);
            let done = command.args(&migrate).output().expect("the binary can be started");
            assert!(done.status.success(), "{migrate:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
        node
    }

    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        // Copying a template fails while somebody else is copying it.
        for _ in 0..100 {
            let output = tool("psql").args(["-XqAt", "-d", &self.cluster, "-c", sql]).output().expect("psql runs");
            if output.status.success() {
                return String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            }
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(why.contains("is being accessed by other users"), "{sql}: {why}");
        }
        panic!("the template is always in use");
    }
}
