//! Orders made on the board: each counts once, also when the server ends, answers are lost, or the page is reloaded.
//! Needs chromium and chromedriver (`make deps`).
//!
//! `ORDERCAST_SCREENSHOTS=DIR` writes pictures of a board with waiting orders.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::common::disk::{Call, ENOSPC, LOG};
use crate::common::{DEADLINE, Disk, Fault, Line, Server, order_log};
use crate::webdriver::Browser;

/// More than the longest wait between two attempts of the page and its deadline for an answer.
const RECOVERY: Duration = Duration::from_secs(30);

/// The most orders that wait on a board.
const MOST_ORDERS: usize = 100;

const NOTHING_WAITS: &str = "document.querySelector('#waiting').textContent === ''";
const NO_PROBLEM: &str = "document.querySelector('#problem').hidden";
/// No order without an answer; the list of the last orders stays.
const NOTHING_STORED: &str = "!Object.keys(sessionStorage).some((name) => name.startsWith('ordercast-order:'))";

/// Between the browser and the server: relays bytes in both directions, records requests, and loses the answers to
/// orders while it is told to. A connection whose answer was lost stays open and silent.
struct Relay {
    addr: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    loses_answers: AtomicBool,
    requests: Mutex<Vec<u8>>,
}

impl Relay {
    fn before(server: &Server) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let relay = Relay { addr: listener.local_addr().expect("it has an address"), wire: Arc::default() };
        let (server, wire) = (server.addr(), relay.wire.clone());
        thread::spawn(move || {
            for browser in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                wire.clone().join(browser, server);
            }
        });
        relay
    }

    fn lose_answers(&self, lose: bool) {
        self.wire.loses_answers.store(lose, Ordering::SeqCst);
    }

    /// The keys of all attempts of all orders, as sent.
    fn keys(&self) -> Vec<String> {
        let requests = self.wire.requests.lock().expect("no thread panicked");
        (String::from_utf8_lossy(&requests).lines())
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| name.eq_ignore_ascii_case("idempotency-key"))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }
}

impl Wire {
    fn join(self: Arc<Wire>, browser: TcpStream, server: TcpStream) {
        let is_silent = Arc::new(AtomicBool::new(false));
        let ends = [&browser, &server].map(|end| end.try_clone().expect("a socket can be shared"));
        thread::spawn({
            let (wire, is_silent) = (self, is_silent.clone());
            move || {
                pass(&browser, &server, |bytes| {
                    wire.requests.lock().expect("no thread panicked").extend(bytes);
                    if bytes.starts_with(b"POST /orders/") && wire.loses_answers.load(Ordering::SeqCst) {
                        is_silent.store(true, Ordering::SeqCst);
                    }
                    true
                });
            }
        });
        thread::spawn(move || pass(&ends[1], &ends[0], |_| !is_silent.load(Ordering::SeqCst)));
    }
}

