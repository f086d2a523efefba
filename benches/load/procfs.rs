//! CPU and memory of processes and of the kernel, read from /proc.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

/// Clock ticks a second in /proc/PID/stat: always 100 in the kernel's interface to user space.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes in a page on every machine that this runs on.
const PAGE: u64 = 4096;

/// Bytes of kernel memory, of the whole machine: only differences between two readings are meaningful.
pub struct KernelMemory {
    /// Stacks of threads.
    pub stacks: u64,
    /// Slab caches: sockets, files, descriptors.
    pub slab: u64,
    pub page_tables: u64,
    /// TCP buffers in use.
    pub tcp: u64,
}

/// The process `root` and all its descendants, `root` first.
pub fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, stat_field(&read_stat(pid)?, PARENT)? as u32)))
        .collect();
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(parent) = pids.get(next).copied() {
        pids.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    pids
}

/// User and system seconds that `pids` have used. Too costly for every sample: the kernel adds up all threads.
pub fn cpu(pids: &[u32]) -> f64 {
    (sum(pids, USER_TIME) + sum(pids, SYSTEM_TIME)) as f64 / TICKS_PER_SECOND
}

/// CPU nanoseconds of each thread of `pids`. Finer than `cpu`, which counts clock ticks, but a thread that ends takes
/// its own along.
pub fn cpu_of_threads(pids: &[u32]) -> HashMap<u32, u64> {
    let tasks = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten());
    let of = |path: PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        Some((path.file_name()?.to_str()?.parse().ok()?, text.split(' ').next()?.parse().ok()?))
    };
    tasks.filter_map(|task| of(task.path())).collect()
}

/// CPU seconds between two readings of `cpu_of_threads`, of the threads that were still there at the second.
pub fn cpu_between(begin: &HashMap<u32, u64>, end: &HashMap<u32, u64>) -> f64 {
    let used = |(thread, now): (&u32, &u64)| now.saturating_sub(begin.get(thread).copied().unwrap_or(0));
    end.iter().map(used).sum::<u64>() as f64 / 1e9
}

/// Threads of `pids`; as costly as `cpu`.
pub fn threads(pids: &[u32]) -> u64 {
    sum(pids, THREADS)
}

/// Resident bytes of `pids`; pages shared by several processes are counted once.
pub fn resident(pids: &[u32]) -> u64 {
    let mut own = 0;
    let mut shared = 0;
    for pid in pids {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages: Vec<u64> = statm.split(' ').map_while(|text| text.parse().ok()).collect();
        if let [_, resident, common, ..] = pages[..] {
            own += resident - common;
            shared = shared.max(common);
        }
    }
    (own + shared) * PAGE
}

/// Anonymous bytes of `pids`: what they have allocated and touched.
pub fn anonymous(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum::<u64>() * 1024
}

/// CPU seconds used on the whole machine.
pub fn busy() -> f64 {
    // The fields of the first line, which sums all cores: user, nice, system, idle, iowait, irq, softirq, steal.
    const NOT_BUSY: [usize; 2] = [3, 4];
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let fields = line.unwrap_or_default().split_whitespace().take(8).enumerate();
    let busy = fields.filter(|(index, _)| !NOT_BUSY.contains(index));
    busy.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// Reads the kernel's memory.
pub fn kernel_memory() -> KernelMemory {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0u64)
    };
    KernelMemory {
        stacks: kilobytes("KernelStack:") * 1024,
        slab: kilobytes("Slab:") * 1024,
        page_tables: kilobytes("PageTables:") * 1024,
        tcp: tcp_memory(),
    }
}

/// Bytes in all TCP buffers of the machine.
pub fn tcp_memory() -> u64 {
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"));
    let pages = line.and_then(|line| line.rsplit_once(" mem ")?.1.trim().parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE
}

// Fields of /proc/PID/stat, counted from the state, which is the first after the closing bracket of the command.
const PARENT: usize = 1;
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;
const THREADS: usize = 17;

/// The sum of one field over `pids`, without those that have ended.
fn sum(pids: &[u32], index: usize) -> u64 {
    pids.iter().filter_map(|pid| stat_field(&read_stat(*pid)?, index)).sum()
}

fn read_stat(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

fn stat_field(stat: &str, index: usize) -> Option<u64> {
    // The command itself may contain spaces and brackets; the last bracket ends it.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(index)?.parse().ok()
}
