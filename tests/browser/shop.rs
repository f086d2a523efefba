//! The board at a till and in the hands of the one who runs the shop: taking orders back, finding products, changing them,
//! categories, and the close of a period.

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::close::ASKS_TO_CLOSE;
use crate::common::periods::{amounts, report};
use crate::common::{DEADLINE, Server};
use crate::webdriver::{Browser, ENTER};

const MANAGER: &str = "manager-0123456789";

#[track_caller]
pub fn open_board(browser: &Browser, server: &Server) {
    browser.open(&format!("http://{}/#electronics", server.addr()));
    browser.until(DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A2", 7));
}

/// The text of a part of a product's card.
pub fn part(id: &str, part: &str) -> String {
    format!("document.querySelector('product-item[data-id={id}]').shadowRoot.querySelector('{part}').textContent")
}

/// The ids of the products on the screen, in their order.
#[track_caller]
pub fn shown(browser: &Browser) -> Value {
    browser.run("return [...document.querySelectorAll('product-item')].map((item) => item.dataset.id)")
}

/// Writes a value into a field of a form and tells the page.
#[track_caller]
pub fn fill(browser: &Browser, selector: &str, value: &str) {
    browser.run_with(
        "const [selector, value] = arguments;
         const field = document.querySelector(selector);
         field.value = value;
         field.dispatchEvent(new Event('input', { bubbles: true }));
         field.dispatchEvent(new Event('change', { bubbles: true }));",
        &json!([selector, value]),
    );
}

#[test]
fn an_order_is_said_to_be_sent_and_undo_takes_it_back_once() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server);
    browser.type_into("product-item[data-id=A1] >>> input", "5");
    browser.click("product-item[data-id=A1] >>> .add");
    browser.until(DEADLINE, &total_is("A1", 8));
    browser.until(DEADLINE, &format!("{} === '+5 sent'", part("A1", ".sent")));
    browser.until(DEADLINE, "document.querySelector('#announcement').textContent === 'Vacuum Cleaner: +5 sent'");
    browser.click("product-item[data-id=A1] >>> .undo");
    browser.until(DEADLINE, &total_is("A1", 3));
    browser.until(DEADLINE, &format!("{} === '-5 sent'", part("A1", ".sent")));
    // Neither the order nor what took it back can be taken back again.
    let buttons = "[...document.querySelectorAll('#till button')]";
    browser.until(DEADLINE, &format!("{buttons}.length === 0"));
    assert_eq!(browser.run("return document.querySelectorAll('#till li').length"), 2);
    let log = server.client().get("/log");
    let amounts: Vec<&str> = log.text().lines().filter(|line| line.contains("\"key\":\"board-")).collect();
    assert_eq!(amounts.len(), 2, "{amounts:?}");
    assert!(amounts[0].contains("\"amount\":5,") && amounts[1].contains("\"amount\":-5,"), "{amounts:?}");
}

#[test]
fn products_are_found_by_a_search_and_sorted_by_their_numbers() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let product = json!({ "name": "Air Pump", "rrp": "12", "info": "For tyres and beds." });
    server.client().post("/electronics", product.to_string());
    open_board(&browser, &server);
    browser.until(DEADLINE, &total_is("A3", 0));
    assert_eq!(shown(&browser), json!(["A1", "A2", "A3"]));
    fill(&browser, "#sort", "name");
    assert_eq!(shown(&browser), json!(["A3", "A2", "A1"]));
    fill(&browser, "#sort", "total");
    assert_eq!(shown(&browser), json!(["A2", "A1", "A3"]));
    browser.run("document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '/', bubbles: true }))");
    assert_eq!(browser.run("return document.activeElement.id"), "search");
    fill(&browser, "#search", "beds air");
    assert_eq!(shown(&browser), json!(["A3"]));
    fill(&browser, "#search", "teapot");
    assert_eq!(shown(&browser), json!([]));
    let hint = browser.run("return document.querySelector('#hint').textContent");
    assert_eq!(hint, "No product in Electronics matches the search.");
    fill(&browser, "#search", "");
    assert_eq!(shown(&browser), json!(["A2", "A1", "A3"]));
}