/// Relays the bytes for which `lets_pass` is true, until either side ends.
fn pass(mut from: &TcpStream, mut to: &TcpStream, lets_pass: impl Fn(&[u8]) -> bool) {
    let mut bytes = [0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let bytes = &bytes[..length];
        if lets_pass(bytes) && to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[track_caller]
fn open_board(browser: &Browser, addr: SocketAddr) {
    browser.open(&format!("http://{addr}/#electronics"));
    browser.until(DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 3));
}

fn waiting_says(words: &str) -> String {
    format!("document.querySelector('#waiting').innerText.startsWith('{words} waiting for confirmation')")
}

fn problem_says(words: &str) -> String {
    format!("document.querySelector('#problem-text').innerText.includes('{words}')")
}

#[track_caller]
fn order(browser: &Browser, id: &str, amount: &str) {
    browser.type_into(&format!("product-item[data-id={id}] >>> input"), amount);
    browser.click(&format!("product-item[data-id={id}] >>> .add"));
}

/// Every order that the server has counted: product and amount, in commit order. Each has a key of its own.
#[track_caller]
fn counted(server: &Server) -> Vec<(String, i64)> {
    let lines: Vec<Line> = order_log::lines(&server.client().get("/log"));
    let keys: HashSet<_> = lines.iter().filter_map(|line| line.key.as_ref()).collect();
    assert_eq!(keys.len(), lines.len(), "{lines:?}");
    lines.into_iter().map(|line| (line.id, line.amount)).collect()
}

fn ordered(orders: &[(&str, i64)]) -> Vec<(String, i64)> {
    orders.iter().map(|&(id, amount)| (id.to_owned(), amount)).collect()
}

/// Waits until the page shows and stores no order.
#[track_caller]
fn until_all_is_answered(browser: &Browser) {
    browser.until(RECOVERY, NOTHING_WAITS);
    browser.until(DEADLINE, NOTHING_STORED);
    browser.until(DEADLINE, NO_PROBLEM);
}

#[test]
fn orders_made_while_the_server_is_down_count_once_when_it_is_back() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    open_board(&browser, server.addr());
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    browser.until(DEADLINE, "document.querySelector('#state').innerText.includes('New orders are kept')");
    // The totals are grey. The buttons are not, because they work.
    let colour = |part: &str| {
        let item = "document.querySelector('product-item[data-id=A1]').shadowRoot";
        browser.run(&format!("return getComputedStyle({item}.querySelector('{part}')).color"))
    };
    assert_eq!(colour(".number"), colour(".word"));
    assert_ne!(colour(".add"), colour(".word"));
    order(&browser, "A1", "10");
    browser.until(DEADLINE, &waiting_says("1 order is"));
    order(&browser, "A1", "-2");
    order(&browser, "A2", "5");
    browser.until(DEADLINE, &waiting_says("3 orders are"));
    browser.until(DEADLINE, NO_PROBLEM);
    // A product is not sent again: the page says that it was not added until the server is back.
    browser.click("#new-product > summary");
    browser.type_into("[name=name]", "Desk Lamp");
    browser.type_into("[name=rrp]", "34.50");
    browser.click("#product-form button");
    browser.until(DEADLINE, &problem_says("Desk Lamp: The server does not answer"));

    server.restart_on_the_same_ports();
    browser.until(RECOVERY, &state_is("live"));
    until_all_is_answered(&browser);
    browser.until(DEADLINE, &total_is("A1", 11));
    browser.until(DEADLINE, &total_is("A2", 12));
    // Orders of one product in their sequence; which product comes first is not defined.
    let mut counted = counted(&server);
    counted.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(counted, ordered(&[("A1", 10), ("A1", -2), ("A2", 5)]));
}

#[test]
fn an_order_whose_answer_is_lost_is_sent_again_and_counts_once() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let relay = Relay::before(&server);
    open_board(&browser, relay.addr);
    relay.lose_answers(true);
    order(&browser, "A1", "10");
    // The feed has the new total, but does not say of which order.
    browser.until(DEADLINE, &total_is("A1", 13));
    browser.until(DEADLINE, &waiting_says("1 order is"));
    // An order to another product does not wait for it.
    order(&browser, "A2", "5");
    browser.until(DEADLINE, &total_is("A2", 12));
    browser.until(DEADLINE, &waiting_says("2 orders are"));
    relay.lose_answers(false);
    until_all_is_answered(&browser);
    let keys = relay.keys();
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 2, "{keys:?}");
    assert!(keys.len() >= 4, "{keys:?}");
    assert_eq!(counted(&server), ordered(&[("A1", 10), ("A2", 5)]));
    browser.until(DEADLINE, &total_is("A1", 13));
}

#[test]
fn every_order_has_a_key_of_its_own() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let relay = Relay::before(&server);
    open_board(&browser, relay.addr);
    for total in [4, 5, 6] {
        browser.click("product-item[data-id=A1] >>> .add");
        browser.until(DEADLINE, &total_is("A1", total));
    }
    until_all_is_answered(&browser);
    let keys = relay.keys();
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 3, "{keys:?}");
    for key in keys {
        let digits = key.strip_prefix("\"board-").and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
        assert!(digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    }
    assert_eq!(counted(&server), ordered(&[("A1", 1); 3]));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn waiting_orders_survive_a_reload() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let relay = Relay::before(&server);
    open_board(&browser, relay.addr);
    let asks_before_it_leaves =
        "const leaving = new Event('beforeunload', { cancelable: true }); return !dispatchEvent(leaving)";
    assert_eq!(browser.run(asks_before_it_leaves), false);
    relay.lose_answers(true);
    order(&browser, "A1", "10");
    order(&browser, "A1", "100");
    browser.until(DEADLINE, &total_is("A1", 13));
    browser.until(DEADLINE, &waiting_says("2 orders are"));
    assert_eq!(browser.run(asks_before_it_leaves), true);

    browser.run("window.former = true; location.reload()");
    browser.until(DEADLINE, "window.former === undefined && document.readyState === 'complete'");
    browser.until(DEADLINE, &waiting_says("2 orders are"));
    // The order counted before the reload is not counted again, and the one not sent yet is not lost.
    let stored = "Object.keys(sessionStorage).filter((name) => name.startsWith('ordercast-order:'))";
    browser.until(DEADLINE, &format!("{stored}.length === 2"));
    relay.lose_answers(false);
    until_all_is_answered(&browser);
    browser.until(DEADLINE, &total_is("A1", 113));
    assert_eq!(counted(&server), ordered(&[("A1", 10), ("A1", 100)]));
    assert_eq!(browser.run(asks_before_it_leaves), false);
    browser.run("window.former = true; location.reload()");
    browser.until(DEADLINE, "window.former === undefined && document.readyState === 'complete'");
    browser.until(DEADLINE, &total_is("A1", 113));
    assert_eq!(counted(&server).len(), 2);
}

