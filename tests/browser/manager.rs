//! The manager's access code at a till: it changes the shop, orders nothing, and is not kept.

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::close::{ASKS_TO_CLOSE, IS_CLOSED, show_report};
use crate::common::{DEADLINE, Server, TempDir, wait_until};
use crate::shop::{fill, open_board};
use crate::token::{ASKS, DOES_NOT_ASK, KEPT, give};
use crate::webdriver::{Browser, ENTER, ESCAPE};

const TILL: &str = "till-0123456789012";
const MANAGER: &str = "manager-0123456789";
const WRONG: &str = "somebody-elses-012";
fn start(files: &TempDir) -> Server {
    let (tills, managers) = (files.write("tills", TILL), files.write("managers", MANAGER));
    Server::builder().arg("--token-file").arg(tills).arg("--admin-token-file").arg(managers).start()
}

#[track_caller]
fn order(browser: &Browser) {
    browser.click("product-item[data-id=A1] >>> .add");
}

/// Gives the till a code of its own, with its first order.
#[track_caller]
fn open_till(browser: &Browser, server: &Server) {
    open_board(browser, server);
    order(browser);
    give(browser, TILL);
    browser.until(DEADLINE, &total_is("A1", 4));
    browser.until(DEADLINE, DOES_NOT_ASK);
    expect_kept(browser, TILL);
}

/// A browser at such a till, the token files, and the server.
#[track_caller]
fn till() -> Option<(Browser, TempDir, Server)> {
    let browser = Browser::start()?;
    let files = TempDir::new();
    let server = start(&files);
    open_till(&browser, &server);
    Some((browser, files, server))
}

#[track_caller]
fn expect_kept(browser: &Browser, token: &str) {
    browser.until(DEADLINE, &format!("{KEPT}.length === 1"));
    let kept = browser
        .run(&format!("return [{KEPT}.map((name) => sessionStorage[name]), localStorage.length, document.cookie]"));
    assert_eq!(kept, json!([[token], 0, ""]));
}

/// Sends a new price. The dialog stays open while the code is asked for.
#[track_caller]
fn change_price(browser: &Browser, price: &str) {
    browser.click("product-item[data-id=A1] >>> .edit");
    fill(browser, "#edit-dialog [name=rrp]", price);
    browser.click("#edit-dialog [type=submit]");
}

#[track_caller]
fn expect_price(browser: &Browser, price: &str) {
    browser.until(DEADLINE, "!document.querySelector('#edit-dialog').open");
    let shown = "document.querySelector('product-item[data-id=A1] > [slot=rrp]')?.textContent";
    browser.until(DEADLINE, &format!("{shown} === '{price}'"));
    assert_eq!(browser.run(&format!("return {ASKS}")), false);
}

/// Changes the price with the code of the manager, which the board asks for.
#[track_caller]
fn change_price_as_manager(browser: &Browser, price: &str) {
    change_price(browser, price);
    give(browser, MANAGER);
    expect_price(browser, price);
}

/// What the dialog says: its title, and its reason for asking again, if there is one.
#[track_caller]
fn question(browser: &Browser) -> Value {
    browser.until(DEADLINE, ASKS);
    browser.run(
        "const reason = document.querySelector('#token-reason');
         return [document.querySelector('#token-title').textContent, reason.hidden ? null : reason.textContent]",
    )
}

/// Records the token of each request from now on.
#[track_caller]
fn record_tokens(browser: &Browser) {
    browser.run(
        "const send = fetch;
         window.sent = [];
         window.fetch = (address, options) => {
           const kind = options.method === 'GET' ? 'read' : new URL(address).pathname.split('/')[1];
           sent.push([kind, options.headers.get('Authorization')]);
           return send(address, options);
         };",
    );
}

#[track_caller]
fn close_period(browser: &Browser) {
    show_report(browser);
    browser.click("#report-close");
    browser.until(DEADLINE, ASKS_TO_CLOSE);
    browser.click("#report-dialog [type=submit]");
}

