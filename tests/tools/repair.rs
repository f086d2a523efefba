//! `ordercast check` and `ordercast repair`: damage is reported, and what is readable is saved.

use crate::common::folder::{exported, files, fill, post_batch};
use crate::common::{DEADLINE, Finished, Server, TempDir, ordercast, wait_until};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const ORDERS: usize = 1_500;
const PAGE: usize = 4096;
/// The first byte of a leaf page and of an interior page of a table (SQLite file format, section 1.6).
const LEAF: u8 = 13;
const INTERIOR: u8 = 5;

fn check(folder: &Path) -> Finished {
    ordercast(Path::new("/"), &["check", "--data", &folder.display().to_string()], &[])
}

fn repair(folder: &Path, output: &Path) -> Finished {
    let (folder, output) = (folder.display().to_string(), output.display().to_string());
    ordercast(Path::new("/"), &["repair", "--data", &folder, "--output", &output], &[])
}

#[track_caller]
fn expect_sound(folder: &Path, words: &[&str]) {
    let run = check(folder);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    assert!(run.stdout.ends_with("is sound\n"), "{run:?}");
    for word in words {
        assert!(run.stdout.contains(word), "{word:?} is missing: {run:?}");
    }
}

#[track_caller]
fn expect_damage(folder: &Path, words: &[&str]) {
    let run = check(folder);
    assert_eq!((run.code, run.stderr.as_str()), (Some(1), ""), "{run:?}");
    for word in ["is damaged", "restore a backup"].iter().chain(words) {
        assert!(run.stdout.contains(word), "{word:?} is missing: {run:?}");
    }
}

/// A folder with many orders, its last totals, and its log.
struct Shop {
    temp: TempDir,
    totals: Vec<(String, i64)>,
    log: Vec<serde_json::Value>,
}

impl Shop {
    fn new() -> Shop {
        let temp = TempDir::new();
        let mut server = Server::builder().data(&temp.path().join("data")).start();
        fill(&server, ORDERS);
        let totals = server.totals();
        server.terminate();
        let log = exported(&server.data());
        assert_eq!(log.len(), ORDERS);
        Shop { temp, totals, log }
    }

    fn data(&self) -> PathBuf {
        self.temp.path().join("data")
    }

    fn output(&self) -> PathBuf {
        self.temp.path().join("fresh")
    }

    /// Overwrites the pages that `is_hit` chooses by number and bytes; returns their number.
    fn damage(&self, is_hit: impl Fn(usize, &[u8]) -> bool) -> usize {
        let path = self.data().join("ordercast.sqlite3");
        let mut bytes = fs::read(&path).expect("a file");
        let mut count = 0;
        for (number, page) in (1..).zip(bytes.chunks_mut(PAGE)) {
            if is_hit(number, page) {
                page.fill(0xA5);
                count += 1;
            }
        }
        fs::write(path, bytes).expect("a file");
        count
    }

    /// Repairs, checks that the damaged folder is unchanged, and starts a server on the new one.
    #[track_caller]
    fn repaired(&self, words: &[&str]) -> Server {
        let before = files(&self.data());
        let run = repair(&self.data(), &self.output());
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        for word in words {
            assert!(run.stdout.contains(word), "{word:?} is missing: {run:?}");
        }
        assert!(before == files(&self.data()), "the damaged folder has been changed");
        expect_sound(&self.output(), &[]);
        Server::builder().data(&self.output()).start()
    }
}

fn contains(page: &[u8], text: &str) -> bool {
    page.windows(text.len()).any(|bytes| bytes == text.as_bytes())
}

/// The sequence numbers on a page of the log; empty for every other page.
fn orders_on(page: &[u8]) -> Vec<i64> {
    order_places(page).into_iter().map(|(seq, _)| seq).collect()
}

