//! Going on from a position: whoever was cut off, stayed away or read too slowly gets every order of its feed exactly
//! once, in order; and whoever's position is good for nothing gets a fresh snapshot.

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

/// A position at the start of electronics.
#[track_caller]
fn start_of(server: &Server, form: Form) -> String {
    snapshot(&mut Positional::open(form, server.addr(), ELECTRONICS, None)).position.expect("a position")
}

/// Checks that nothing comes but the next order, which is made here.
#[track_caller]
fn expect_live(server: &Server, feed: &mut Positional, total_of_a2: i64) {
    server.client().order("A2", 1);
    assert_eq!(feed.next().pair(), ("A2".to_owned(), total_of_a2));
}

#[test]
fn a_feed_without_positions_stays_as_it_was() {
    let server = Server::start();
    let mut plain = WebSocket::open(server.addr(), ELECTRONICS);
    assert_eq!(plain.texts(2), ["{\"id\":\"A1\",\"total\":3}", "{\"id\":\"A2\",\"total\":7}"]);
    server.client().order("A1", 1);
    assert_eq!(plain.text(), "{\"id\":\"A1\",\"total\":4}");
}

#[test]
fn the_last_message_of_a_snapshot_is_where_one_can_go_on() {
    let server = Server::start();
    for form in FORMS {
        let position = start_of(&server, form);
        let mut feed = Positional::open(form, server.addr(), ELECTRONICS, Some(&position));
        let total = 8 + FORMS.iter().position(|it| *it == form).unwrap() as i64;
        expect_live(&server, &mut feed, total);
    }
}

#[test]
fn whoever_is_cut_off_in_the_middle_of_a_snapshot_gets_a_fresh_one() {
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
    // An event in the middle bears no id, so a browser would come back with none, or with an older one that is good.
    let cut = Positional::open(Form::Events, server.addr(), "/orders", None).take(2);
    assert_eq!(cut.iter().map(|step| &step.position).collect::<Vec<_>>(), [&None, &None]);
}

#[test]
fn positions_of_nowhere_get_a_fresh_snapshot() {
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
        assert_eq!(feed.next().pair(), ("A2".to_owned(), 8), "a good one is good");
    }
}

/// The orders of the feed behind this number must come, each once and in order.
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

/// Orders that come while it is away: so few that memory has them, more than memory keeps, and both after a restart, when
/// memory has none.
#[test]
fn whoever_was_away_gets_every_order_from_memory_and_from_the_log() {
    let _turn = turn();
    for (orders, restarts) in [(1_000, false), (1_000, true), (6_000, false), (6_000, true)] {
        let mut server = Server::start();
        let starts = FORMS.map(|form| (form, start_of(&server, form)));
        pipeline_orders(server.addr(), 10, orders / 10);
        let mut client = server.client();
        // Of another category in between, which are none of this feed.
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
            // From a place in between too, and from the end, behind which nothing of this feed has come.
            let file = last.rsplit_once('.').expect("a number").0;
            let middle = format!("{file}.{}", orders / 3);
            let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(&middle));
            expect_orders(&mut feed, &log, ELECTRONICS, orders as u64 / 3);
            // The last order of this feed, and the live one of the form before.
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
    pipeline_orders(server.addr(), 10, 800);
    for form in FORMS {
        let mut feed = Positional::open(form, server.addr(), ELECTRONICS, Some(&start));
        pipeline_orders(server.addr(), 10, 300);
        let log = order_log::read_whole(server.addr(), &STARTS);
        expect_orders(&mut feed, &log, ELECTRONICS, 0);
    }
}

#[test]
fn whoever_stays_away_longer_than_the_log_reaches_gets_a_fresh_snapshot() {
    let mut server = Server::builder().arg("--keep-orders").arg("50").start();
    let starts = FORMS.map(|form| (form, start_of(&server, form)));
    let mut client = server.client();
    for _ in 0..320 {
        client.order("A1", 1);
    }
    // Memory has them still, so nothing is missing.
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
        // The first order that is kept can be gone back to, the one before it cannot.
        let file = start.rsplit_once('.').expect("a number").0;
        let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(&format!("{file}.269")));
        snapshot(&mut feed);
        let oldest = order_log::read_from(server.addr(), 0).expect("the log can be read")[0].clone();
        let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(&format!("{file}.{}", oldest.seq - 1)));
        assert_eq!(feed.next().pair(), (oldest.id, oldest.total));
    }
}

/// By somebody who asks for one, and by a catalogue file that has grown.
#[test]
fn a_product_that_was_added_while_one_was_away_is_told_where_it_came_in() {
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
    // So that the log's amounts add up to the totals, but for those that the first catalogue began with.
    assert_eq!(log.iter().map(|line| line.amount).collect::<Vec<_>>(), [1, 0, 1, 5, 40, 2]);
    server.terminate();
    let check = ordercast(temp.path(), &["check", "--data", "."], &[]);
    assert_eq!(check.code, Some(0), "{check:?}");
}

/// Also of a feed that is quiet while another one is not: what it was given must be worth something.
#[test]
fn a_fresh_snapshot_stands_where_the_log_does() {
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
fn a_subscription_that_moves_gets_the_positions_of_where_it_has_moved_to() {
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
    // There it is foreign.
    snapshot(&mut Positional::open(Form::WebSocket, server.addr(), ELECTRONICS, position));
}

/// Whoever is given what it missed lags meanwhile, and waits for the log with nothing left to send. A move must not get
/// stuck there until somebody happens to say something.
#[test]
fn a_subscription_that_moves_while_it_is_given_what_it_missed_gets_its_snapshot_at_once() {
    let _turn = turn();
    let server = Server::start();
    let start = start_of(&server, Form::WebSocket);
    pipeline_orders(server.addr(), 20, 1_000);
    for read_before in [0, 1, 700, 2_000, 5_000] {
        let mut feed = Positional::open(Form::WebSocket, server.addr(), ELECTRONICS, Some(&start));
        feed.take(read_before);
        feed.try_send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"confectionery\"}}").unwrap();
        loop {
            // Within less than the silence after which it is pinged.
            let step = feed.next_within(DEADLINE).unwrap_or_else(|error| panic!("{error} after {read_before} orders"));
            if step.id == "B1" {
                assert_eq!((step.total, step.can_resume()), (101, true));
                break;
            }
        }
    }
}

/// What one has missed is made for it alone, so it must not wait for it in memory as a whole: a thousand who come back
/// and do not read would cost a thousand times that.
#[test]
fn many_who_go_on_from_a_position_and_do_not_read_cost_little() {
    const SILENT: usize = 200;
    // As long as an id may be: what they have missed is more than the kernel holds for somebody who does not read.
    let id = "T".repeat(64);
    let catalog = format!("{{\"tools\":{{\"prefix\":\"T\",\"products\":[{{\"id\":\"{id}\",\"name\":\"x\"}}]}}}}");
    let server = Server::builder().catalog(&catalog).start();
    let start = Positional::open(Form::Events, server.addr(), "/orders/tools", None).next();
    let mut client = server.client();
    let mut order = |count: usize| {
        let batch = vec![format!("{{\"id\":\"{id}\",\"amount\":1}}"); count].join(",");
        assert_eq!(client.post("/orders", format!("[{batch}]")).status, 200);
    };
    // From memory, as many as it keeps; and from the log.
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
        println!("{each} KiB for each who goes on from {from}");
        assert!(each < 100, "{each} KiB for each who goes on from {from} and does not read");
        drop(silent);
    }
}