#[test]
fn the_code_of_the_manager_is_dropped_when_managing_is_done_and_on_reload() {
    let Some((browser, _files, _server)) = till() else { return };
    browser.click("#manage");
    change_price(&browser, "89.99");
    assert_eq!(question(&browser), json!(["Enter the manager’s code to change products", null]));
    let note = browser.run("return document.querySelector('#token-note').innerText");
    assert!(note.as_str().is_some_and(|note| note.starts_with("Used for managing only")), "{note}");
    give(&browser, WRONG);
    browser.until(DEADLINE, "!document.querySelector('#token-reason').hidden");
    give(&browser, MANAGER);
    expect_price(&browser, "89.99");
    expect_kept(&browser, TILL);
    change_price(&browser, "88.00");
    expect_price(&browser, "88.00");

    browser.click("#manage");
    browser.click("#manage");
    change_price_as_manager(&browser, "87.00");
    browser.run("location.reload()");
    browser.until(DEADLINE, &state_is("live"));
    close_period(&browser);
    assert_eq!(question(&browser), json!(["Enter the manager’s code to close period 1", null]));
    give(&browser, MANAGER);
    browser.until(DEADLINE, IS_CLOSED);
    // Outside managing, the code is dropped with the report.
    browser.click("#report-dialog .cancel");
    close_period(&browser);
    assert_eq!(question(&browser)[0], "Enter the manager’s code to close period 2");
    browser.click("#token-cancel");
    browser.until(DEADLINE, "document.querySelector('#report-dialog .reason').textContent.startsWith('not closed')");
    expect_kept(&browser, TILL);
}

#[test]
fn the_code_of_the_manager_is_dropped_after_ten_idle_minutes() {
    let Some((browser, _files, _server)) = till() else { return };
    browser.click("#manage");
    change_price_as_manager(&browser, "89.99");
    let later = |minutes: u32| {
        browser.run(&format!(
            "const now = Date.now;
             Date.now = () => now() + {minutes} * 60_000;"
        ));
    };
    for price in ["88.00", "87.00"] {
        later(9);
        change_price(&browser, price);
        expect_price(&browser, price);
    }
    later(11);
    change_price(&browser, "86.00");
    assert_eq!(question(&browser), json!(["Enter the manager’s code to change products", null]));
}

