//! How many connections this machine can carry. Owns the arithmetic over descriptors, processes and memory maps;
//! imports nothing of ours.

use std::fs;

/// Descriptors that are not for connections: listeners, the data file with its log and lock, polls, standard streams,
/// and the refused connections that wait for their close.
const OWN_DESCRIPTORS: u64 = 36;
/// Threads that are not for connections.
const OWN_THREADS: u64 = 16;
/// Memory maps that are not for connections: the binary, libraries, heaps.
const OWN_MAPS: u64 = 2_048;
/// Memory maps that a thread takes: its stack and its signal stack, each with a guard page. When the last one is
/// missing, Rust's runtime aborts the whole process, so the number must never be reached.
const MAPS_PER_THREAD: u64 = 5;

/// A bound on connections, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// The most connections at a time.
    pub connections: usize,
    /// What lowered it below the wish, for the log.
    pub reason: Option<String>,
}

/// The most connections at a time, at most `wanted`. Raises the soft limit on descriptors to the hard one.
#[must_use]
pub fn connection_cap(wanted: usize) -> Cap {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).ok();
    let processes = rlimit::Resource::NPROC.get_soft().ok();
    lowest(
        wanted,
        &[
            ("the limit on open files (ulimit -n)", descriptors.map(|limit| limit.saturating_sub(OWN_DESCRIPTORS))),
            ("the limit on processes (ulimit -u)", processes.map(|limit| limit.saturating_sub(OWN_THREADS))),
            ("vm.max_map_count", number("/proc/sys/vm/max_map_count").map(threads_in_maps)),
            ("kernel.pid_max", number("/proc/sys/kernel/pid_max").map(|limit| limit / 2)),
            ("kernel.threads-max", number("/proc/sys/kernel/threads-max").map(|limit| limit / 2)),
            ("the control group's pids.max", group_threads().map(|limit| limit.saturating_sub(OWN_THREADS))),
        ],
    )
}

fn lowest(wanted: usize, limits: &[(&str, Option<u64>)]) -> Cap {
    let lowest = limits.iter().filter_map(|(name, limit)| limit.map(|limit| (limit, *name))).min();
    match lowest {
        Some((limit, name)) if limit < wanted as u64 => {
            let connections = limit.max(1) as usize;
            let reason = format!("{name} allows {connections} connections, not {wanted}; raise it for more");
            Cap { connections, reason: Some(reason) }
        }
        _ => Cap { connections: wanted, reason: None },
    }
}

fn threads_in_maps(maps: u64) -> u64 {
    maps.saturating_sub(OWN_MAPS) / MAPS_PER_THREAD
}

/// The number in a file of the kernel's; `None` where there is no such file (not Linux) or no number in it (`max`).
fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The lowest pids.max on the way from this process's control group to the root (cgroup v2).
fn group_threads() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut limits = Vec::new();
    loop {
        limits.extend(number(&format!("/sys/fs/cgroup/{group}/pids.max")));
        if group.is_empty() {
            return limits.into_iter().min();
        }
        group = group.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_wins_and_is_named() {
        let cap = lowest(100, &[("a", Some(70)), ("b", None), ("c", Some(50))]);
        assert_eq!(cap.connections, 50);
        assert!(cap.reason.unwrap().starts_with("c allows 50"));
    }

    #[test]
    fn a_wish_below_all_limits_is_granted() {
        assert_eq!(lowest(10, &[("a", Some(70)), ("b", None)]), Cap { connections: 10, reason: None });
        assert_eq!(lowest(10, &[("a", Some(0))]).connections, 1);
    }

    #[test]
    fn the_usual_map_count_carries_ten_thousand_threads() {
        assert!((10_000..14_000).contains(&threads_in_maps(65_530)));
    }
}
