//! Resuming from a position: a subscriber that was cut off, stayed away or read too slowly gets every order of its feed
//! once and in order. With a position that is not valid it gets a fresh snapshot.

use crate::common::load::{pipeline_orders, turn};
use crate::common::{DEADLINE, Form, Line, Positional, Server, Step, TempDir, WebSocket, order_log, ordercast};

const ELECTRONICS: &str = "/orders/electronics";
const CONFECTIONERY: &str = "/orders/confectionery";
const FORMS: [Form; 2] = [Form::WebSocket, Form::Events];
const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];

/// Reads a fresh snapshot of electronics and nothing else; returns its position.
#[track_caller]
fn snapshot(feed: &mut Positional) -> Step {
    let steps = feed.take(2);
    let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["A1", "A2"], "{steps:?}");
    assert!(!steps[0].can_resume() && steps[1].can_resume(), "{steps:?}");
    steps[1].clone()
}

/// The position of a fresh snapshot of electronics.
#[track_caller]
fn start_of(server: &Server, form: Form) -> String {
    snapshot(&mut Positional::open(form, server.addr(), ELECTRONICS, None)).position.expect("a position")
}

/// Posts an order and checks that its total is the next one.
#[track_caller]
fn expect_live(server: &Server, feed: &mut Positional, total_of_a2: i64) {
    server.client().order("A2", 1);
    assert_eq!(feed.next().pair(), ("A2".to_owned(), total_of_a2));
}

#[test]
fn a_feed_without_positions_has_plain_totals() {
    let server = Server::start();
    let mut plain = WebSocket::open(server.addr(), ELECTRONICS);
    assert_eq!(plain.texts(2), ["{\"id\":\"A1\",\"total\":3}", "{\"id\":\"A2\",\"total\":7}"]);
    server.client().order("A1", 1);
    assert_eq!(plain.text(), "{\"id\":\"A1\",\"total\":4}");
}

#[test]
fn the_last_message_of_a_snapshot_has_a_position_to_resume_from() {
    let server = Server::start();
    for form in FORMS {
        let position = start_of(&server, form);
        let mut feed = Positional::open(form, server.addr(), ELECTRONICS, Some(&position));
        let total = 8 + FORMS.iter().position(|it| *it == form).unwrap() as i64;
        expect_live(&server, &mut feed, total);
    }
}

#[test]
fn a_subscriber_cut_off_in_the_middle_of_a_snapshot_gets_a_fresh_one() {
    let server = Server::start();
    let mut feed = Positional::open(Form::WebSocket, server.addr(), "/orders", None);
    let cut = feed.take(2);
    drop(feed);
    server.client().order("A1", 1);
    for step in cut {
        assert!(!step.can_resume(), "{step:?}");
        let mut again = Positional::open(Form::WebSocket, server.addr(), "/orders", step.position.as_deref());
        let totals: Vec<i64> = again.take(3).iter().map(|step| step.total).collect();
        assert_eq!(totals, [4, 7, 101]);
    }
    // An event in the middle of a snapshot has no id, so a browser would come back without one, or with an older one.
    let cut = Positional::open(Form::Events, server.addr(), "/orders", None).take(2);
    assert_eq!(cut.iter().map(|step| &step.position).collect::<Vec<_>>(), [&None, &None]);
}

