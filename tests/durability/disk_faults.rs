//! Disk faults of every kind at every step of a commit. An order that was answered with success counts once, one that
//! was rejected never counts, and only one that was answered with "not known" (500) may count once or not. This holds
//! during the fault, after it, and after a kill or a power cut during it.

use crate::common::disk::{Call, EIO, ENOSPC, LOG, MAIN};
use crate::common::{
    Client, DEADLINE, Disk, Fault, Form, Message, Positional, Server, Step, WebSocket, ordercast, wait_until,
};
use crate::promises::totals;
use crate::shop::{Ending, POSTERS, Shop};
use crate::trace::{Kind, Trace};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ENDINGS: [Ending; 2] = [Ending::Lifted, Ending::Killed];
/// The writes of a commit of one order and the first of the next: a frame head and a page for each page, of which the
/// first commit of a run has two.
const WRITES: u32 = 5;
/// The writes of a later commit of one order.
const ORDER_WRITES: u32 = 2;
/// Bytes; less than a page.
const PART: u32 = 1_000;
/// SQLite runs a checkpoint when its WAL has 1,000 pages, each with a frame head; this size, in bytes, is some commits
/// before.
const ALMOST_FULL: u64 = 960 * (4_096 + 24);
const HUNG_READS: usize = 20;

fn shop() -> Option<Shop> {
    Disk::new().map(Shop::open)
}

fn trials(shop: &mut Shop, faults: &[Fault], steps: u32, refusals: &[u16]) {
    for step in 0..steps {
        for fault in faults {
            for ending in ENDINGS {
                shop.trial(fault.after(step), ending, refusals);
            }
        }
    }
}

#[test]
fn an_order_whose_write_fails_is_refused_and_never_counts() {
    let Some(mut shop) = shop() else { return };
    let write = Fault::fails(Call::Write, LOG, EIO);
    trials(&mut shop, &[write.times(1), write], WRITES, &[503]);
}

#[test]
fn an_order_whose_write_is_torn_is_refused_and_never_counts() {
    let Some(mut shop) = shop() else { return };
    let torn = Fault::torn(LOG, EIO, PART);
    trials(&mut shop, &[torn.times(1), torn], WRITES, &[503]);
}

#[test]
fn an_order_that_finds_no_room_is_refused_and_never_counts() {
    let Some(mut shop) = shop() else { return };
    let full = Fault::fails(Call::Write, LOG, ENOSPC);
    trials(&mut shop, &[full.times(1), full, Fault::torn(LOG, ENOSPC, PART).times(1)], WRITES, &[503, 507]);
}

#[test]
fn writes_that_stop_short_and_go_on_refuse_nothing() {
    let Some(mut shop) = shop() else { return };
    trials(&mut shop, &[Fault::short(LOG, PART), Fault::short(LOG | MAIN, 1).times(3)], 2, &[]);
}

#[test]
fn an_order_whose_sync_fails_is_never_counted_unless_the_answer_is_that_it_is_not_known() {
    let Some(mut shop) = shop() else { return };
    let sync = Fault::fails(Call::Sync, LOG, EIO);
    let once = [sync.times(1), Fault::fails(Call::Sync, LOG, ENOSPC).times(1)];
    trials(&mut shop, &once, 3, &[503]);
    trials(&mut shop, &[sync.times(2), sync.times(3), sync], 3, &[503, 500]);
    // From the sync on, every call fails.
    trials(&mut shop, &[sync.and(Call::Write)], 8, &[503, 500]);
}

/// A shop whose WAL is about to be checkpointed.
fn shop_with_a_long_log() -> Option<Shop> {
    let mut shop = shop()?;
    let log = shop.disk.folder().join("ordercast.sqlite3-wal");
    let shop_ref = &shop;
    thread::scope(|scope| {
        for product in 0..POSTERS {
            let log = &log;
            scope.spawn(move || {
                let mut client = shop_ref.poster(product);
                while fs::metadata(log).expect("the log is there").len() < ALMOST_FULL {
                    assert_eq!(shop_ref.order(&mut client, product), Some(200));
                }
            });
        }
    });
    shop.server.kill();
    Some(shop)
}