#[test]
fn orders_and_reading_use_the_code_of_the_till_while_the_manager_is_there() {
    let Some((browser, _files, mut server)) = till() else { return };
    browser.click("#manage");
    change_price_as_manager(&browser, "89.99");
    record_tokens(&browser);
    change_price(&browser, "88.00");
    expect_price(&browser, "88.00");
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    order(&browser);
    browser.until(DEADLINE, "document.querySelector('#waiting').innerText.includes('1 order is waiting')");
    server.restart_on_the_same_ports();
    browser.until(3 * DEADLINE, &total_is("A1", 5));
    browser.until(DEADLINE, "document.querySelector('#waiting').innerText === ''");
    let sent = browser.run("return sent");
    let [till, manager] = [TILL, MANAGER].map(|token| format!("Bearer {token}"));
    let sent: Vec<(&str, &str)> =
        sent.as_array().expect("requests").iter().map(|it| (text(&it[0]), text(&it[1]))).collect();
    for (kind, token) in &sent {
        assert_eq!(*token, if *kind == "electronics" { manager.as_str() } else { till.as_str() }, "{sent:?}");
    }
    for kind in ["read", "orders", "electronics"] {
        assert!(sent.iter().any(|it| it.0 == kind), "{kind} is not in {sent:?}");
    }
    expect_kept(&browser, TILL);
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Holds each request that changes something below a path: before it is sent, or its response. `release()` lets the
/// last one go on, and `answered` is its status then.
#[track_caller]
fn hold(browser: &Browser, path: &str, before_it_is_sent: bool) {
    browser.run_with(
        "const [path, before] = arguments;
         const send = fetch;
         const released = () => new Promise((resolve) => {
           window.release = resolve;
         });
         window.fetch = async (address, options) => {
           if (options.method === 'GET' || !new URL(address).pathname.startsWith(path)) {
             return send(address, options);
           }
           if (before) await released();
           // A response with 401 or 403 asks for a code, and is not the one to be held.
           const response = await send(address, options);
           if (!before && response.ok) await released();
           window.answered = response.status;
           return response;
         };",
        &json!([path, before_it_is_sent]),
    );
}

#[track_caller]
fn release(browser: &Browser) {
    browser.until(DEADLINE, "window.release !== undefined");
    browser.run("release()");
}

#[track_caller]
fn add_product(browser: &Browser, name: &str) {
    browser.run("document.querySelector('#new-product').open = true");
    fill(browser, "#product-form [name=name]", name);
    fill(browser, "#product-form [name=rrp]", "34.50");
    browser.click("#product-form button");
}

#[test]
fn a_code_that_was_entered_for_managing_is_never_stored() {
    let Some(browser) = Browser::start() else { return };
    let files = TempDir::new();
    let server = start(&files);
    open_board(&browser, &server);
    browser.click("#manage");
    change_price(&browser, "89.99");
    let note = "document.querySelector('#token-note').innerText.startsWith('Used for managing only')";
    browser.until(DEADLINE, note);
    give(&browser, MANAGER);
    expect_price(&browser, "89.99");
    assert_eq!(browser.run(&format!("return [{KEPT}, localStorage.length, document.cookie]")), json!([[], 0, ""]));
    change_price(&browser, "88.00");
    expect_price(&browser, "88.00");
    order(&browser);
    assert_eq!(question(&browser), json!(["Ordering needs an access code", null]));
    give(&browser, TILL);
    browser.until(DEADLINE, &total_is("A1", 4));
    expect_kept(&browser, TILL);
    // What removes it says so.
    browser.until(DEADLINE, "document.querySelector('#token-forget').innerText === 'Remove access code'");
}

#[test]
fn where_only_managing_needs_a_code_nothing_else_uses_it() {
    let Some(browser) = Browser::start() else { return };
    let files = TempDir::new();
    let server = Server::builder().arg("--admin-token-file").arg(files.write("managers", MANAGER)).start();
    open_board(&browser, &server);
    browser.click("#manage");
    change_price_as_manager(&browser, "89.99");
    record_tokens(&browser);
    order(&browser);
    browser.until(DEADLINE, &total_is("A1", 4));
    change_price(&browser, "88.00");
    expect_price(&browser, "88.00");
    let sent = browser.run("return sent");
    for it in sent.as_array().expect("requests") {
        let manages = text(&it[0]) == "electronics";
        assert_eq!(it[1], if manages { json!(format!("Bearer {MANAGER}")) } else { Value::Null }, "{sent}");
    }
    browser.click("#manage");
    browser.click("#manage");
    change_price(&browser, "87.00");
    assert_eq!(question(&browser), json!(["Enter the manager’s code to change products", null]));
    browser.until(DEADLINE, &format!("{KEPT}.length === 0"));
    assert_eq!(browser.run("return [localStorage.length, document.cookie]"), json!([0, ""]));
}

#[test]
fn a_board_that_is_read_with_the_code_of_the_manager_is_locked_when_managing_is_done() {
    let Some(browser) = Browser::start() else { return };
    let files = TempDir::new();
    let readers = files.write("readers", "reader-0123456789");
    let (tills, managers) = (files.write("tills", TILL), files.write("managers", MANAGER));
    let server = Server::builder()
        .arg("--read-token-file")
        .arg(readers)
        .arg("--token-file")
        .arg(tills)
        .arg("--admin-token-file")
        .arg(managers)
        .start();
    browser.open(&format!("http://{}/#electronics", server.addr()));
    browser.until(DEADLINE, ASKS);
    browser.click("#token-cancel");
    browser.until(DEADLINE, &state_is("locked"));
    browser.until(DEADLINE, DOES_NOT_ASK);
    browser.click("#manage");
    browser.until(DEADLINE, ASKS);
    browser.click("#token-cancel");
    browser.until(DEADLINE, DOES_NOT_ASK);
    // A request that begins before the dialog's delayed `close` event is cancelled with the former one.
    browser.draw();
    // The dialog for a category reads the products first, so the page's own request is made without it.
    browser.run(
        "import(new URL('api.js', document.querySelector('script[type=module]').src))
           .then((api) => api.putCategory('tools', { title: 'Tools', prefix: 'T' }))",
    );
    browser.until(DEADLINE, ASKS);
    give(&browser, MANAGER);
    browser.until(DEADLINE, DOES_NOT_ASK);
    browser.click("#token-enter");
    browser.until(DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 3));
    order(&browser);
    browser.until(DEADLINE, &total_is("A1", 4));
    browser.until(DEADLINE, &format!("{KEPT}.length === 0"));
    browser.click("#manage");
    assert_eq!(question(&browser)[0], "This board needs an access code");
    browser.until(DEADLINE, "document.querySelector('#board').hidden");
}

