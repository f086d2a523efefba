//! How many connections the system's limits allow: descriptors, processes and memory maps.

use std::fs;

/// Descriptors that are not for connections: listeners, the data file with its log and lock, polls, standard streams,
/// and rejected connections that wait to be closed.
const OTHER_DESCRIPTORS: u64 = 40;
/// Threads that are not for connections.
const OTHER_THREADS: u64 = 16;
/// Memory maps that are not for connections: the binary, libraries, heaps.
const OTHER_MAPS: u64 = 2_048;
/// Memory maps of a thread: its stack and its signal stack, each with a guard page. When the system has no map left for
/// the signal stack, Rust's runtime aborts the process, so the limit must never be reached.
const MAPS_PER_THREAD: u64 = 5;

/// The most connections, and the limit that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionCap {
    /// The most connections at a time.
    pub connections: usize,
    /// For the log: the limit that makes it lower than requested.
    pub reason: Option<String>,
}

/// The most connections that the system allows, up to `requested`, beside so many threads that settings add, each with a
/// descriptor at most. Raises the soft limit on descriptors to the hard one.
#[must_use]
pub fn connection_cap(requested: usize, added_threads: usize) -> ConnectionCap {
    let added = added_threads as u64;
    let (other_descriptors, other_threads) = (OTHER_DESCRIPTORS + added, OTHER_THREADS + added);
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).ok();
    let processes = rlimit::Resource::NPROC.get_soft().ok();
    lowest(
        requested,
        &[
            ("the limit on open files (ulimit -n)", descriptors.map(|limit| limit.saturating_sub(other_descriptors))),
            ("the limit on processes (ulimit -u)", processes.map(|limit| limit.saturating_sub(other_threads))),
            ("vm.max_map_count", number("/proc/sys/vm/max_map_count").map(threads_in_maps)),
            ("kernel.pid_max", number("/proc/sys/kernel/pid_max").map(|limit| limit / 2)),
            ("kernel.threads-max", number("/proc/sys/kernel/threads-max").map(|limit| limit / 2)),
            ("the control group's pids.max", group_threads().map(|limit| limit.saturating_sub(other_threads))),
        ],
    )
}

fn lowest(requested: usize, limits: &[(&str, Option<u64>)]) -> ConnectionCap {
    let lowest = limits.iter().filter_map(|(name, limit)| limit.map(|limit| (limit, *name))).min();
    match lowest {
        Some((limit, name)) if limit < requested as u64 => {
            let connections = limit.max(1) as usize;
            let noun = if connections == 1 { "connection" } else { "connections" };
            let reason = format!("{name} allows {connections} {noun}, not {requested}; raise it for more");
            ConnectionCap { connections, reason: Some(reason) }
        }
        _ => ConnectionCap { connections: requested, reason: None },
    }
}

fn threads_in_maps(maps: u64) -> u64 {
    maps.saturating_sub(OTHER_MAPS) / MAPS_PER_THREAD
}

/// The number in a file of the kernel; `None` if there is no such file (not Linux) or no number in it (`max`).
fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The lowest `pids.max` of this process's control group and its parents (cgroup v2).
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
        assert!(cap.reason.unwrap().starts_with("c allows 50 connections, "));
        assert!(lowest(2, &[("a", Some(0))]).reason.unwrap().starts_with("a allows 1 connection, "));
    }

    #[test]
    fn a_request_below_all_limits_is_granted() {
        assert_eq!(lowest(10, &[("a", Some(70)), ("b", None)]), ConnectionCap { connections: 10, reason: None });
        assert_eq!(lowest(10, &[("a", Some(0))]).connections, 1);
    }

    #[test]
    fn the_default_map_count_allows_ten_thousand_threads() {
        assert!((10_000..14_000).contains(&threads_in_maps(65_530)));
    }
}