/// The checkpoint follows the commit that makes the WAL long: that commit counts, and the WAL still has all of it.
#[test]
fn a_log_that_cannot_be_written_back_refuses_nothing() {
    let Some(long) = shop_with_a_long_log() else { return };
    let write = Fault::fails(Call::Write, MAIN, EIO);
    let sync = Fault::fails(Call::Sync, MAIN, EIO);
    let first = [
        write.times(1),
        write,
        Fault::torn(MAIN, EIO, PART).times(1),
        Fault::torn(MAIN, EIO, PART),
        Fault::fails(Call::Write, MAIN, ENOSPC),
        sync.times(1),
        sync,
    ];
    let later = [write.times(1).after(1), write.after(3), Fault::torn(MAIN, EIO, PART).after(2)];
    for fault in first.into_iter().chain(later) {
        for ending in ENDINGS {
            Shop::open(long.disk.copy()).trial(fault, ending, &[]);
        }
    }
}

#[test]
fn an_order_whose_sync_fails_at_the_beginning_of_a_new_log_never_counts() {
    let Some(long) = shop_with_a_long_log() else { return };
    for step in 0..4 {
        for call in [Call::Write, Call::Sync] {
            for ending in ENDINGS {
                let mut shop = Shop::open(long.disk.copy());
                shop.post_until_written_back();
                shop.trial(Fault::fails(call, LOG, EIO).after(step).times(1), ending, &[503]);
            }
        }
    }
}

/// Reads, feeds and new connections do not need the disk.
#[test]
fn everything_except_orders_goes_on_while_the_disk_hangs() {
    let Some(mut shop) = shop() else { return };
    for fault in
        [Fault::hangs(Call::Write, LOG), Fault::hangs(Call::Write, LOG).after(1), Fault::hangs(Call::Sync, LOG)]
    {
        for ending in ENDINGS {
            hang(&mut shop, fault, ending);
        }
    }
    let Some(long) = shop_with_a_long_log() else { return };
    for fault in [Fault::hangs(Call::Write, MAIN), Fault::hangs(Call::Sync, MAIN)] {
        for ending in ENDINGS {
            Shop::open(long.disk.copy()).trial(fault, ending, &[]);
        }
    }
}

#[track_caller]
fn hang(shop: &mut Shop, fault: Fault, ending: Ending) {
    let before = shop.check("before", 0);
    let addr = shop.server.addr();
    let mut reader = shop.server.client();
    let mut feed = WebSocket::open(addr, "/orders");
    feed.texts(POSTERS);
    shop.disk.arm(fault);
    thread::scope(|scope| {
        let shop = &*shop;
        // All connect before the first order, because the server may end soon after it.
        let clients: Vec<Client> = (0..POSTERS).map(|product| shop.poster(product)).collect();
        let orders: Vec<_> = (clients.into_iter().enumerate())
            .map(|(product, mut client)| scope.spawn(move || shop.order(&mut client, product)))
            .collect();
        shop.disk.wait_for_hit();
        for _ in 0..HUNG_READS {
            assert_eq!(shop.check("while it hangs", 0), before);
            assert_eq!(reader.get("/orders/drinks").json().as_array().map(Vec::len), Some(POSTERS));
            assert_eq!(Client::connect(addr).get("/").status, 200);
            assert_eq!(WebSocket::open(addr, "/orders").texts(POSTERS).len(), POSTERS);
        }
        feed.expect_nothing_but_a_pong();
        match ending {
            Ending::Lifted => shop.disk.lift(),
            Ending::Killed => shop.server.signal("KILL"),
        }
        let expected = if ending == Ending::Lifted { Some(200) } else { None };
        orders.into_iter().for_each(|order| assert_eq!(order.join().expect("an order"), expected));
    });
    if ending == Ending::Lifted {
        assert_eq!(feed.texts(POSTERS).len(), POSTERS);
        shop.check("after it hung", 0);
    }
    shop.restart("after it hung");
    shop.cut_the_power("after it hung", 4);
}