#[test]
fn the_code_of_the_manager_is_not_left_in_the_next_question() {
    let Some((browser, files, server)) = till() else { return };
    hold(&browser, "/orders/", true);
    order(&browser);
    browser.click("#manage");
    change_price(&browser, "89.99");
    assert_eq!(question(&browser)[0], "Enter the manager’s code to change products");
    files.write("tills", "till-of-tomorrow-0123");
    server.signal("HUP");
    wait_until(DEADLINE, "the tokens are read", || server.log().contains("token files have been read again"));
    release(&browser);
    browser.until(DEADLINE, "window.answered === 401");
    give(&browser, MANAGER);
    browser.until(DEADLINE, "document.querySelector('#token-title').textContent === 'Ordering needs an access code'");
    browser.until(DEADLINE, ASKS);
    assert_eq!(browser.run("return document.querySelector('#token-input').value"), "");
    browser.type_into("#token-input", ENTER);
    browser.until(DEADLINE, "document.querySelector('#token-reason').textContent.includes('16 to 255')");
    let stored = browser.run("return JSON.stringify([{ ...sessionStorage }, { ...localStorage }])");
    assert!(!text(&stored).contains(MANAGER), "{stored}");
}

#[test]
fn the_code_of_the_manager_is_dropped_with_a_product_that_was_added_outside_managing() {
    let Some((browser, _files, _server)) = till() else { return };
    add_product(&browser, "Desk Lamp");
    give(&browser, MANAGER);
    browser.until(DEADLINE, &total_is("A3", 0));
    browser.until(DEADLINE, DOES_NOT_ASK);
    add_product(&browser, "Floor Lamp");
    assert_eq!(question(&browser), json!(["Enter the manager’s code to change products", null]));
    give(&browser, MANAGER);
    browser.until(DEADLINE, &total_is("A4", 0));
    expect_kept(&browser, TILL);
    // While the shop is managed, it is kept after an addition.
    browser.click("#manage");
    add_product(&browser, "Wall Lamp");
    give(&browser, MANAGER);
    browser.until(DEADLINE, &total_is("A5", 0));
    change_price(&browser, "89.99");
    expect_price(&browser, "89.99");
}

#[test]
fn a_code_that_is_being_tried_cannot_be_cancelled() {
    let Some((browser, _files, _server)) = till() else { return };
    hold(&browser, "/periods", false);
    close_period(&browser);
    give(&browser, MANAGER);
    browser.until(DEADLINE, "window.release !== undefined");
    assert_eq!(browser.run("return document.querySelector('#token-cancel').disabled"), true);
    // Chromium lets a page prevent the first Escape, and not the second one.
    for _ in 0..3 {
        browser.type_into("#token-input", ESCAPE);
        browser.until(DEADLINE, ASKS);
    }
    release(&browser);
    browser.until(DEADLINE, IS_CLOSED);
    browser.until(DEADLINE, DOES_NOT_ASK);
    // The next question can be cancelled.
    browser.click("#report-dialog .cancel");
    close_period(&browser);
    browser.until(DEADLINE, ASKS);
    assert_eq!(browser.run("return document.querySelector('#token-cancel').disabled"), false);
    browser.type_into("#token-input", ESCAPE);
    browser.until(DEADLINE, DOES_NOT_ASK);
}

