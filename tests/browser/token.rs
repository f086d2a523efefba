//! The board of a server with token files: the browser asks for a token, which visitors know as the access code, keeps
//! it in its tab, and orders with it. Needs chromium and chromedriver (`make deps`).
//!
//! `ORDERCAST_SCREENSHOTS=DIR` writes pictures of the dialog.

use std::time::Duration;

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::common::{Builder, DEADLINE, Server, TempDir, wait_until};
use crate::webdriver::{Browser, ENTER, ESCAPE};

const WRITER: &str = "writer-0123456789.~+";
const READER: &str = "reader-0123456789.~+";
const WRONG: &str = "somebody-elses-0123456789";
/// More than the longest wait between two attempts of the page.
const RECOVERY: Duration = Duration::from_secs(25);

/// Whether the board asks for a token.
pub const ASKS: &str = "document.querySelector('#token').open";
pub const DOES_NOT_ASK: &str = "!document.querySelector('#token').open";

/// A server's token files.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(TempDir::new());
        files.write("writers", &[WRITER]);
        files.write("readers", &[READER]);
        files
    }

    fn write(&self, name: &str, tokens: &[&str]) {
        self.0.write(name, tokens.join("\n"));
    }

    /// A server on which only orders need a token.
    fn protect_orders(&self) -> Builder {
        Server::builder().arg("--token-file").arg(self.0.path().join("writers"))
    }

    /// A server on which seeing the board needs one, too.
    fn protect_all(&self) -> Builder {
        self.protect_orders().arg("--read-token-file").arg(self.0.path().join("readers"))
    }
}

fn board(server: &Server) -> String {
    format!("http://{}/#electronics", server.addr())
}