#[test]
fn an_order_refused_after_a_failed_sync_does_not_come_back_with_a_kill() {
    let Some(mut shop) = shop() else { return };
    shop.expect(0, 200);
    shop.disk.arm(Fault::fails(Call::Sync, LOG, EIO).times(1));
    shop.expect(1, 503);
    shop.disk.arm(Fault::fails(Call::Write, LOG, EIO));
    shop.expect(2, 503);
    shop.cut_the_power_now("before the kill", 16);
    shop.restart("after the kill");
    shop.cut_the_power_now("after the kill", 16);
}

#[test]
fn an_order_that_can_be_neither_synced_nor_taken_back_is_answered_with_not_known() {
    let Some(mut shop) = shop() else { return };
    shop.expect(0, 200);
    shop.disk.arm(Fault::fails(Call::Sync, LOG, EIO));
    shop.expect(1, 500);
    // These orders are never written.
    shop.expect(2, 503);
    shop.expect(2, 503);
    shop.cut_the_power_now("before the kill", 16);
    shop.restart("after the kill");
    shop.cut_the_power_now("after the kill", 16);
    (0..POSTERS).for_each(|product| shop.expect(product, 200));
    shop.cut_the_power("with more orders after it", 16);
}

#[test]
fn a_server_ends_when_told_to_although_no_sync_succeeds() {
    let Some(mut shop) = shop() else { return };
    shop.expect(0, 200);
    for targets in [LOG, LOG | MAIN] {
        for first in [1, 2] {
            shop.disk.arm(Fault::fails(Call::Sync, targets, EIO));
            shop.expect(first, 500);
            assert!(shop.server.terminate().code().is_some());
            shop.restart("after an end without syncs");
            (0..POSTERS).for_each(|product| shop.expect(product, 200));
            shop.cut_the_power("after an end without syncs", 8);
        }
    }
}

/// What a killed server has written but not synced, the next server reads from the page cache. It must be synced before
/// it is shown.
#[test]
fn what_is_shown_after_a_kill_before_the_sync_survives_a_power_cut() {
    let Some(mut shop) = shop() else { return };
    for fault in [
        Fault::hangs(Call::Sync, LOG),
        Fault::fails(Call::Sync, LOG, EIO),
        Fault::fails(Call::Sync, LOG, EIO).and(Call::Write).after(ORDER_WRITES),
    ] {
        shop.expect(0, 200);
        shop.disk.arm(fault);
        thread::scope(|scope| {
            let shop = &shop;
            let order = scope.spawn(|| shop.order(&mut shop.poster(1), 1));
            shop.disk.wait_for_hit();
            if fault.is_hang() {
                shop.server.signal("KILL");
            }
            assert_ne!(order.join().expect("an order"), Some(200));
        });
        shop.restart("after the kill");
        shop.cut_the_power_now("after the kill", 24);
        shop.expect(2, 200);
        shop.cut_the_power_now("with an order after it", 16);
    }
}

/// While the disk hangs, new orders are rejected at once.
#[test]
fn a_disk_that_hangs_for_long_refuses_new_orders_and_takes_them_when_it_is_back() {
    let Some(mut shop) = shop() else { return };
    shop.disk.arm(Fault::hangs(Call::Sync, LOG));
    thread::scope(|scope| {
        let shop = &shop;
        let first = scope.spawn(|| shop.order(&mut shop.poster(0), 0));
        shop.disk.wait_for_hit();
        let mut probe = shop.server.client();
        wait_until(DEADLINE, "the server says that it is not ready", || probe.get("/readyz").status == 503);
        (0..POSTERS).for_each(|product| shop.expect(product, 503));
        shop.disk.lift();
        assert_eq!(first.join().expect("an order"), Some(200));
    });
    (0..POSTERS).for_each(|product| shop.expect(product, 200));
    shop.restart("after it hung");
    shop.cut_the_power("after it hung", 4);
}