#[test]
fn a_refusal_that_stands_is_shown_and_not_repeated() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let relay = Relay::before(&server);
    open_board(&browser, relay.addr);
    let most = 9_007_199_254_740_991_i64;
    order(&browser, "A1", &most.to_string());
    // A large amount is asked about.
    browser.click("product-item[data-id=A1] >>> .add");
    let refused = server.client().post("/orders/A1", json!({ "amount": most }).to_string()).problem(422);
    browser.until(DEADLINE, &problem_says(&format!("Vacuum Cleaner: {refused}")));
    browser.until(DEADLINE, NOTHING_STORED);
    assert_eq!(browser.run(&format!("return {NOTHING_WAITS}")), true);
    // Orders of a product are sent in sequence, so a repeat would come before this one.
    order(&browser, "A1", "1");
    browser.until(DEADLINE, &total_is("A1", 4));
    until_all_is_answered(&browser);
    assert_eq!(relay.keys().len(), 2);
    assert_eq!(counted(&server), ordered(&[("A1", 1)]));
}

#[test]
fn an_order_for_which_there_is_no_room_waits_until_there_is() {
    let Some(disk) = Disk::new() else { return };
    let Some(browser) = Browser::start() else { return };
    let server = disk.builder().start();
    open_board(&browser, server.addr());
    disk.arm(Fault::fails(Call::Write, LOG, ENOSPC));
    order(&browser, "A1", "10");
    browser.until(DEADLINE, &waiting_says("1 order is"));
    browser.until(DEADLINE, NO_PROBLEM);
    assert_eq!(counted(&server), []);
    disk.lift();
    until_all_is_answered(&browser);
    browser.until(DEADLINE, &total_is("A1", 13));
    assert_eq!(counted(&server), ordered(&[("A1", 10)]));
}

#[test]
fn no_more_than_a_hundred_orders_wait_and_one_more_is_refused_in_words() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let relay = Relay::before(&server);
    open_board(&browser, relay.addr);
    relay.lose_answers(true);
    let click = "const item = document.querySelector('product-item[data-id=A1]').shadowRoot;
         for (let left = arguments[0]; left > 0; left -= 1) item.querySelector('.add').click();";
    browser.run_with(click, &json!([MOST_ORDERS]));
    browser.until(DEADLINE, &waiting_says("100 orders are"));
    assert_eq!(browser.run(&format!("return {NO_PROBLEM}")), true);
    browser.run_with(click, &json!([1]));
    browser.until(DEADLINE, &problem_says("not ordered, because 100 orders are already waiting"));
    relay.lose_answers(false);
    browser.until(RECOVERY, NOTHING_WAITS);
    browser.until(DEADLINE, &total_is("A1", 103));
    assert_eq!(counted(&server), ordered(&[("A1", 1); MOST_ORDERS]));
}

#[test]
fn an_order_whose_key_the_server_may_have_forgotten_is_told_and_not_sent() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, server.addr());
    // As the page stores them, with an earlier time.
    let leave = "
        for (const [amount, hours] of [[5, 22.9], [10, 23.1]]) {
          const order = { id: 'A1', name: 'Vacuum Cleaner', amount, made: Date.now() - hours * 3600e3 };
          sessionStorage.setItem(`ordercast-order:/:board-${amount}`, JSON.stringify(order));
        }
        window.former = true;
        location.reload();";
    browser.run(leave);
    browser.until(DEADLINE, "window.former === undefined && document.readyState === 'complete'");
    browser.until(DEADLINE, &problem_says("Vacuum Cleaner: an order of 10, made on "));
    browser.until(DEADLINE, &problem_says("may or may not have been counted"));
    browser.until(DEADLINE, &total_is("A1", 8));
    browser.until(DEADLINE, NOTHING_STORED);
    assert_eq!(counted(&server), ordered(&[("A1", 5)]));
}