/// Opens a board that can be seen without a token.
#[track_caller]
fn open_board(browser: &Browser, server: &Server) {
    browser.open(&board(server));
    browser.until(DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A2", 7));
    assert_eq!(browser.run(&format!("return {ASKS}")), false);
}

/// Enters a token into the dialog, which has the focus.
#[track_caller]
pub fn give(browser: &Browser, token: &str) {
    browser.until(DEADLINE, ASKS);
    browser.until(DEADLINE, "!document.querySelector('#token-use').disabled");
    browser.type_into("#token-input", &format!("{token}{ENTER}"));
}

/// Waits until the dialog gives this reason for asking again.
#[track_caller]
fn until_told(browser: &Browser, words: &str) {
    browser.until(DEADLINE, ASKS);
    browser.until(DEADLINE, &format!("document.querySelector('#token-reason').innerText.includes('{words}')"));
}

/// The total of A1, read with a token.
#[track_caller]
fn counted(server: &Server) -> i64 {
    let authorization = format!("Bearer {WRITER}");
    let totals = server.client().request("GET", "/orders/electronics", &[("Authorization", &authorization)], b"");
    totals.json()[0]["total"].as_i64().expect("an integer")
}

#[track_caller]
fn order(browser: &Browser, amount: &str) {
    browser.type_into("product-item[data-id=A1] >>> input", amount);
    browser.click("product-item[data-id=A1] >>> .add");
}

/// The names of what the tab keeps beside the list of its last orders.
pub const KEPT: &str = "Object.keys(sessionStorage).filter((name) => !name.startsWith('ordercast-till:'))";

/// Where a page could leave a token behind for others: what outlives the tab, and what is written into logs.
#[track_caller]
fn expect_kept_in_the_tab_alone(browser: &Browser, token: &str) {
    let left = browser.run(
        "const names = performance.getEntries().map(({ name }) => name);
         return [localStorage.length, document.cookie, [location.href, document.referrer, ...names].join(' ')]",
    );
    assert_eq!((&left[0], &left[1]), (&json!(0), &json!("")));
    assert!(!left[2].as_str().expect("addresses").contains(token), "{left}");
    // An order that was counted is forgotten when it is answered, a moment later perhaps.
    browser.until(DEADLINE, &format!("{KEPT}.length === 1"));
    assert_eq!(browser.run(&format!("return {KEPT}.map((name) => sessionStorage[name])")), json!([token]));
    let page = browser.run("return document.documentElement.outerHTML + document.querySelector('#token-input').value");
    assert!(!page.as_str().expect("a page").contains(token), "the token stands in the page");
}

/// Has the server read its token files, and the page ask whether it is still heard: a token is looked at again when its
/// client says something, and after 25 s of silence.
#[track_caller]
fn take_effect(browser: &Browser, server: &Server) {
    server.signal("HUP");
    wait_until(DEADLINE, "the tokens are read", || server.log().contains("token files have been read again"));
    browser.run("dispatchEvent(new Event('online'))");
}

#[test]
fn without_token_files_nothing_of_tokens_shows() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server);
    order(&browser, "1");
    browser.until(DEADLINE, &total_is("A1", 4));
    let shown = browser.run("return /token|code/i.test(document.body.innerText)");
    assert_eq!(shown, false);
    browser.until(DEADLINE, &format!("{KEPT}.length === 0"));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_protected_board_asks_until_the_token_is_right_and_keeps_it_in_the_tab() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_all().start();
    browser.open(&board(&server));
    browser.until(DEADLINE, ASKS);
    browser.until(DEADLINE, &state_is("locked"));
    let asked = browser.run(
        "const input = document.activeElement;
         return [input.id, input.type, input.autocomplete, document.querySelector('#token-title').innerText,
           input.labels[0].innerText, document.querySelectorAll('product-item').length]",
    );
    assert_eq!(asked, json!(["token-input", "password", "off", "This board needs an access code", "Access code", 0]));

    // A malformed token is rejected without a request.
    give(&browser, "short");
    until_told(&browser, "16 to 255");
    give(&browser, WRONG);
    until_told(&browser, "This access code is not valid");
    assert_eq!(browser.run("return sessionStorage.length"), 0);
    give(&browser, READER);
    browser.until(DEADLINE, &total_is("A1", 3));
    browser.until(DEADLINE, &state_is("live"));
    // The categories had been rejected like the products, and were requested again; the visitor was asked once.
    browser.until(DEADLINE, "document.querySelector('#category').options.length === 3");
    browser.until(DEADLINE, DOES_NOT_ASK);
    expect_kept_in_the_tab_alone(&browser, READER);

    browser.run("location.reload()");
    browser.until(DEADLINE, &total_is("A1", 3));
    browser.until(DEADLINE, &state_is("live"));
    assert_eq!(browser.run(&format!("return {ASKS}")), false);

    // Another tab does not know the token.
    let tab = browser.window();
    let second = browser.new_window();
    browser.switch_to(&second);
    browser.open(&board(&server));
    browser.until(DEADLINE, ASKS);
    assert_eq!(browser.run("return sessionStorage.length"), 0);
    browser.switch_to(&tab);
    browser.until(DEADLINE, &state_is("live"));
    let complaints: Vec<String> =
        browser.console().into_iter().filter(|line| !line.contains("status of 401")).collect();
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn an_order_that_needed_a_token_is_sent_exactly_once() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_orders().start();
    open_board(&browser, &server);
    order(&browser, "5");
    browser.until(DEADLINE, ASKS);
    assert_eq!(browser.run("return document.querySelector('#token-title').innerText"), "Ordering needs an access code");
    give(&browser, WRONG);
    until_told(&browser, "This access code is not valid");
    assert_eq!(counted(&server), 3);
    give(&browser, WRITER);
    browser.until(DEADLINE, &total_is("A1", 8));
    browser.until(DEADLINE, DOES_NOT_ASK);
    // From now on the visitor is not asked, and no earlier order is sent again.
    order(&browser, "10");
    browser.until(DEADLINE, &total_is("A1", 18));
    browser.run("location.reload()");
    browser.until(DEADLINE, &total_is("A1", 18));
    order(&browser, "100");
    browser.until(DEADLINE, &total_is("A1", 118));
    assert_eq!(counted(&server), 118);
    assert_eq!(browser.run(&format!("return {ASKS}")), false);
    assert_eq!(browser.run("return document.querySelector('#problem').hidden"), true);
    expect_kept_in_the_tab_alone(&browser, WRITER);
}

#[test]
fn orders_that_wait_together_are_each_sent_once() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_orders().start();
    open_board(&browser, &server);
    let order_both = "for (const item of document.querySelectorAll('product-item')) {
           item.shadowRoot.querySelector('.add').click();
         }";
    browser.run(order_both);
    browser.until(DEADLINE, ASKS);
    browser.type_into("#token-input", ESCAPE);
    // The answer was for both orders: neither asks again.
    browser.until(DEADLINE, "document.querySelector('#problem-text').innerText.includes('not ordered')");
    browser.until(DEADLINE, DOES_NOT_ASK);
    browser.run(order_both);
    give(&browser, WRITER);
    browser.until(DEADLINE, &total_is("A1", 4));
    browser.until(DEADLINE, &total_is("A2", 8));
    browser.until(DEADLINE, DOES_NOT_ASK);
    assert_eq!(counted(&server), 4);
}