#[test]
fn invalid_positions_get_a_fresh_snapshot() {
    let server = Server::start();
    let other = Server::start();
    for server in [&server, &other] {
        server.client().order("A1", 1);
        server.client().order("A2", 1);
    }
    let own = start_of(&server, Form::WebSocket);
    let prefix =
        own.strip_suffix(".2").expect("a position behind the second order").strip_suffix(".1").expect("a feed");
    let all = Positional::open(Form::Events, server.addr(), "/orders", None).take(3).pop().unwrap();
    let sweets = Positional::open(Form::Events, server.addr(), CONFECTIONERY, None).next();
    let foreign = [
        start_of(&other, Form::WebSocket),
        all.position.unwrap(),
        sweets.position.unwrap(),
        format!("{prefix}.1.3"),
        format!("{prefix}.1.9223372036854775807"),
        format!("{prefix}.1.18446744073709551615"),
        format!("{prefix}.1.18446744073709551616"),
        format!("{prefix}.1.-1"),
        format!("{prefix}.1.+1"),
        format!("{prefix}.1."),
        format!("{prefix}.99.2"),
        format!("{prefix}.1.snapshot"),
        prefix.to_owned(),
        "2".to_owned(),
        "%00".to_owned(),
        "0".repeat(2_000),
    ];
    for form in FORMS {
        for position in &foreign {
            let mut feed = Positional::open(form, server.addr(), ELECTRONICS, Some(position));
            assert_eq!(snapshot(&mut feed).position.as_ref(), Some(&own), "{form:?} from {position}");
        }
        let mut feed = Positional::open(form, server.addr(), ELECTRONICS, Some(&format!("{prefix}.1.1")));
        assert_eq!(feed.next().pair(), ("A2".to_owned(), 8), "a valid position is valid");
    }
}

/// Checks that every order of the feed after this sequence number comes once and in order.
#[track_caller]
fn expect_orders(feed: &mut Positional, log: &[Line], path: &str, after: u64) -> Option<String> {
    let mut last = None;
    for line in log.iter().filter(|line| line.seq > after && line.is_of(path)) {
        let step = feed.next();
        assert_eq!((step.pair(), step.seq()), ((line.id.clone(), line.total), line.seq), "behind {after}");
        last = step.position;
    }
    last
}

/// The orders in the meantime are few enough to be in memory, or too many; and both again after a restart, when memory
/// has none.
#[test]
fn a_subscriber_that_was_away_gets_every_order_from_memory_and_from_the_log() {
    let _turn = turn();
    for (orders, restarts) in [(1_000, false), (1_000, true), (6_000, false), (6_000, true)] {
        let mut server = Server::start();
        let starts = FORMS.map(|form| (form, start_of(&server, form)));
        pipeline_orders(server.addr(), 10, orders / 10);
        let mut client = server.client();
        // Some orders of another category in between.
        for id in ["B1", "A2", "B1", "A1", "B1"] {
            client.order(id, 1);
        }
        if restarts {
            server.restart();
        }
        let log = order_log::read_whole(server.addr(), &STARTS);
        assert_eq!(log.len(), orders + 5);
        for (number, (form, start)) in (0..).zip(&starts) {
            let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(start));
            let last = expect_orders(&mut feed, &log, ELECTRONICS, 0).expect("a position");
            // From a position in between too, and from the end of this feed.
            let file = last.rsplit_once('.').expect("a number").0;
            let middle = format!("{file}.{}", orders / 3);
            let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(&middle));
            expect_orders(&mut feed, &log, ELECTRONICS, orders as u64 / 3);
            // The last order of this feed, and the live one of the previous form.
            let last = format!("{file}.{}", orders + 4 + 2 * number);
            let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(&last));
            expect_live(&server, &mut feed, 9 + number as i64);
        }
    }
}

#[test]
fn orders_that_come_while_the_log_is_read_follow_it_in_order() {
    let _turn = turn();
    let server = Server::start();
    let start = start_of(&server, Form::WebSocket);
    // More than memory keeps, and few enough to be sent.
    pipeline_orders(server.addr(), 10, 550);
    for form in FORMS {
        let mut feed = Positional::open(form, server.addr(), ELECTRONICS, Some(&start));
        pipeline_orders(server.addr(), 10, 300);
        let log = order_log::read_whole(server.addr(), &STARTS);
        expect_orders(&mut feed, &log, ELECTRONICS, 0);
    }
}

