//! Exactness: what clients were answered, beside the totals, the order log, the reports of periods, and a backup.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::common::periods::Amounts;
use crate::common::{Client, Server, TempDir, order_log, periods};
use crate::disturbances::back_up;
use crate::shared::{Kind, Shared, lane_id};
use crate::subscribers::CATCH_UP;

/// Between two looks at a log whose end has been reached.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Follows the order log page by page, to the last order: the server keeps only the latest ones (`--keep-orders`).
/// Sequence numbers must have no gap, and each total must be the one before it plus the amount. Returns the sums by lane.
pub fn follow_log(shared: &Shared, addr: SocketAddr) -> Vec<u64> {
    let mut sums = vec![0; shared.lanes.len()];
    let mut client = Client::connect(addr);
    let (mut last, mut since) = (0, None);
    loop {
        // Looked at before the page is asked for, so that a page without lines is the end.
        let finals = shared.finals();
        let page = order_log::lines(&client.get(&format!("/log?after={last}")));
        for line in &page {
            if line.seq != last + 1 {
                shared.fault(format!("the log goes on with {} behind {last}", line.seq));
            }
            last = line.seq;
            let Some(index) = shared.lane_of(&line.id) else { continue };
            sums[index] += line.amount as u64;
            if line.amount != 1 || sums[index] != line.total as u64 {
                shared.fault(format!("the log has {line:?} behind a total of {}", sums[index] - 1));
            }
        }
        shared.counts.log_lines.store(last, Ordering::Relaxed);
        if page.is_empty() {
            let is_late = !shared.is_running() && since.get_or_insert_with(Instant::now).elapsed() > CATCH_UP;
            if finals.is_some() || is_late {
                return sums;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The total of each lane, as `GET /orders` answers them.
pub fn totals(shared: &Shared, addr: SocketAddr) -> Vec<u64> {
    let mut totals = vec![0; shared.lanes.len()];
    for (id, total) in Client::connect(addr).totals() {
        if let Some(index) = shared.lane_of(&id) {
            totals[index] = total as u64;
        }
    }
    totals
}

/// Compares the last totals with what clients were answered.
pub fn compare_answers(shared: &Shared, totals: &[u64]) {
    for (index, (lane, total)) in shared.lanes.iter().zip(totals).enumerate() {
        let (answered, sent) = (lane.answered.load(Ordering::Acquire), lane.sent.load(Ordering::Acquire));
        // Of orders of killed clients it is not known whether they count.
        let is_right = if lane.kind == Kind::Killed { (answered..=sent).contains(total) } else { *total == answered };
        if !is_right {
            let id = lane_id(index);
            shared.fault(format!("{id} has {total}; {sent} orders were sent and {answered} answered"));
        }
    }
}

/// Compares sums that came another way with the last totals.
pub fn compare_sums(shared: &Shared, what: &str, sums: &[u64], totals: &[u64]) {
    for (index, (sum, total)) in sums.iter().zip(totals).enumerate() {
        if sum != total {
            shared.fault(format!("{what}: {} sums up to {sum}, and its total is {total}", lane_id(index)));
        }
    }
}

/// The sums of all reports of periods, by lane, after each was compared with the one that its close was answered with.
pub fn sum_reports(shared: &Shared, addr: SocketAddr, closed: &BTreeMap<u64, Amounts>) -> Vec<u64> {
    let reports = periods::all_reports(addr);
    for report in &reports {
        let number = report["number"].as_u64().expect("a number");
        if closed.get(&number).is_some_and(|amounts| *amounts != periods::amounts(report)) {
            shared.fault(format!("the report of period {number} has changed"));
        }
    }
    let sums = periods::sums(&reports);
    let sum = |index| sums.get(&lane_id(index)).map_or(0, |sum| *sum as u64);
    (0..shared.lanes.len()).map(sum).collect()
}

/// The totals that a server has on a last backup.
pub fn restored_totals(shared: &Shared, server: &Server) -> Vec<u64> {
    let folder = TempDir::new();
    let data = folder.path().join("restored");
    fs::create_dir(&data).expect("a new folder");
    if !back_up(shared, &server.data(), &data.join("ordercast.sqlite3")) {
        return Vec::new();
    }
    let restored = Server::builder().data(&data).start();
    totals(shared, restored.addr())
}

#[test]
fn a_total_that_nobody_was_answered_and_a_wrong_sum_are_faults() {
    let faults_of = |totals: [u64; 2]| {
        let shared = Shared::new();
        let killed = shared.lanes.iter().position(|lane| lane.kind == Kind::Killed).expect("such a lane");
        for index in [0, killed] {
            shared.lanes[index].sending(3, shared.now());
            shared.lanes[index].answered.store(2, Ordering::Relaxed);
        }
        let mut all = vec![0; shared.lanes.len()];
        (all[0], all[killed]) = totals.into();
        compare_answers(&shared, &all);
        compare_sums(&shared, "the same", &all, &all);
        shared.faults().1
    };
    // Two were answered; of the killed client's third order it is not known whether it counts.
    assert_eq!([[2, 2], [2, 3]].map(faults_of), [0, 0]);
    assert_eq!([[3, 2], [1, 2], [2, 4], [2, 1]].map(faults_of), [1, 1, 1, 1]);
    let shared = Shared::new();
    compare_sums(&shared, "the log", &[2, 3], &[2, 2]);
    assert_eq!(shared.faults().1, 1);
}