#[test]
fn a_product_is_changed_hidden_and_shown_again_on_every_board() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server);
    let first = browser.window();
    let second = browser.new_window();
    browser.switch_to(&second);
    open_board(&browser, &server);
    browser.switch_to(&first);
    browser.click("#manage");
    let save = |field: &str, change: &str| {
        browser.click("product-item[data-id=A1] >>> .edit");
        browser.run(&format!("document.querySelector('#edit-dialog').querySelector('[name={field}]').{change}"));
        browser.click("#edit-dialog [type=submit]");
        browser.until(DEADLINE, "!document.querySelector('#edit-dialog').open");
    };
    save("rrp", "value = '89.99'");
    let price = "document.querySelector('product-item[data-id=A1] > [slot=rrp]')?.textContent";
    browser.until(DEADLINE, &format!("{price} === '89.99'"));
    save("hidden", "checked = true");
    browser.until(DEADLINE, "document.querySelector('product-item[data-id=A1]').hasAttribute('withdrawn')");
    browser.switch_to(&second);
    browser.until(DEADLINE, "document.querySelectorAll('product-item').length === 1");
    server.client().post("/orders/A1", "{\"amount\":1}").problem(410);
    browser.switch_to(&first);
    save("hidden", "checked = false");
    browser.switch_to(&second);
    browser.until(DEADLINE, &format!("{price} === '89.99'"));
    browser.until(DEADLINE, &total_is("A1", 3));
    // A mistake is explained in the dialog, which stays open.
    browser.switch_to(&first);
    browser.click("product-item[data-id=A1] >>> .edit");
    fill(&browser, "#edit-dialog [name=name]", " ");
    browser.click("#edit-dialog [type=submit]");
    browser
        .until(DEADLINE, "document.querySelector('#edit-dialog .reason').innerText.includes('name must not be empty')");
    assert_eq!(browser.console().iter().filter(|line| !line.contains("422")).count(), 0);
}

#[test]
fn a_category_is_added_and_opened() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server);
    browser.click("#manage");
    browser.click("#category-add");
    fill(&browser, "#category-dialog [name=title]", "Café & Küche");
    fill(&browser, "#category-dialog [name=prefix]", "K");
    browser.click("#category-dialog [type=submit]");
    browser.until(DEADLINE, "document.title === 'Café & Küche · Ordercast'");
    browser.until(DEADLINE, &state_is("live"));
    assert_eq!(server.client().get("/cafe-kuche").json(), json!([]));
    // Another one of this name does not change its title.
    browser.click("#category-add");
    fill(&browser, "#category-dialog [name=title]", "CAFE KUCHE");
    fill(&browser, "#category-dialog [name=prefix]", "K");
    browser.click("#category-dialog [type=submit]");
    let reason = "document.querySelector('#category-dialog .reason').innerText";
    browser.until(DEADLINE, &format!("{reason} === 'There is a category “CAFE KUCHE” already.'"));
    assert_eq!(browser.run("return document.title"), "Café & Küche · Ordercast");
}

#[test]
fn a_category_whose_products_are_all_hidden_is_live_and_waits_for_no_total() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server);
    for id in ["A1", "A2"] {
        let merge_patch = [("Content-Type", "application/merge-patch+json")];
        let path = format!("/electronics/{id}");
        assert_eq!(server.client().request("PATCH", &path, &merge_patch, b"{\"hidden\":true}").status, 200);
    }
    browser.until(DEADLINE, "document.querySelectorAll('product-item').length === 0");
    browser.click("#manage");
    browser.until(DEADLINE, "document.querySelectorAll('product-item[withdrawn]').length === 2");
    // The network is back: a snapshot would be asked for, if there were a total in it.
    let asked = browser.run(
        "const asked = [];
         WebSocket.prototype.send = (message) => asked.push(message);
         dispatchEvent(new Event('online'));
         return asked",
    );
    assert_eq!(asked, json!([]));
    assert_eq!(browser.run(&format!("return {}", state_is("live"))), true);
}

#[test]
fn a_report_that_cannot_be_read_is_said_in_words() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    open_board(&browser, &server);
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    browser.click("#period-show");
    browser.until(DEADLINE, "document.querySelector('#problem-text').innerText === 'The server does not answer.'");
}

#[test]
fn the_period_is_closed_with_its_report_by_one_who_may() {
    let Some(browser) = Browser::start() else { return };
    let folder = crate::common::TempDir::new();
    let tokens = folder.path().join("admin");
    std::fs::write(&tokens, MANAGER).expect("a file can be written");
    let server = Server::builder().arg("--admin-token-file").arg(&tokens).start();
    server.client().order("A1", 14);
    server.client().order("B1", 2);
    open_board(&browser, &server);
    browser.until(DEADLINE, &format!("{}.includes('14 in this period')", part("A1", ".period")));
    browser.click("#period-show");
    browser.until(DEADLINE, "document.querySelector('#report-sum').textContent === '16'");
    browser.click("#report-close");
    browser.until(DEADLINE, ASKS_TO_CLOSE);
    browser.click("#report-dialog [type=submit]");
    // The close needs the manager's access code.
    browser.until(DEADLINE, "document.querySelector('#token').open");
    browser.type_into("#token-input", &format!("{MANAGER}{ENTER}"));
    browser.until(DEADLINE, "document.querySelector('#report-dialog [type=submit]').hidden");
    let lines = browser.run("return document.querySelector('#report-lines').innerText.replaceAll('\\t', ' ')");
    assert!(lines.as_str().is_some_and(|lines| lines.contains("Vacuum Cleaner A1 14")), "{lines}");
    browser.click("#report-dialog .cancel");
    browser.until(DEADLINE, &format!("{}.includes('0 in this period')", part("A1", ".period")));
    browser.until(DEADLINE, &total_is("A1", 17));
    let closed = report(&mut server.client(), "1");
    assert_eq!(amounts(&closed).into_iter().collect::<Vec<_>>(), [("A1".to_owned(), 14), ("B1".to_owned(), 2)]);
}