#[test]
fn a_subscriber_away_for_longer_than_the_log_gets_a_fresh_snapshot() {
    let mut server = Server::builder().arg("--keep-orders").arg("50").start();
    let starts = FORMS.map(|form| (form, start_of(&server, form)));
    let mut client = server.client();
    for _ in 0..320 {
        client.order("A1", 1);
    }
    // They are still in memory.
    for (form, start) in &starts {
        let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(start));
        assert_eq!(feed.next().pair(), ("A1".to_owned(), 4));
    }
    server.restart();
    let kept = order_log::read_from(server.addr(), 0).expect("the log can be read");
    assert_eq!((kept.len(), kept[0].seq), (50, 271));
    for (number, (form, start)) in (0..).zip(&starts) {
        let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(start));
        let fresh = snapshot(&mut feed);
        assert_eq!(fresh.seq(), 320 + number, "{fresh:?}");
        expect_live(&server, &mut feed, 8 + number as i64);
        // The position just before the oldest kept order is valid, an earlier one is not.
        let file = start.rsplit_once('.').expect("a number").0;
        let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(&format!("{file}.269")));
        snapshot(&mut feed);
        let oldest = order_log::read_from(server.addr(), 0).expect("the log can be read")[0].clone();
        let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(&format!("{file}.{}", oldest.seq - 1)));
        assert_eq!(feed.next().pair(), (oldest.id, oldest.total));
    }
}

/// Added by a request, and by a catalogue file with a new product.
#[test]
fn a_product_added_while_a_subscriber_was_away_comes_at_its_place() {
    let temp = TempDir::new();
    let builder = || Server::builder().data(temp.path());
    let mut server = builder().start();
    let starts = FORMS.map(|form| (form, start_of(&server, form)));
    let mut client = server.client();
    client.order("A1", 1);
    assert_eq!(client.post("/electronics", "{\"name\":\"Lamp\",\"rrp\":\"5\",\"info\":\"\"}").status, 200);
    client.order("A1", 1);
    client.order("A3", 5);
    let due = [("A1", 4), ("A3", 0), ("A1", 5), ("A3", 5)];
    let expect = |server: &Server, due: &[(&str, i64)]| {
        let log = order_log::read_from(server.addr(), 0).expect("the log can be read");
        for (form, start) in &starts {
            let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(start));
            for (line, (id, total)) in log.iter().zip(due) {
                let step = feed.next();
                assert_eq!((step.pair(), step.seq()), (((*id).to_owned(), *total), line.seq));
                assert_eq!((line.id.as_str(), line.total), (*id, *total));
            }
        }
        log
    };
    expect(&server, &due);
    server.restart();
    expect(&server, &due);
    server.terminate();
    let grown = "{\"electronics\":{\"prefix\":\"A\",\"products\":[{\"id\":\"A1\",\"name\":\"Vacuum Cleaner\"},\
                 {\"id\":\"A9\",\"name\":\"Kettle\",\"total\":40}]}}";
    let mut server = builder().catalog(grown).start();
    server.client().order("A9", 2);
    let log = expect(&server, &[&due[..], &[("A9", 40), ("A9", 42)]].concat());
    // So the log's amounts add up to the totals, apart from the starting totals of the first catalogue.
    assert_eq!(log.iter().map(|line| line.amount).collect::<Vec<_>>(), [1, 0, 1, 5, 40, 2]);
    server.terminate();
    let check = ordercast(temp.path(), &["check", "--data", "."], &[]);
    assert_eq!(check.code, Some(0), "{check:?}");
}

/// Also for a quiet feed beside a busy one: its position must stay valid.
#[test]
fn a_fresh_snapshot_has_the_position_of_the_end_of_the_log() {
    let server = Server::builder().arg("--keep-orders").arg("10").start();
    for form in FORMS {
        drop(Positional::open(form, server.addr(), CONFECTIONERY, None).next());
        let mut client = server.client();
        for _ in 0..30 {
            client.order("A1", 1);
        }
        let log = order_log::read_from(server.addr(), 0).expect("the log can be read");
        let fresh = Positional::open(form, server.addr(), CONFECTIONERY, None).next();
        assert_eq!(fresh.seq(), log.last().expect("orders").seq);
        client.order("B1", 1);
        client.order("B1", 1);
        let mut again = Positional::open(form, server.addr(), CONFECTIONERY, fresh.position.as_deref());
        let totals = again.take(2).into_iter().map(|step| step.total).collect::<Vec<_>>();
        assert_eq!(totals, [fresh.total + 1, fresh.total + 2]);
    }
}