#[test]
fn an_order_that_was_lost_with_its_token_asks_again_and_counts_once() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let mut server = files.protect_orders().start();
    open_board(&browser, &server);
    order(&browser, "5");
    browser.until(DEADLINE, ASKS);
    server.kill();
    give(&browser, WRITER);
    browser.until(DEADLINE, DOES_NOT_ASK);
    let waiting = "document.querySelector('#waiting').innerText";
    browser.until(DEADLINE, &format!("{waiting}.includes('1 order is waiting')"));
    order(&browser, "10");
    server.restart_on_the_same_ports();
    // The token has not been accepted yet, so the visitor is asked again.
    browser.until(RECOVERY, ASKS);
    give(&browser, WRITER);
    browser.until(RECOVERY, &total_is("A1", 18));
    browser.until(DEADLINE, &format!("{waiting} === ''"));
    assert_eq!(counted(&server), 18);
}

#[test]
fn orders_of_one_product_that_wait_for_a_token_are_given_up_together() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let mut server = files.protect_orders().start();
    open_board(&browser, &server);
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    order(&browser, "5");
    order(&browser, "10");
    let waiting = "document.querySelector('#waiting').innerText";
    browser.until(DEADLINE, &format!("{waiting}.includes('2 orders are waiting')"));
    server.restart_on_the_same_ports();
    browser.until(RECOVERY, ASKS);
    browser.type_into("#token-input", ESCAPE);
    browser.until(DEADLINE, DOES_NOT_ASK);
    browser.until(DEADLINE, &format!("{waiting} === ''"));
    // The first order was sent, and may have been counted as far as the page can know. The second was not.
    let said = browser.run("return document.querySelector('#problem-text').innerText");
    assert_eq!(
        said,
        "Vacuum Cleaner: not sent again, because no valid access code was entered. It may already have been counted.\n\
         Vacuum Cleaner: not ordered, because no valid access code was entered."
    );
    assert_eq!(browser.run(&format!("return {KEPT}")), json!([]));
    assert_eq!(counted(&server), 3);
}

#[test]
fn a_token_that_only_reads_is_told_from_one_that_orders() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_all().start();
    browser.open(&board(&server));
    give(&browser, READER);
    browser.until(DEADLINE, &state_is("live"));
    order(&browser, "5");
    until_told(&browser, "With your access code you can see the board, but not order");
    give(&browser, READER);
    until_told(&browser, "With this access code you can see the board, but not order");
    give(&browser, WRONG);
    until_told(&browser, "This access code is not valid");
    // Until another token is accepted, the board keeps the one that it has.
    assert_eq!(browser.run("return sessionStorage.getItem('ordercast-token:/')"), READER);
    assert_eq!(counted(&server), 3);
    give(&browser, WRITER);
    browser.until(DEADLINE, &total_is("A1", 8));
    assert_eq!(counted(&server), 8);
    expect_kept_in_the_tab_alone(&browser, WRITER);

    browser.click("#new-product > summary");
    browser.type_into("[name=name]", "Desk Lamp");
    browser.type_into("[name=rrp]", "34.50");
    browser.click("#product-form button");
    browser.until(DEADLINE, &total_is("A3", 0));
}

#[test]
fn a_product_that_needed_a_token_is_added_once() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_orders().start();
    open_board(&browser, &server);
    browser.click("#new-product > summary");
    browser.type_into("[name=name]", "Desk Lamp");
    browser.type_into("[name=rrp]", "34.50");
    browser.click("#product-form button");
    browser.until(DEADLINE, ASKS);
    let title = browser.run("return document.querySelector('#token-title').innerText");
    assert_eq!(title, "Adding a product needs an access code");
    give(&browser, WRITER);
    browser.until(DEADLINE, &total_is("A3", 0));
    assert_eq!(server.client().get("/electronics").json().as_array().map(Vec::len), Some(3));
}

#[test]
fn a_visitor_who_gives_no_token_is_asked_again_only_after_a_click() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_all().start();
    browser.open(&board(&server));
    browser.until(DEADLINE, ASKS);
    browser.type_into("#token-input", ESCAPE);
    browser.until(DEADLINE, DOES_NOT_ASK);
    browser.until(DEADLINE, "!document.querySelector('#token-enter').hidden");
    // An event that makes a lost board try again must not open the dialog; after two frames a request would have begun.
    browser.run(
        "dispatchEvent(new Event('online'));
         return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))",
    );
    assert_eq!(browser.run(&format!("return {ASKS}")), false);
    browser.until(DEADLINE, &state_is("locked"));
    let said =
        browser.run("return [document.querySelector('#hint').innerText, document.querySelector('#problem').hidden]");
    assert_eq!(said, json!(["You need an access code to see this board.", true]));

    browser.click("#token-enter");
    give(&browser, READER);
    browser.until(DEADLINE, &state_is("live"));
    browser.until(DEADLINE, "document.querySelector('#token-enter').hidden");

    // A cancelled order is reported as not ordered, and is not sent with a later token.
    order(&browser, "5");
    browser.until(DEADLINE, ASKS);
    browser.click("#token-cancel");
    browser.until(DEADLINE, "document.querySelector('#problem-text').innerText.includes('not ordered')");
    order(&browser, "10");
    give(&browser, WRITER);
    browser.until(DEADLINE, &total_is("A1", 13));
    assert_eq!(counted(&server), 13);
}

