//! The board in the hands of impatient visitors, beside other tabs and colleagues, with long names and odd addresses.

use serde_json::json;

use crate::board::{state_is, total_is};
use crate::close::{ASKS_TO_CLOSE, IS_CLOSED, show_report};
use crate::common::{DEADLINE, Server};
use crate::shop::{fill, open_board};
use crate::webdriver::Browser;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn a_second_click_at_once_does_not_close_the_period() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    server.client().order("A1", 1);
    open_board(&browser, &server);
    show_report(&browser);
    // Wherever the second button is, and however slow the answer to the first one was.
    browser.run(
        "const confirm = document.querySelector('#report-confirm');
         new MutationObserver(() => confirm.hidden || confirm.querySelector('[type=submit]').click())
           .observe(confirm, { attributes: true });",
    );
    browser.click("#report-close");
    browser.until(DEADLINE, ASKS_TO_CLOSE);
    assert_eq!(browser.run(&format!("return {IS_CLOSED}")), false);
    assert_eq!(server.client().get("/periods/current").json()["number"], 1);
    browser.click("#report-dialog [type=submit]");
    browser.until(DEADLINE, IS_CLOSED);
}

#[test]
fn an_order_is_taken_back_once_also_from_a_copy_of_the_tab() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server);
    fill(&browser, "#search", "");
    browser.type_into("product-item[data-id=A1] >>> input", "7");
    browser.click("product-item[data-id=A1] >>> .add");
    browser.until(DEADLINE, &total_is("A1", 10));
    browser.until(DEADLINE, "document.querySelectorAll('#till button').length === 1");
    let stored = browser.run("return Object.entries(sessionStorage)");
    let first = browser.window();
    let second = browser.new_window();
    browser.switch_to(&second);
    open_board(&browser, &server);
    browser.run_with(
        "for (const [name, value] of arguments[0]) sessionStorage.setItem(name, value); location.reload()",
        &json!([stored]),
    );
    browser.until(DEADLINE, "document.querySelectorAll('#till button').length === 1");
    browser.until(DEADLINE, &state_is("live"));
    for window in [&first, &second] {
        browser.switch_to(window);
        browser.run("document.querySelector('#till button').click()");
        browser.until(DEADLINE, "document.querySelectorAll('#till button').length === 0");
        browser.until(DEADLINE, "document.querySelectorAll('#till [data-state=sending]').length === 0");
    }
    browser.until(DEADLINE, &total_is("A1", 3));
    assert_eq!(server.client().get("/log").text().lines().count(), 2);
}

#[test]
fn an_edit_leaves_what_a_colleague_has_changed_meanwhile() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server);
    browser.click("#manage");
    browser.click("product-item[data-id=A2] >>> .edit");
    browser.until(DEADLINE, "document.querySelector('#edit-dialog').open");
    let mut client = server.client();
    let change = b"{\"rrp\":\"77.77\",\"hidden\":true}";
    assert_eq!(client.request("PATCH", "/electronics/A2", &[JSON], change).status, 200);
    fill(&browser, "#edit-dialog [name=info]", "Blows leaves.");
    browser.click("#edit-dialog [type=submit]");
    browser.until(DEADLINE, "!document.querySelector('#edit-dialog').open");
    let product = client.get("/electronics?hidden=true").json()[1].clone();
    assert_eq!(
        (&product["rrp"], &product["hidden"], &product["info"]),
        (&json!("77.77"), &json!(true), &json!("Blows leaves."))
    );
}

#[test]
fn addresses_that_name_no_category_say_so() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    for name in ["orders", "periods", "categories", "healthz", "..", "app.js", "%00", "a/b"] {
        browser.open("about:blank");
        browser.open(&format!("http://{}/#{name}", server.addr()));
        browser
            .until(DEADLINE, "document.querySelector('#problem-text').textContent.startsWith('There is no category')");
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_wall_shows_no_hidden_product_and_waits_for_a_category_that_is_not_there() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.request("PATCH", "/electronics/A2", &[JSON], b"{\"hidden\":true}").status, 200);
    browser.open(&format!("http://{}/#electronics", server.addr()));
    browser.until(DEADLINE, &state_is("live"));
    browser.click("#manage");
    browser.until(DEADLINE, "document.querySelectorAll('product-item').length === 2");
    browser.run("location.hash = '#electronics?wall'");
    browser.until(DEADLINE, "document.querySelectorAll('product-item').length === 1");
    browser.open("about:blank");
    browser.open(&format!("http://{}/#garden?wall", server.addr()));
    browser.until(DEADLINE, &state_is("lost"));
    assert_eq!(client.request("PUT", "/garden", &[JSON], b"{\"prefix\":\"G\"}").status, 201);
    assert_eq!(client.post("/garden", "{\"name\":\"Rake\"}").status, 200);
    browser.until(3 * DEADLINE, "document.querySelectorAll('product-item').length === 1");
    browser.until(DEADLINE, &state_is("live"));
}

#[test]
fn long_names_leave_the_numbers_of_a_report_in_sight_and_on_paper() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let mut client = server.client();
    let title = "Kuchen, Torten und süße Teilchen aus der Backstube von nebenan";
    assert_eq!(
        client.request("PUT", "/electronics", &[JSON], json!({ "title": title }).to_string().as_bytes()).status,
        200
    );
    let name = json!({ "name": "W".repeat(200) }).to_string();
    assert_eq!(client.request("PATCH", "/electronics/A1", &[JSON], name.as_bytes()).status, 200);
    client.order("A1", 123_456);
    open_board(&browser, &server);
    show_report(&browser);
    browser.run("dispatchEvent(new Event('beforeprint'))");
    let widest = "return Math.max(...[...document.querySelectorAll('ROOT :is(th, td):last-child')]
        .map((cell) => cell.getBoundingClientRect().right)) <= EDGE";
    for width in [1280, 390, 360] {
        browser.emulate("screen", width);
        let edge = "document.querySelector('#report-dialog').getBoundingClientRect().right";
        let script = widest.replace("ROOT", "#report-dialog").replace("EDGE", edge);
        assert_eq!(browser.run(&script), true, "{width}");
    }
    // A4, and a roll of 80 mm.
    for width in [794, 302] {
        browser.emulate("print", width);
        let script = widest.replace("ROOT", "#printout").replace("EDGE", "innerWidth");
        assert_eq!(browser.run(&script), true, "{width}");
    }
}

#[test]
fn a_double_click_does_not_answer_the_question_about_a_large_amount() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server);
    browser.type_into("product-item[data-id=A1] >>> input", "5000");
    browser.run(
        "const button = document.querySelector('product-item[data-id=A1]').shadowRoot.querySelector('.add');
         for (const detail of [1, 2]) button.dispatchEvent(new MouseEvent('click', { detail, bubbles: true, cancelable: true }));",
    );
    browser.until(
        DEADLINE,
        "document.querySelector('product-item[data-id=A1]').shadowRoot.querySelector('.ask').textContent !== ''",
    );
    assert_eq!(server.total("A1"), 3);
    browser.click("product-item[data-id=A1] >>> .add");
    browser.until(DEADLINE, &total_is("A1", 5003));
}