/// The sequence numbers on a page of the log, whose rows have seven columns, and where they are; empty for every other
/// page.
fn order_places(page: &[u8]) -> Vec<(i64, Range<usize>)> {
    fn number(page: &[u8], place: &mut usize) -> i64 {
        let mut value = 0;
        loop {
            let byte = page[*place];
            *place += 1;
            value = value << 7 | i64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
    if page[0] != LEAF {
        return Vec::new();
    }
    let rows = usize::from(u16::from_be_bytes([page[3], page[4]]));
    let cells = page[8..].chunks(2).take(rows).map(|place| usize::from(u16::from_be_bytes([place[0], place[1]])));
    let rows = cells.map(|mut place| {
        number(page, &mut place);
        let first = place;
        let row = number(page, &mut place);
        // The length of the row's head, and a byte for each column.
        (page[place] == 8).then_some((row, first..place))
    });
    rows.flatten().collect()
}

/// A server that was started again, whose orders up to then a stop has moved to the table of products.
fn started_again() -> (TempDir, Server) {
    let temp = TempDir::new();
    let mut server = Server::builder().data(&temp.path().join("data")).start();
    fill(&server, ORDERS);
    server.terminate();
    server.restart();
    (temp, server)
}

#[test]
fn a_folder_of_a_killed_server_is_repaired_with_its_last_totals() {
    let (temp, mut server) = started_again();
    post_batch(&mut server.client());
    let totals = server.totals();
    server.kill();
    let shop = Shop { temp, totals, log: exported(&server.data()) };
    let repaired = shop.repaired(&["read: 2 categories, 3 products, 2000 orders"]);
    assert_eq!(repaired.totals(), shop.totals);
    assert_eq!(exported(&repaired.data()), shop.log);
}

#[test]
fn the_totals_of_the_products_stand_where_the_end_of_the_log_is_lost_with_the_number_up_to_which_they_have_it() {
    let shop = Shop::new();
    let last = ORDERS as i64;
    let count = shop.damage(|_, page| contains(page, "keys_ahead") || orders_on(page).contains(&last));
    assert_eq!(count, 2);
    assert_eq!(shop.repaired(&["its total of", "includes them"]).totals(), shop.totals);
}

#[test]
fn that_totals_may_lack_the_end_of_the_log_of_a_killed_server_is_said() {
    let (temp, mut server) = started_again();
    (0..2).for_each(|_| post_batch(&mut server.client()));
    let log = server.data().join("ordercast.sqlite3-wal");
    wait_until(DEADLINE, "the log is in the data file", || fs::metadata(&log).expect("a log").len() == 0);
    let totals = server.totals();
    server.kill();
    let shop = Shop { temp, totals, log: Vec::new() };
    let middle = ORDERS as i64 + 500;
    assert_eq!(shop.damage(|_, page| orders_on(page).contains(&middle)), 1);
    let words = ["the totals include them, but for those of a product without a later one", "did not stop in order"];
    assert_eq!(shop.repaired(&words).totals(), shop.totals, "there are later ones");
}

#[test]
fn a_sound_file_is_sound_live_killed_and_stopped_and_is_not_changed() {
    let mut server = Server::start();
    fill(&server, ORDERS);
    let words = ["schema 7", "2 categories, 3 products", "1500 orders, numbers 1 to 1500"];
    expect_sound(&server.data(), &words);
    fill(&server, 1);
    server.kill();
    expect_sound(&server.data(), &words);
    server.restart();
    server.terminate();
    let before = files(&server.data());
    expect_sound(&server.data(), &words);
    assert!(before == files(&server.data()), "the check has changed the folder");
}

#[test]
fn a_new_product_is_counted_as_no_order_at_the_start_nor_by_the_check() {
    let mut server = Server::start();
    fill(&server, 3);
    let reply = server.client().post("/electronics", "{\"name\":\"Lamp\",\"rrp\":\"1\",\"info\":\"\"}");
    assert_eq!(reply.status, 200, "{reply:?}");
    fill(&server, 4);
    expect_sound(&server.data(), &["4 orders and 1 new product, numbers 1 to 5"]);
    server.restart();
    wait_until(DEADLINE, "the start is logged", || server.log().contains("has 4 orders and 4 products"));
}

#[test]
fn a_damaged_page_of_the_log_costs_its_orders_and_no_total() {
    let shop = Shop::new();
    let original = fs::read(shop.data().join("ordercast.sqlite3")).expect("a file");
    let hit = |page: &[u8]| orders_on(page).contains(&700);
    let lost: Vec<i64> = original.chunks(PAGE).filter(|page| hit(page)).flat_map(orders_on).collect();
    assert_eq!(shop.damage(|_, page| hit(page)), 1);
    let (first, last) = (lost[0], lost[lost.len() - 1]);
    assert_eq!(lost.len() as i64, last - first + 1);

    let saved = format!("{} orders (of the numbers 1 to 1500)", ORDERS - lost.len());
    expect_damage(&shop.data(), &[&saved, "ordercast repair"]);
    let told = format!("lost: {} orders from {first} to {last}", lost.len());
    let mut server = shop.repaired(&[&told, "3 products with their totals", "1500 keys"]);
    assert_eq!(server.totals(), shop.totals);
    let left: Vec<_> =
        shop.log.iter().filter(|line| !lost.contains(&line["seq"].as_i64().expect("a number"))).cloned().collect();
    let run = ordercast(Path::new("/"), &["export", "--data", &shop.output().display().to_string()], &[]);
    assert!(run.code == Some(0) && run.stderr.contains(&format!("{} orders", lost.len())), "{}", run.stderr);
    let saved: Vec<serde_json::Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(saved == left, "{} of {} orders were saved", saved.len(), left.len());

    // New orders continue the log, and known keys are still known.
    fill(&server, 1);
    server.client().order("B1", 1);
    assert_eq!(server.client().get("/log?after=1500").json()["seq"], 1_501);
    server.terminate();
    expect_sound(&shop.output(), &["1501", "lost before a repair"]);
}

/// A row id is no part of its record, so a damaged one does not show in it. It would be the last number of the log.
#[test]
fn an_order_with_a_damaged_number_costs_that_order_alone() {
    // The first, one in the middle and the last of a page, and the last of the log, whose number has two bytes.
    for (place, changed) in [(0, 16_000), (3, 16_001), (usize::MAX, 16_002), (usize::MAX, 200)] {
        let shop = Shop::new();
        let path = shop.data().join("ordercast.sqlite3");
        let mut bytes = fs::read(&path).expect("a file");
        let middle = if changed == 16_002 { ORDERS as i64 } else { 700 };
        let page = bytes.chunks_mut(PAGE).find(|page| orders_on(page).contains(&middle)).expect("a page of the log");
        let places = order_places(page);
        let (lost, at) = places[place.min(places.len() - 1)].clone();
        assert_eq!(at.len(), 2);
        page[at].copy_from_slice(&[0x80 | (changed >> 7) as u8, changed as u8 & 0x7f]);
        fs::write(path, bytes).expect("a file");

        expect_damage(&shop.data(), &["1499 orders (of the numbers 1 to", "ordercast repair"]);
        let mut server = shop.repaired(&["damaged: 0 pages", "1 row elsewhere", "1499 orders"]);
        assert_eq!(server.totals(), shop.totals, "order {lost} as {changed}");
        server.client().order("A1", 5);
        let last = ORDERS as i64 - i64::from(lost == ORDERS as i64);
        assert_eq!(server.client().get(&format!("/log?after={last}")).json()["seq"], last + 1);
        server.terminate();
        expect_sound(&shop.output(), &[]);
        // A file with a gap, in which later orders end pages, is repaired like any other.
        let again = shop.temp.path().join("again");
        assert_eq!(repair(&shop.output(), &again).code, Some(0));
        let log = |folder: &Path| ordercast(folder, &["export", "--data", "."], &[]).stdout;
        assert!(log(&again) == log(&shop.output()) && log(&again).lines().count() == ORDERS, "{lost} as {changed}");
    }
}

#[test]
fn without_the_end_of_the_log_totals_stand_and_new_orders_join_them() {
    let shop = Shop::new();
    assert_eq!(shop.damage(|_, page| orders_on(page).contains(&(ORDERS as i64))), 1);
    let mut server = shop.repaired(&["the last orders of A1", "the last orders of B1"]);
    assert_eq!(server.totals(), shop.totals);
    server.client().order("A1", 5);
    assert_eq!(server.totals()[0].1, shop.totals[0].1 + 5);
    server.terminate();
    expect_sound(&shop.output(), &[]);
}

#[test]
fn lost_products_get_their_ids_from_the_index_and_their_totals_from_the_log() {
    let shop = Shop::new();
    assert_eq!(shop.damage(|_, page| page[0] == LEAF && contains(page, "Vacuum Cleaner")), 1);
    expect_damage(&shop.data(), &["0 products, 1500 orders"]);
    let server =
        shop.repaired(&["product 1 was lost: A1 in electronics stands in", "as order 1498 left it", "1500 orders"]);
    assert_eq!(server.totals(), shop.totals);
    assert_eq!(server.client().get("/log?after=0&limit=1").json(), shop.log[0]);
}

#[test]
fn without_the_index_lost_products_get_names_of_their_own() {
    let shop = Shop::new();
    let is_index =
        |page: &[u8]| page[0] == 10 && contains(page, "A1") && contains(page, "B1") && !contains(page, "till");
    assert_eq!(shop.damage(|_, page| is_index(page) || page[0] == LEAF && contains(page, "Vacuum Cleaner")), 2);
    let server = shop.repaired(&["recovered-1 in recovered"]);
    let told: Vec<i64> = server.totals().into_iter().map(|(_, total)| total).collect();
    assert_eq!(told, shop.totals.iter().map(|(_, total)| *total).collect::<Vec<_>>());
    assert_eq!(server.client().categories(), ["electronics", "confectionery", "recovered"]);
}

#[test]
fn lost_categories_get_their_names_from_the_index_or_names_of_their_own() {
    for (is_index_lost, names) in [(false, ["electronics", "confectionery"]), (true, ["recovered-1", "recovered-2"])] {
        let shop = Shop::new();
        let is_lost =
            |page: &[u8]| contains(page, "confectionery") && (page[0] == LEAF || is_index_lost && page[0] == 10);
        assert_eq!(shop.damage(|number, page| number > 1 && is_lost(page)), 1 + usize::from(is_index_lost));
        let server = shop.repaired(&["category 1 was lost", "1500 orders"]);
        assert_eq!(server.client().categories(), names);
        assert_eq!(server.totals(), shop.totals);
        // A substitute category numbers new products like any other.
        let category = names[0];
        let list = server.client().post(&format!("/{category}"), "{\"name\":\"Lamp\",\"rrp\":\"1\",\"info\":\"\"}");
        assert_eq!(list.json()[2]["id"], "A3");
    }
}

#[test]
fn the_first_page_and_all_interior_pages_may_be_lost() {
    let shop = Shop::new();
    assert!(shop.damage(|number, page| number == 1 || page[0] == INTERIOR || page[0] == 2) > 1);
    expect_damage(&shop.data(), &["2 categories, 3 products, 1500 orders"]);
    let server = shop.repaired(&["saved: 2 categories, 3 products with their totals, 1500 orders, 1500 keys"]);
    assert_eq!(server.totals(), shop.totals);
    drop(server);
    assert!(exported(&shop.output()) == shop.log);
}

#[test]
fn lost_keys_are_found_in_the_log() {
    let shop = Shop::new();
    let is_keys = |page: &[u8]| page[0] == LEAF && contains(page, "till-700") && orders_on(page).is_empty();
    assert_eq!(shop.damage(|_, page| is_keys(page)), 1);
    let server = shop.repaired(&["1500 keys"]);
    fill(&server, ORDERS);
    assert_eq!(server.totals(), shop.totals, "nothing was counted again");
}

#[test]
fn what_a_killed_server_left_in_sqlites_log_is_saved_too() {
    let temp = TempDir::new();
    let data = temp.path().join("data");
    let mut server = Server::builder().data(&data).start();
    fill(&server, 600);
    let told = server.totals();
    server.kill();
    let in_file = fs::metadata(data.join("ordercast.sqlite3")).expect("a file").len();
    assert!(fs::metadata(data.join("ordercast.sqlite3-wal")).expect("a log").len() > in_file);
    let before = files(&data);
    let output = temp.path().join("fresh");
    let run = repair(&data, &output);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("600 orders, 600 keys"), "{run:?}");
    assert!(before == files(&data));
    assert_eq!(Server::builder().data(&output).start().totals(), told);
}

#[test]
fn repair_refuses_what_it_must_not_touch_and_says_why() {
    let temp = TempDir::new();
    let (data, output) = (temp.path().join("data"), temp.path().join("fresh"));
    let expect_refusal = |run: Finished, words: &[&str]| {
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
        for word in words {
            assert!(run.stderr.contains(word), "{word:?} is missing: {run:?}");
        }
    };
    expect_refusal(repair(&data, &output), &["data/ordercast.sqlite3", "--data"]);
    let mut server = Server::builder().data(&data).start();
    expect_refusal(repair(&data, &output), &["in use", &server.pid().to_string()]);
    assert!(!output.exists());
    server.client().order("A1", 1);
    server.terminate();
    expect_refusal(repair(&data, &data), &["already", "--output"]);
    fs::create_dir(&output).expect("a folder");
    for suffix in ["", "-wal"] {
        let there = output.join(format!("ordercast.sqlite3{suffix}"));
        fs::write(&there, "mine").expect("a file");
        expect_refusal(repair(&data, &output), &["already", "--output"]);
        assert_eq!(fs::read(&there).expect("a file"), b"mine");
        fs::remove_file(there).expect("a file");
    }
    fs::write(data.join("ordercast.sqlite3"), vec![7; 20 * PAGE]).expect("a file");
    expect_refusal(repair(&data, &output), &["nothing", "restore a backup"]);
    assert_eq!(files(&output), []);
    let run = check(&data);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stdout.contains("nothing of the tally is readable"), "{run:?}");
    // The server never leaves an empty file, so something has emptied this one.
    fs::write(data.join("ordercast.sqlite3"), "").expect("a file");
    assert_eq!(check(&data).code, Some(1));

    // By default the output is a folder beside the damaged one.
    let other = TempDir::new();
    let mut server = Server::builder().data(&other.path().join("shop")).start();
    server.terminate();
    let run = ordercast(other.path(), &["repair", "--data", "shop/"], &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(other.path().join("shop-repaired/ordercast.sqlite3").is_file());
}