/// Without an order the log is moved into the data file, for which later orders have to wait.
#[test]
fn a_disk_that_hangs_while_no_orders_come_refuses_the_next_ones() {
    let Some(mut shop) = shop() else { return };
    shop.disk.arm(Fault::hangs(Call::Sync, MAIN));
    shop.expect(0, 200);
    shop.disk.wait_for_hit();
    let mut probe = shop.server.client();
    wait_until(DEADLINE, "the server says that it is not ready", || probe.get("/readyz").status == 503);
    (0..POSTERS).for_each(|product| shop.expect(product, 503));
    shop.disk.lift();
    wait_until(DEADLINE, "the server is ready again", || probe.get("/readyz").status == 200);
    (0..POSTERS).for_each(|product| shop.expect(product, 200));
    shop.restart("after it hung");
}

/// For every way to send an order: a plain request, one with an `Origin`, a batch, and a WebSocket command. After half
/// a minute each is answered with "not known"; and when the disk works again, the late outcome is not sent as the
/// answer to the client's next request.
#[test]
fn orders_that_hang_on_the_disk_are_answered_with_not_known_and_never_in_place_of_later_ones() {
    const PATIENCE: Duration = Duration::from_secs(30);
    let Some(mut shop) = shop() else { return };
    shop.disk.arm(Fault::hangs(Call::Sync, LOG));
    let addr = shop.server.addr();
    let order = |id: &str, key: &str| format!("{{\"id\":\"{id}\",\"amount\":3,\"key\":\"{key}\"}}");
    let expect_unknown = |ask: &mut dyn FnMut() -> bool| {
        let begun = Instant::now();
        assert!(ask(), "it is not known");
        let waited = begun.elapsed();
        assert!((PATIENCE..PATIENCE + DEADLINE).contains(&waited), "{waited:?}");
    };
    let (asked, lifted) = (AtomicUsize::new(0), AtomicBool::new(false));
    let wait_for_the_disk = || {
        asked.fetch_add(1, Ordering::Relaxed);
        wait_until(3 * DEADLINE, "the disk works again", || lifted.load(Ordering::Relaxed));
    };
    let post = |path: &str, headers: &[(&str, &str)], bodies: [String; 2]| {
        let mut client = Client::connect(addr);
        client.stream().set_read_timeout(Some(2 * PATIENCE)).expect("a deadline can be set");
        let headers = [&[("Content-Type", "application/json")][..], headers].concat();
        let mut says_close = false;
        expect_unknown(&mut || {
            let reply = client.request("POST", path, &headers, bodies[0].as_bytes());
            says_close = reply.says_close();
            assert_eq!(reply.status, 500, "{reply:?}");
            true
        });
        if !says_close {
            let reply = client.request("POST", path, &headers, bodies[1].as_bytes());
            assert_eq!(reply.status, 503, "{reply:?}");
        }
        wait_for_the_disk();
        if !says_close {
            // No late outcome precedes the next response.
            assert_eq!(client.get("/readyz").status, 200);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| post("/orders/D1", &[], [order("", "plain"), String::new()]));
        let page = [("Origin", "http://127.0.0.1")];
        scope.spawn(move || post("/orders/D1", &page, ["page", "page-2"].map(|key| order("", key))));
        scope.spawn(|| {
            post("/orders", &[], [("D1", "batch"), ("D2", "batch-2")].map(|(id, key)| format!("[{}]", order(id, key))))
        });
        scope.spawn(|| {
            let mut socket = WebSocket::open(addr, "/orders");
            socket.texts(POSTERS);
            let mut ask = |id: &str, key: &str| {
                socket.send(&format!("{{\"cmd\":\"add-order\",\"payload\":{}}}", order(id, key)));
                loop {
                    match socket.next_within(2 * PATIENCE).expect("an answer") {
                        Message::Text(text) if text.contains(&format!("\"key\":\"{key}\"")) => break text,
                        Message::Text(text) => assert!(text.contains("\"total\""), "{text}"),
                        Message::Ping(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            };
            expect_unknown(&mut || ask("D1", "socket").contains("not known"));
            let said = ask("D2", "socket-2");
            assert!(said.contains("nothing was counted"), "{said}");
            wait_for_the_disk();
        });
        wait_until(2 * PATIENCE, "all are answered", || asked.load(Ordering::Relaxed) == 4);
        shop.disk.lift();
        wait_until(DEADLINE, "the disk works again", || shop.server.client().get("/readyz").status == 200);
        lifted.store(true, Ordering::Relaxed);
    });
    // Each of them counts once by now, or with its repeat; the rejected ones do not count.
    for key in ["plain", "page", "batch", "socket"] {
        let reply = shop.server.client().post("/orders", format!("[{}]", order("D1", key)));
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let totals = totals(&shop.server);
    assert_eq!((totals["D1"], totals["D2"]), (5 + 4 * 3, 0));
    shop.server.terminate();
}

/// A subscriber that has seen orders of the original that the copy does not have must not resume on the copy, although
/// the copy's first server could not record its start.
#[test]
fn a_start_that_could_not_be_recorded_is_recorded_with_the_first_order() {
    let Some(disk) = Disk::new() else { return };
    let original = Server::start();
    let mut client = original.client();
    (0..4).for_each(|_| client.order("A1", 1));
    let file = disk.folder().join("ordercast.sqlite3");
    let (data, copy) = (original.data().display().to_string(), file.display().to_string());
    let backup = ordercast(disk.folder(), &["backup", &copy, "--data", &data], &[]);
    assert_eq!(backup.code, Some(0), "{backup:?}");
    let mut feed = Positional::open(Form::WebSocket, original.addr(), "/orders", None);
    feed.take(3);
    (0..4).for_each(|_| client.order("A1", 1));
    let seen = feed.take(4).pop().and_then(|step| step.position).expect("a position");

    disk.arm(Fault::fails(Call::Write, LOG, ENOSPC));
    let mut server = disk.builder().start();
    wait_until(DEADLINE, "the start is not recorded", || server.log().contains("orders are rejected"));
    disk.lift();
    let mut client = server.client();
    (0..8).for_each(|_| client.order("A2", 1));
    server.restart();
    let mut feed = Positional::open(Form::WebSocket, server.addr(), "/orders", Some(&seen));
    let totals: Vec<_> = feed.take(3).iter().map(Step::pair).collect();
    assert_eq!(totals, [("A1", 7), ("A2", 15), ("B1", 101)].map(|(id, total)| (id.to_owned(), total)));
}

/// A test of the tests: a kill may truncate the record that is being written.
#[test]
fn a_trace_that_a_kill_has_truncated_continues_with_complete_records() {
    let Some(mut shop) = shop() else { return };
    let path = shop.disk.trace();
    let mut trace = Trace::open(&path);
    for bytes in [1, 31, 32, 1_000] {
        shop.expect(0, 200);
        assert!(!trace.more().is_empty());
        shop.server.kill();
        trace.more();
        let whole = fs::read(&path).expect("a trace");
        // A record head with a length beyond the end of the file.
        let mut head = whole[..32].to_vec();
        head[28..].copy_from_slice(&5_000_u32.to_ne_bytes());
        head.resize(bytes.max(32), 7);
        fs::write(&path, [&whole[..], &head[..bytes]].concat()).expect("a trace");
        assert!(trace.more().is_empty());
        shop.restart("after a record was cut off");
        shop.expect(1, 200);
        let records = trace.more();
        assert!(records.iter().any(|record| record.kind == Kind::Sync), "{bytes}: {records:?}");
    }
}

/// A new server must not show what it cannot sync: it does not start, or nothing that it shows is lost.
#[test]
fn a_server_that_cannot_write_the_log_again_shows_nothing_that_a_power_cut_takes_back() {
    let Some(mut shop) = shop() else { return };
    shop.expect(0, 200);
    // The order is written to the WAL, its sync fails, and later writes fail.
    shop.disk.arm(Fault::fails(Call::Sync, LOG, EIO).and(Call::Write).after(ORDER_WRITES));
    shop.expect(1, 500);
    shop.server.kill();
    shop.catch_up();
    shop.disk.arm(Fault::fails(Call::Write, LOG, EIO));
    match shop.disk.builder().try_start() {
        Err(why) => assert!(why.contains("ordercast.sqlite3"), "{why}"),
        Ok(mut server) => {
            // What it lists is in the trace, so it counts as promised.
            totals(&server);
            shop.cut_the_power_now("after a start that could not write", 24);
            server.kill();
        }
    }
}