#[test]
fn the_overview_shows_all_categories_and_a_sole_one_is_opened_at_once() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    browser.open(&format!("http://{}/", server.addr()));
    browser.until(DEADLINE, "document.querySelector('#overview .sum')?.textContent === '10'");
    assert_eq!(
        browser.run("return [...document.querySelectorAll('#overview h2')].map((title) => title.textContent)"),
        json!(["Electronics", "Confectionery"])
    );
    browser.click("#overview a");
    browser.until(DEADLINE, &total_is("A1", 3));
    let sole = Server::builder().catalog(r#"{"tools":{"prefix":"T","products":[{"id":"T1","name":"Saw"}]}}"#).start();
    browser.open(&format!("http://{}/", sole.addr()));
    browser.until(DEADLINE, &total_is("T1", 0));
}

#[test]
fn the_overview_says_that_the_server_is_away_and_shows_what_has_changed_when_it_is_back() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    browser.open(&format!("http://{}/", server.addr()));
    browser.until(DEADLINE, "document.querySelector('#overview .sum')?.textContent === '10'");
    browser.until(DEADLINE, &state_is("idle"));
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    let hidden = "['search', 'sort'].every((id) => document.getElementById(id).getClientRects().length === 0)";
    assert_eq!(browser.run(&format!("return {hidden}")), true);
    server.restart_on_the_same_ports();
    server.client().order("A1", 2);
    let garden = json!({ "prefix": "G" }).to_string();
    let json = [("Content-Type", "application/json")];
    assert_eq!(server.client().request("PUT", "/garden", &json, garden.as_bytes()).status, 201);
    browser.until(2 * DEADLINE, &state_is("idle"));
    browser.until(DEADLINE, "document.querySelector('#overview .sum').textContent === '12'");
    browser.until(DEADLINE, "document.querySelectorAll('#overview li').length === 3");
}

#[test]
fn every_language_has_every_text() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    browser.open(&format!("http://{}/", server.addr()));
    browser.until(DEADLINE, "document.querySelectorAll('#overview li').length === 2");
    let missing = browser.run(
        "const names = (texts, prefix = '') => Object.entries(texts).flatMap(([name, text]) =>
           typeof text === 'object' ? names(text, `${prefix}${name}.`) : [`${prefix}${name}:${typeof text}`]);
         const load = async (language) => names((await import(`/texts-${language}.js`)).default).sort();
         return (async () => {
           const english = await load('en');
           const faults = [];
           for (const language of ['de', 'fr', 'es']) {
             const own = await load(language);
             for (const name of english) if (!own.includes(name)) faults.push(`${language} lacks ${name}`);
             for (const name of own) if (!english.includes(name)) faults.push(`${language} has ${name} alone`);
           }
           return faults;
         })()",
    );
    assert_eq!(missing, json!([]));
    let unnamed = browser.run(
        "return (async () => {
           const texts = (await import('/texts-en.js')).default;
           const named = [...document.querySelectorAll('[data-text], [data-label], [data-hint]')];
           return named.flatMap(({ dataset: { text, label, hint } }) => [text, label, hint])
             .filter((name) => name !== undefined && typeof texts[name] !== 'string');
         })()",
    );
    assert_eq!(unnamed, json!([]));
}

#[test]
fn a_browser_in_another_language_gets_the_board_in_it() {
    for (language, words) in [("de", "Bestellen"), ("fr", "Commander"), ("es", "Pedir"), ("it", "Add order")] {
        let Some(browser) = Browser::with_flags(&[&format!("--accept-lang={language}"), &format!("--lang={language}")])
        else {
            return;
        };
        let server = Server::start();
        browser.open(&format!("http://{}/#electronics", server.addr()));
        browser.until(DEADLINE, &total_is("A1", 3));
        browser.until(DEADLINE, &format!("{}.includes('{words}')", part("A1", ".add")));
        assert_eq!(browser.console(), Vec::<String>::new());
    }
}