#[test]
fn the_code_of_the_manager_is_not_kept_for_a_change_that_ends_after_managing() {
    let Some((browser, _files, _server)) = till() else { return };
    hold(&browser, "/electronics/", true);
    browser.click("#manage");
    change_price(&browser, "89.99");
    browser.until(DEADLINE, "window.release !== undefined");
    browser.click("#edit-dialog .cancel");
    browser.click("#manage");
    browser.run("release(); release = undefined");
    give(&browser, MANAGER);
    release(&browser);
    expect_price(&browser, "89.99");
    browser.until(DEADLINE, DOES_NOT_ASK);
    browser.click("#manage");
    change_price(&browser, "88.00");
    release(&browser);
    assert_eq!(question(&browser), json!(["Enter the manager’s code to change products", null]));
    expect_kept(&browser, TILL);
}

#[test]
fn the_dialogs_for_managing_fit_a_phone_and_a_desktop() {
    let Some(browser) = Browser::start() else { return };
    let files = TempDir::new();
    let server = start(&files);
    let authorization = [("Content-Type", "application/json"), ("Authorization", &format!("Bearer {MANAGER}"))];
    assert_eq!(server.client().request("POST", "/periods", &authorization, b"{\"number\":1}").status, 200);
    open_till(&browser, &server);
    show_report(&browser);
    expect_fit(&browser, "report", "report-dialog");
    browser.click("#report-close");
    browser.until(DEADLINE, ASKS_TO_CLOSE);
    expect_fit(&browser, "report-question", "report-dialog");
    browser.click("#report-dialog [type=submit]");
    browser.until(DEADLINE, ASKS);
    expect_fit(&browser, "code-to-close", "token");
    assert_eq!(server.client().request("POST", "/periods", &authorization, b"{\"number\":2}").status, 200);
    give(&browser, MANAGER);
    browser.until(DEADLINE, IS_CLOSED);
    expect_fit(&browser, "report-closed", "report-dialog");
    browser.click("#report-dialog .cancel");
    browser.click("#manage");
    browser.until(DEADLINE, "document.querySelector('#category-edit').checkVisibility()");
    browser.click("#category-edit");
    expect_fit(&browser, "category", "category-dialog");
}

/// Checks that a dialog is on the screen as a whole, and saves pictures of it.
#[track_caller]
fn expect_fit(browser: &Browser, name: &str, dialog: &str) {
    for (width, height, scheme) in [(390, 844, "light"), (390, 844, "dark"), (1280, 800, "dark"), (1280, 800, "light")]
    {
        browser.look(width, height, 1, scheme);
        browser.until(DEADLINE, &format!("innerWidth === {width}"));
        let place =
            browser.run(&format!("return document.getElementById('{dialog}').getBoundingClientRect().toJSON()"));
        let side = |name: &str| place[name].as_f64().expect("a number");
        assert!(side("left") >= 0.0 && side("right") <= f64::from(width), "{name} at {width}: {place}");
        assert!(side("top") >= 0.0 && side("bottom") <= f64::from(height), "{name} at {width}: {place}");
        let overflow = browser.run(&format!(
            "const dialog = document.getElementById('{dialog}');
             return [dialog.scrollWidth - dialog.clientWidth, dialog.scrollHeight - dialog.clientHeight]"
        ));
        assert_eq!(overflow, json!([0, 0]), "{name} at {width}");
        browser.picture(&format!("{name}-{width}-{scheme}"));
    }
}
