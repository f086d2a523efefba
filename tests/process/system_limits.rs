//! Resource limits that a test changes while a process runs, with the tools of util-linux.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{self, Command, Stdio};

use crate::common::{Builder, skip};

/// A user id without other processes, which would count towards its limit on processes.
const NOBODY: u32 = 54_321;

/// Whether a command can be run and succeeds.
pub fn succeeds(command: &str, args: &[&str]) -> bool {
    let mut command = Command::new(command);
    let status = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

pub fn has_prlimit() -> bool {
    succeeds("prlimit", &["--version"])
}

/// Sets a soft limit (`nofile`, `nproc`) of a running process.
#[track_caller]
pub fn set_limit(pid: u32, name: &str, soft: u64) {
    let (pid_flag, limit) = (format!("--pid={pid}"), format!("--{name}={soft}:"));
    let mut done = succeeds("prlimit", &[&pid_flag, &limit]);
    // In a container the superuser may lack the permission; the user of the process always has it.
    if !done && uid_of(&pid.to_string()) == Some(NOBODY) {
        let flags = as_nobody();
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["prlimit", &pid_flag, &limit]).collect();
        done = succeeds("setpriv", &flags);
    }
    assert!(done, "prlimit {pid_flag} {limit} failed");
}

fn uid_of(pid: &str) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|it| it.uid())
}

/// The flags of setpriv that run a command as that user with access to every folder.
fn as_nobody() -> Vec<String> {
    let mut flags = vec![format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    flags.extend(["--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"].map(str::to_owned));
    flags
}

/// Raises this process's limit on descriptors if it is lower, and returns whether that worked.
pub fn may_open(descriptors: u64) -> bool {
    let soft = || {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files").map(str::to_owned));
        line.and_then(|line| line.split_whitespace().next().and_then(|soft| soft.parse().ok())).unwrap_or(u64::MAX)
    };
    if soft() < descriptors && has_prlimit() {
        let (pid, limit) = (format!("--pid={}", process::id()), format!("--nofile={descriptors}:"));
        succeeds("prlimit", &[&pid, &limit]);
    }
    soft() >= descriptors
}

/// A server for which the limit on processes applies. It does not apply to the superuser, so in that case the server
/// runs as another user that may still write into the folder of the test. `None`, after a message, if that is not
/// possible.
#[track_caller]
pub fn bound_by_process_limit(server: Builder) -> Option<Builder> {
    if !has_prlimit() {
        skip("prlimit is missing (util-linux)", true);
        return None;
    }
    if uid_of("self") != Some(0) {
        return Some(server);
    }
    if !succeeds("setpriv", &["--version"]) {
        skip("setpriv is missing (util-linux)", true);
        return None;
    }
    let flags = as_nobody();
    if !succeeds("setpriv", &flags.iter().map(String::as_str).chain(["true"]).collect::<Vec<_>>()) {
        skip("the server cannot be run as another user here", false);
        return None;
    }
    Some(server.shell(&format!("exec setpriv {} \"$0\" \"$@\"", flags.join(" "))))
}
