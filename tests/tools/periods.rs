//! Periods in `ordercast check`, `backup` and `repair`.

use crate::common::folder::fill;
use crate::common::periods::{all_reports, amounts, close, report, sums};
use crate::common::{Finished, Server, TempDir, ordercast};
use serde_json::Value;
use std::fs;

const PAGE: usize = 4096;
/// The first byte of a leaf page of a table (SQLite file format, section 1.6).
const LEAF: u8 = 13;

/// A folder with four periods, of which the second is empty and the last is current, and their reports.
struct Shop {
    temp: TempDir,
    reports: Vec<Value>,
    totals: Vec<(String, i64)>,
}

impl Shop {
    fn new() -> Shop {
        let temp = TempDir::new();
        let mut server = Server::builder().data(&temp.path().join("data")).start();
        let mut client = server.client();
        fill(&server, 200);
        close(&mut client, 1);
        close(&mut client, 2);
        client.post("/electronics", "{\"name\":\"Lamp\"}");
        client.order("A3", 5);
        fill(&server, 300);
        close(&mut client, 3);
        client.order("A3", 2);
        let (reports, totals) = (all_reports(server.addr()), server.totals());
        server.terminate();
        Shop { temp, reports, totals }
    }

    fn run(&self, args: &[&str]) -> Finished {
        ordercast(self.temp.path(), args, &[])
    }

    #[track_caller]
    fn expect_sound(&self, folder: &str) {
        let check = self.run(&["check", "--data", folder]);
        assert!(check.code == Some(0) && check.stdout.contains("4 periods"), "{check:?}");
    }

    /// Overwrites the pages of tables with this number of columns, which have a row, and of no other text than this one.
    #[track_caller]
    fn damage(&self, columns: u8, is_hit: impl Fn(&[u8]) -> bool) {
        let path = self.temp.path().join("data/ordercast.sqlite3");
        let mut bytes = fs::read(&path).expect("a file");
        let mut count = 0;
        for page in bytes.chunks_mut(PAGE).skip(1) {
            if page[0] == LEAF && columns_of(page) == Some(columns) && is_hit(page) {
                page.fill(0xA5);
                count += 1;
            }
        }
        assert_eq!(count, 1);
        fs::write(path, bytes).expect("a file");
    }

    /// Repairs, and starts a server on the new folder.
    #[track_caller]
    fn repaired(&self, words: &[&str]) -> Server {
        let run = self.run(&["repair", "--output", "fresh"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        for word in words {
            assert!(run.stdout.contains(word), "{word:?} is missing: {run:?}");
        }
        self.expect_sound("fresh");
        let server = Server::builder().data(&self.temp.path().join("fresh")).start();
        assert_eq!(server.totals(), self.totals);
        server
    }
}

/// The number of columns of the first row: its head has a byte for each, and one for its own length. The lengths and the
/// numbers of rows here need one or two bytes.
fn columns_of(page: &[u8]) -> Option<u8> {
    if page[3..5] == [0, 0] {
        return None;
    }
    let mut place = usize::from(u16::from_be_bytes([page[8], page[9]]));
    for _ in 0..2 {
        place += if page[place] & 0x80 == 0 { 1 } else { 2 };
    }
    Some(page[place] - 1)
}

fn contains(page: &[u8], text: &str) -> bool {
    page.windows(text.len()).any(|bytes| bytes == text.as_bytes())
}

#[test]
fn a_check_finds_periods_sound_live_killed_and_stopped_and_a_backup_keeps_them() {
    let shop = Shop::new();
    shop.expect_sound("data");
    let mut server = Server::builder().data(&shop.temp.path().join("data")).start();
    shop.expect_sound("data");
    server.client().order("A1", 1);
    let reports = all_reports(server.addr());
    assert_eq!(shop.run(&["backup", "copy"]).code, Some(0));
    close(&mut server.client(), 4);
    server.kill();
    let check = shop.run(&["check"]);
    assert!(check.code == Some(0) && check.stdout.contains("5 periods"), "{check:?}");
    let restored = shop.temp.path().join("restored");
    fs::create_dir(&restored).expect("a folder");
    fs::rename(shop.temp.path().join("copy"), restored.join("ordercast.sqlite3")).expect("a file");
    shop.expect_sound("restored");
    assert_eq!(all_reports(Server::builder().data(&restored).start().addr()), reports);
}

#[test]
fn a_repair_keeps_the_periods_and_their_reports() {
    let shop = Shop::new();
    let path = shop.temp.path().join("data/ordercast.sqlite3");
    let mut bytes = fs::read(&path).expect("a file");
    bytes[..PAGE].fill(0xA5);
    fs::write(path, bytes).expect("a file");
    let server = shop.repaired(&["4 periods"]);
    assert_eq!(all_reports(server.addr()), shop.reports);
    close(&mut server.client(), 4);
    server.client().order("A1", 1);
    assert_eq!(amounts(&report(&mut server.client(), "current"))["A1"], 1);
}

#[test]
fn a_repair_without_the_list_of_periods_keeps_the_reports_and_the_current_count() {
    let shop = Shop::new();
    shop.damage(3, |_| true);
    let server = shop.repaired(&["lost: when 4 periods began", "4 periods"]);
    let reports = all_reports(server.addr());
    for (saved, before) in reports.iter().zip(&shop.reports) {
        assert_eq!((&saved["number"], &saved["products"]), (&before["number"], &before["products"]));
    }
    assert_eq!(reports[2]["opened"], "1970-01-01T00:00:00.000Z");
}

#[test]
fn a_repair_without_the_lines_of_the_reports_keeps_the_current_count() {
    let shop = Shop::new();
    // Categories have as many columns.
    shop.damage(4, |page| !contains(page, "electronics"));
    let server = shop.repaired(&["saved: ", "4 periods"]);
    let reports = all_reports(server.addr());
    assert_eq!(sums(&reports), amounts(&shop.reports[3]), "the current count is with the products");
}