#[test]
fn a_stored_item_that_is_no_order_is_removed_and_keeps_no_order_from_being_sent() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, server.addr());
    browser.run(
        r#"const order = { id: 'A1', name: 'Vacuum Cleaner', amount: 5, made: Date.now() - 1000 };
           const items = ['{"id":"A1","amount":', 'null', '7', '{"id":"A1","amount":1}', JSON.stringify(order)];
           items.forEach((item, at) => sessionStorage.setItem(`ordercast-order:/:board-${at}`, item));
           window.former = true;
           location.reload();"#,
    );
    browser.until(DEADLINE, "window.former === undefined && document.readyState === 'complete'");
    browser.until(DEADLINE, &total_is("A1", 8));
    until_all_is_answered(&browser);
    assert_eq!(counted(&server), ordered(&[("A1", 5)]));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn orders_behind_a_late_one_are_waiting_until_that_has_its_answer() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, server.addr());
    // The attempts are answered by the test.
    browser.run(
        "return import('/ordercast.js').then(({ Outbox }) => {
           window.attempts = [];
           window.states = [];
           const send = ({ amount }) => new Promise((answer, fail) => attempts.push({ amount, answer, fail }));
           const onState = ({ amount }, state) => states.push(`${amount} ${state}`);
           window.outbox = new Outbox({ storage: null, prefix: '', send, onState });
           for (const amount of [1, 2, 3]) outbox.add({ id: 'A1', amount });
           attempts[0].fail({ status: 0, isFinal: false });
         })",
    );
    browser.until(DEADLINE, "outbox.waiting === 3");
    browser.run("outbox.retryNow()");
    browser.until(DEADLINE, "attempts.length === 2");
    // In one script, so that no order is late meanwhile.
    let seen = browser.run(
        "attempts[1].answer();
         return new Promise((done) => setTimeout(() => {
           const counts = [attempts.at(-1).amount, outbox.size, outbox.waiting];
           outbox.add({ id: 'A1', amount: 4 });
           done({ counts, states });
         }))",
    );
    assert_eq!(seen["counts"], json!([2, 2, 0]));
    let first = ["1 sending", "2 sending", "3 sending", "1 waiting", "2 waiting", "3 waiting"];
    let then = ["2 sending", "3 sending", "1 sent", "4 sending"];
    assert_eq!(seen["states"], json!([&first[..], &then[..]].concat()));
    // Its own answer takes too long.
    browser.until(DEADLINE, "outbox.waiting === 3");
    browser.run("attempts[2].answer()");
    browser.until(DEADLINE, "outbox.size === 2 && outbox.waiting === 0");
}

#[test]
fn what_is_said_of_waiting_orders_fits_a_phone_and_a_television() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    for (name, info) in
        [("Desk Lamp", "Warm light, cool price."), ("Kettle", ""), ("Radio", ""), ("Fan Heater", "Warm.")]
    {
        let product = json!({ "name": name, "rrp": "34.50", "info": info });
        server.client().post("/electronics", product.to_string());
    }
    open_board(&browser, server.addr());
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    order(&browser, "A1", "10");
    order(&browser, "A6", "2");
    browser.until(DEADLINE, &waiting_says("2 orders are"));
    let screens = [
        ("waiting", 1280, 800, 1, "light"),
        ("waiting-dark", 1280, 800, 1, "dark"),
        ("waiting-phone", 390, 844, 2, "light"),
        ("waiting-television", 1920, 1080, 1, "dark"),
    ];
    let picture = |name: &str| {
        browser.picture(name);
    };
    for (name, width, height, scale, scheme) in screens {
        browser.look(width, height, scale, scheme);
        browser.until(DEADLINE, &format!("innerWidth === {width}"));
        browser.until(DEADLINE, "document.documentElement.scrollWidth <= innerWidth");
        if name != "waiting-phone" {
            browser.until(DEADLINE, "document.documentElement.scrollHeight <= innerHeight");
        }
        // The message is visible also at the lower end of the page.
        browser.run("scrollTo(0, document.documentElement.scrollHeight)");
        let place = "document.querySelector('#waiting').getBoundingClientRect()";
        browser.until(DEADLINE, &format!("{place}.top >= 0 && {place}.bottom <= innerHeight"));
        picture(name);
    }
    server.restart_on_the_same_ports();
    browser.until(RECOVERY, &state_is("live"));
    until_all_is_answered(&browser);
    picture("waiting-over");
    assert_eq!(browser.run("return document.querySelector('#waiting').offsetHeight"), Value::from(0));
}