#[test]
fn a_visitor_who_cancels_after_the_deadline_of_the_request_is_not_asked_again() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_orders().start();
    open_board(&browser, &server);
    browser.run(
        "AbortSignal.timeout = () => {
           const request = new AbortController();
           window.expire = () => request.abort(new DOMException('', 'TimeoutError'));
           return request.signal;
         }",
    );
    order(&browser, "5");
    browser.until(DEADLINE, ASKS);
    browser.run("expire()");
    browser.click("#token-cancel");
    browser.until(DEADLINE, "document.querySelector('#problem-text').innerText.includes('not ordered')");
    assert_eq!(browser.run("return document.querySelector('#waiting').textContent"), "");
    assert_eq!(browser.run(&format!("return {ASKS}")), false);
}

#[test]
fn a_forgotten_token_is_gone_and_so_is_what_it_showed() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_all().start();
    browser.open(&board(&server));
    give(&browser, WRITER);
    browser.until(DEADLINE, &state_is("live"));
    browser.click("#token-forget");
    browser.until(DEADLINE, ASKS);
    let left = browser.run(
        "return [sessionStorage.length, document.querySelectorAll('product-item').length,
           document.querySelector('#token-forget').hidden]",
    );
    assert_eq!(left, json!([0, 0, true]));
    browser.run("location.reload()");
    give(&browser, READER);
    browser.until(DEADLINE, &total_is("A1", 3));
}

#[test]
fn a_token_that_is_taken_back_is_asked_for_again() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_all().start();
    browser.open(&board(&server));
    give(&browser, READER);
    browser.until(DEADLINE, &state_is("live"));
    let newer = "reader-of-tomorrow-0123";
    files.write("readers", &[newer]);
    take_effect(&browser, &server);
    browser.until(DEADLINE, ASKS);
    until_told(&browser, "Your access code is no longer valid");
    browser.until(DEADLINE, "document.querySelector('#board').hidden");
    give(&browser, newer);
    browser.until(DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 3));
    expect_kept_in_the_tab_alone(&browser, newer);
}

#[test]
fn a_board_that_needs_no_token_outlives_the_one_it_ordered_with() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_orders().start();
    open_board(&browser, &server);
    order(&browser, "10");
    give(&browser, WRITER);
    browser.until(DEADLINE, &total_is("A1", 13));
    // After the reload the feed was opened with the token.
    browser.run("location.reload()");
    browser.until(DEADLINE, &state_is("live"));
    files.write("writers", &["writer-of-tomorrow-0123"]);
    take_effect(&browser, &server);
    browser.until(RECOVERY, &format!("{KEPT}.length === 0"));
    browser.until(RECOVERY, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 13));
    assert_eq!(browser.run(&format!("return {ASKS}")), false);
    order(&browser, "5");
    give(&browser, "writer-of-tomorrow-0123");
    browser.until(DEADLINE, &total_is("A1", 18));
}

#[test]
fn the_question_fits_a_phone_and_a_television() {
    let Some(browser) = Browser::start() else { return };
    let files = Files::new();
    let server = files.protect_orders().start();
    open_board(&browser, &server);
    order(&browser, "5");
    give(&browser, WRONG);
    until_told(&browser, "This access code is not valid");
    for (name, width, height, scale, scheme) in [
        ("token", 1280, 800, 1, "light"),
        ("token-dark", 1280, 800, 1, "dark"),
        ("token-phone", 390, 844, 2, "dark"),
        ("token-landscape", 740, 360, 2, "light"),
        ("token-television", 1920, 1080, 1, "dark"),
    ] {
        browser.look(width, height, scale, scheme);
        browser.until(DEADLINE, &format!("innerWidth === {width}"));
        browser.until(DEADLINE, "document.documentElement.scrollWidth <= innerWidth");
        let place = browser.run("return document.querySelector('#token').getBoundingClientRect().toJSON()");
        let side = |name: &str| place[name].as_f64().expect("a number");
        assert!(side("left") >= 0.0 && side("right") <= f64::from(width), "{name}: {place}");
        assert!(side("top") >= 0.0 && side("bottom") <= f64::from(height), "{name}: {place}");
        browser.picture(name);
    }
    assert_eq!(browser.run("return sessionStorage.getItem('ordercast-token:/')"), Value::Null);
}