#[test]
fn a_subscription_that_moves_gets_the_positions_of_its_new_feed() {
    let server = Server::start();
    let start = start_of(&server, Form::WebSocket);
    server.client().order("A1", 1);
    let mut feed = Positional::open(Form::WebSocket, server.addr(), ELECTRONICS, Some(&start));
    assert_eq!(feed.next().pair(), ("A1".to_owned(), 4));
    feed.try_send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"confectionery\"}}").unwrap();
    let moved = feed.next();
    assert_eq!((moved.pair(), moved.can_resume()), (("B1".to_owned(), 101), true));
    drop(feed);
    server.client().order("A1", 1);
    server.client().order("B1", 1);
    let position = moved.position.as_deref();
    let mut feed = Positional::open(Form::WebSocket, server.addr(), CONFECTIONERY, position);
    assert_eq!(feed.next().pair(), ("B1".to_owned(), 102));
    // There the position is of another feed.
    snapshot(&mut Positional::open(Form::WebSocket, server.addr(), ELECTRONICS, position));
}

/// While a subscriber catches up it counts as lagging, and it waits for the log with nothing left to send. A move must
/// not be delayed there until the next total.
#[test]
fn a_subscription_that_moves_while_it_catches_up_gets_its_snapshot_at_once() {
    let _turn = turn();
    let server = Server::start();
    let start = start_of(&server, Form::WebSocket);
    pipeline_orders(server.addr(), 20, 500);
    for read_before in [0, 1, 700, 2_000, 5_000] {
        let mut feed = Positional::open(Form::WebSocket, server.addr(), ELECTRONICS, Some(&start));
        feed.take(read_before);
        feed.try_send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"confectionery\"}}").unwrap();
        loop {
            // Sooner than the ping of a silent session.
            let step = feed.next_within(DEADLINE).unwrap_or_else(|error| panic!("{error} after {read_before} orders"));
            if step.id == "B1" {
                assert_eq!((step.total, step.can_resume()), (101, true));
                break;
            }
        }
    }
}

/// Missed orders are encoded for each subscriber, so they must not be in memory as a whole: many clients that come back
/// and do not read would cost many times that.
#[test]
fn many_that_resume_and_do_not_read_cost_little_memory() {
    const SILENT: usize = 200;
    // The longest id, so that the missed orders are more than the socket buffers hold.
    let id = "T".repeat(64);
    let catalog = format!("{{\"tools\":{{\"prefix\":\"T\",\"products\":[{{\"id\":\"{id}\",\"name\":\"x\"}}]}}}}");
    let server = Server::builder().catalog(&catalog).start();
    let start = Positional::open(Form::Events, server.addr(), "/orders/tools", None).next();
    let mut client = server.client();
    let mut order = |count: usize| {
        let batch = vec![format!("{{\"id\":\"{id}\",\"amount\":1}}"); count].join(",");
        assert_eq!(client.post("/orders", format!("[{batch}]")).status, 200);
    };
    // First as many as memory keeps, then more, which are read from the log.
    for (batches, from) in [(8, "memory"), (2, "the log")] {
        (0..batches).for_each(|_| order(500));
        let before = server.memory_kib();
        let silent: Vec<Positional> = (0..SILENT)
            .map(|_| {
                let position = start.position.as_deref();
                let mut feed = Positional::open(Form::Events, server.addr(), "/orders/tools", position);
                feed.take(1);
                feed
            })
            .collect();
        let each = server.memory_kib().saturating_sub(before) / SILENT as u64;
        println!("{each} KiB for each subscriber that resumes from {from}");
        assert!(each < 100, "{each} KiB for each subscriber that resumes from {from} and does not read");
        drop(silent);
    }
}
