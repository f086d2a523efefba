//! The board at a till: what it says when orders are not accepted, finding products, quick amounts, mistakes and how
//! they are corrected, and the count of the period.

use std::fs;

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::common::periods::close;
use crate::common::{DEADLINE, Server, SmallDisk};
use crate::shop::{fill, part, shown};
use crate::webdriver::{Browser, ENTER, ESCAPE};

#[track_caller]
fn open_board(browser: &Browser, server: &Server, category: &str) {
    browser.open(&format!("http://{}/#{category}", server.addr()));
    browser.until(DEADLINE, &state_is("live"));
}

/// A shop with this number of products in one category and some in two others.
fn shop(count: usize) -> Server {
    let names = ["Rye Bread", "Roll", "Butter Croissant", "Pretzel"];
    let product = |number: usize| {
        let name = names[number % names.len()];
        let id = format!("B{number}");
        json!({ "id": id, "name": name, "rrp": "2.90", "info": "Baked this morning.", "total": 60 + number })
    };
    let products: Vec<Value> = (1..=count).map(product).collect();
    let catalog = json!({
        "bread": { "title": "Bread & Rolls", "prefix": "B", "products": products },
        "drinks": { "title": "Drinks", "prefix": "D", "products": [
            { "id": "D1", "name": "Coffee", "rrp": "2.50", "info": "" },
            { "id": "D2", "name": "Tea", "rrp": "2.20", "info": "" } ] },
        "packed": { "title": "To take home", "prefix": "H", "products": [
            { "id": "H1", "name": "Coffee beans 250 g", "rrp": "7.90", "info": "" } ] },
    });
    Server::builder().catalog(&catalog.to_string()).start()
}

fn text_is(selector: &str, text: &str) -> String {
    format!("document.querySelector('{selector}').textContent === {}", json!(text))
}

#[test]
fn a_full_disk_is_said_in_words_until_an_order_is_accepted() {
    let Some(browser) = Browser::start() else { return };
    let Some(disk) = SmallDisk::mount() else { return };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 1536 * 1024]).expect("there is room yet");
    let server = Server::builder().data(&disk.path().join("data")).start();
    open_board(&browser, &server, "electronics");
    let mut client = server.client();
    let lines = "{\"id\":\"A2\",\"amount\":1}\n".repeat(500);
    let ndjson = [("Content-Type", "application/x-ndjson")];
    while client.request("POST", "/orders", &ndjson, lines.as_bytes()).status == 200 {}
    while client.post("/orders/A2", "{\"amount\":1}").status == 200 {}

    browser.click("product-item[data-id=A1] >>> .add");
    browser.until(
        DEADLINE,
        &text_is(
            "#waiting",
            "1 order is waiting for confirmation. It is sent again automatically and counted only once. \
             The server has no space left and accepts no orders.",
        ),
    );
    browser.until(DEADLINE, &text_is("#state", "Orders not accepted"));
    let colours = browser.run(
        "const colour = (name) => getComputedStyle(document.querySelector(name)).color;
         return [colour('#state'), colour('#waiting')]",
    );
    assert_eq!(colours[0], colours[1]);
    browser.until(DEADLINE, &format!("{} === '+1 waiting'", part("A1", ".sent")));

    fs::remove_file(&ballast).expect("the ballast goes");
    browser.until(3 * DEADLINE, &total_is("A1", 4));
    browser.until(DEADLINE, &text_is("#state", "Live"));
    browser.until(DEADLINE, &text_is("#waiting", ""));
}

#[test]
fn quick_amounts_are_shown_wherever_they_fit() {
    let Some(browser) = Browser::start() else { return };
    for count in [1, 2, 5, 7, 8, 12, 30] {
        let server = shop(count);
        open_board(&browser, &server, "bread");
        browser.until(DEADLINE, &total_is("B1", 61));
        for (width, height) in [(1280, 800), (1920, 1080), (390, 844), (320, 700)] {
            browser.look(width, height, 1, "light");
            browser.until(DEADLINE, &format!("innerWidth === {width}"));
            for managed in [false, true] {
                browser.draw();
                let seen = browser.run(
                    "return [...document.querySelectorAll('product-item')].map((item) => {
                       const form = item.shadowRoot.querySelector('form');
                       const box = form.getBoundingClientRect();
                       const boxes = [...form.querySelectorAll('input, button')]
                         .map((control) => control.getBoundingClientRect()).filter(({ width }) => width > 0);
                       const quick = [...form.querySelectorAll('.quick button')].filter(({ hidden }) => !hidden).length;
                       const taken = boxes.reduce((sum, { width }) => sum + width, 0);
                       const isInside =
                         boxes.every(({ left, right }) => left >= box.left - 1 && right <= box.right + 1);
                       const em = parseFloat(getComputedStyle(form).fontSize);
                       return { quick, free: (box.width - taken) / em, isInside };
                     })",
                );
                for card in seen.as_array().expect("an array") {
                    let at = format!("{count} products at {width}, managed: {managed}: {card}");
                    assert_eq!(card["isInside"], true, "{at}");
                    // A further button of 2.85 em has a gap of 0.25 em, and so have the others.
                    assert!(card["quick"] == 3 || card["free"].as_f64().is_some_and(|free| free < 3.6), "{at}");
                    assert!(managed || card["quick"].as_u64() >= Some(if width == 320 { 1 } else { 2 }), "{at}");
                }
                browser.click("#manage");
            }
        }
    }
}

#[test]
fn a_search_offers_products_of_other_categories_and_enter_goes_to_the_only_one() {
    let Some(browser) = Browser::start() else { return };
    let server = shop(3);
    open_board(&browser, &server, "bread");
    browser.type_into("body", "/");
    // Pressed once more, the key is no part of the text.
    browser.type_into("#search", "/coffee");
    browser.until(DEADLINE, &text_is("#hint", "No product in Bread & Rolls matches the search."));
    let offers = "[...document.querySelectorAll('#elsewhere button')]";
    browser.until(DEADLINE, &format!("{offers}.length === 2"));
    let texts = browser.run(&format!("return {offers}.map((offer) => offer.textContent)"));
    assert_eq!(texts, json!(["Coffee · Drinks", "Coffee beans 250 g · To take home"]));
    browser.type_into("#search", " beans");
    browser.until(DEADLINE, &format!("{offers}.length === 1"));
    browser.type_into("#search", "\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}");
    browser.until(DEADLINE, &format!("{offers}.length === 2"));
    browser.click("#elsewhere button");
    browser.until(DEADLINE, "location.hash === '#drinks'");
    browser.until(DEADLINE, &state_is("live"));
    assert_eq!(shown(&browser), json!(["D1"]));
    assert_eq!(browser.run("return document.querySelector('#search').value"), "coffee");
    assert_eq!(browser.run(&format!("return {offers}.length")), 0);

    browser.type_into("#search", ENTER);
    let focused = "document.activeElement.shadowRoot?.activeElement";
    browser.until(DEADLINE, &format!("document.activeElement.dataset.id === 'D1' && {focused}?.localName === 'input'"));
    browser.type_into("product-item[data-id=D1] >>> input", &format!("2{ENTER}"));
    browser.until(DEADLINE, &total_is("D1", 2));
    browser.type_into("#search", ESCAPE);
    assert_eq!(browser.run("return document.activeElement.localName"), "body");
    assert_eq!(browser.run("return document.querySelector('#search').value"), "");
    assert_eq!(shown(&browser), json!(["D1", "D2"]));
    // Another choice of a category begins without a search.
    fill(&browser, "#search", "tea");
    browser.run("location.hash = '#bread'");
    browser.until(DEADLINE, "document.querySelectorAll('product-item').length === 3");
    assert_eq!(browser.run("return document.querySelector('#search').value"), "");
}

#[test]
fn the_last_orders_survive_a_reload_and_one_that_was_taken_back_says_so() {
    let Some(browser) = Browser::start() else { return };
    let server = shop(7);
    open_board(&browser, &server, "bread");
    for (id, amount) in [("B1", "20"), ("B2", "3")] {
        browser.type_into(&format!("product-item[data-id={id}] >>> input"), &format!("{amount}{ENTER}"));
        browser.until(DEADLINE, &format!("{} === '+{amount} sent'", part(id, ".sent")));
    }
    let lines = "[...document.querySelectorAll('#till li')].map((line) =>
        [...line.children].slice(1).map((part) => part.textContent).join('|'))";
    let written = || browser.run(&format!("return {lines}"));
    assert_eq!(written(), json!(["Butter Croissant|+3 sent|Undo", "Roll|+20 sent|Undo"]));

    browser.run("location.reload()");
    browser.until(DEADLINE, &total_is("B1", 81));
    browser.until(DEADLINE, &state_is("live"));
    assert_eq!(written(), json!(["Butter Croissant|+3 sent|Undo", "Roll|+20 sent|Undo"]));
    browser.click("#last-orders summary");
    let is_in_sight = |selector: &str| {
        format!(
            "(({{ top, bottom }}) => top >= 0 && bottom <= innerHeight)(
               document.querySelector('{selector}').getBoundingClientRect())"
        )
    };
    browser.until(DEADLINE, &is_in_sight("#till"));
    browser.click("#till li:nth-child(2) button");
    browser.until(DEADLINE, &total_is("B1", 61));
    let undone = json!(["Roll|-20 sent", "Butter Croissant|+3 sent|Undo", "Roll|+20 undone"]);
    browser.until(DEADLINE, &format!("JSON.stringify({lines}) === {}", json!(undone.to_string())));
    browser.run("location.reload()");
    browser.until(DEADLINE, &total_is("B1", 61));
    assert_eq!(written(), undone);
    // No border of a button touches that of its line.
    browser.click("#last-orders summary");
    let apart = browser.run(
        "const button = document.querySelector('#till button');
         const [inner, outer] = [button, button.parentElement].map((part) => part.getBoundingClientRect());
         return Math.min(inner.top - outer.top, outer.bottom - inner.bottom, outer.right - inner.right)",
    );
    assert!(apart.as_f64() >= Some(4.0), "{apart}");
}

#[test]
fn orders_that_wait_over_a_reload_are_linked_with_what_takes_them_back() {
    let Some(browser) = Browser::start() else { return };
    let mut server = shop(2);
    open_board(&browser, &server, "bread");
    browser.until(DEADLINE, &total_is("B1", 61));
    browser.type_into("product-item[data-id=B1] >>> input", &format!("9{ENTER}"));
    browser.until(DEADLINE, &total_is("B1", 70));
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    browser.click("#last-orders summary");
    browser.click("#till button");
    browser.until(DEADLINE, "document.querySelector('#till .order-state').textContent === '-9 waiting'");
    server.restart_on_the_same_ports();
    browser.open("about:blank");
    browser.open(&format!("http://{}/#bread", server.addr()));
    browser.until(3 * DEADLINE, &total_is("B1", 61));
    browser.until(
        DEADLINE,
        "[...document.querySelectorAll('#till .order-state')].map((state) => state.textContent).join() ===
           '-9 sent,+9 undone'",
    );
    assert_eq!(browser.run("return document.querySelectorAll('#till button').length"), 0);
}

#[test]
fn a_large_amount_is_asked_about_once_more() {
    let Some(browser) = Browser::start() else { return };
    let server = shop(5);
    open_board(&browser, &server, "bread");
    browser.until(DEADLINE, &total_is("B1", 61));
    let input = "product-item[data-id=B1] >>> input";
    let asks = |text: &str| format!("{} === {}", part("B1", ".ask"), json!(text));
    browser.type_into(input, &format!("4006381333931{ENTER}"));
    browser.until(DEADLINE, &asks("Order 4,006,381,333,931?"));
    // The same code scanned again is not an answer, and Escape is one.
    browser.run("document.querySelector('product-item[data-id=B1]').shadowRoot.querySelector('input').select()");
    browser.type_into(input, "4006381333931");
    browser.until(DEADLINE, &asks(""));
    browser.type_into(input, ENTER);
    browser.until(DEADLINE, &asks("Order 4,006,381,333,931?"));
    browser.type_into(input, ESCAPE);
    browser.until(DEADLINE, &asks(""));
    let role = "document.querySelector('product-item[data-id=B1]').shadowRoot.querySelector('.ask').role";
    assert_eq!(browser.run(&format!("return {role}")), "alert");
    // 1,000 is not asked about; 1,001 and less than -1,000 are, and a second press answers.
    browser.run("document.querySelector('product-item[data-id=B1]').shadowRoot.querySelector('input').select()");
    browser.type_into(input, &format!("1000{ENTER}"));
    browser.until(DEADLINE, &total_is("B1", 1_061));
    browser.run("document.querySelector('product-item[data-id=B1]').shadowRoot.querySelector('input').select()");
    browser.type_into(input, &format!("1001{ENTER}"));
    browser.until(DEADLINE, &asks("Order 1,001?"));
    browser.type_into(input, ENTER);
    browser.until(DEADLINE, &total_is("B1", 2_062));
    browser.until(DEADLINE, &asks(""));
    browser.run("document.querySelector('product-item[data-id=B1]').shadowRoot.querySelector('input').select()");
    browser.type_into(input, "-2001");
    browser.click("product-item[data-id=B1] >>> .add");
    browser.until(DEADLINE, &asks("Order -2,001?"));
    browser.click("product-item[data-id=B1] >>> .add");
    browser.until(DEADLINE, &total_is("B1", 61));
    let log = server.client().get("/log");
    let amounts: Vec<Value> = log
        .text()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["key"].is_string())
        .map(|line| line["amount"].clone())
        .collect();
    assert_eq!(amounts, [json!(1000), json!(1001), json!(-2001)]);
}

#[test]
fn a_hidden_product_says_so_and_cannot_be_ordered_and_done_stays_in_sight() {
    let Some(browser) = Browser::start() else { return };
    let server = shop(30);
    server.client().request("PATCH", "/bread/B2", &[("Content-Type", "application/json")], b"{\"hidden\":true}");
    open_board(&browser, &server, "bread");
    browser.look(1280, 800, 1, "light");
    browser.run("document.querySelector('#manage').scrollIntoView()");
    browser.click("#manage");
    browser.until(DEADLINE, "document.querySelector('[data-id=B2]')?.hasAttribute('withdrawn')");
    let visible = browser.run(
        "const parts = document.querySelector('[data-id=B2]').shadowRoot.querySelectorAll('form > *');
         return [...parts].filter((part) => part.getClientRects().length > 0).map((part) => part.textContent)",
    );
    assert_eq!(visible, json!(["✎", "Hidden from the board"]));
    for place in ["0", "document.documentElement.scrollHeight"] {
        browser.run(&format!("scrollTo(0, {place})"));
        browser.until(
            DEADLINE,
            "(({ top, bottom }) => top >= 0 && bottom <= innerHeight)(
               document.querySelector('#manage').getBoundingClientRect())",
        );
    }
    browser.run("scrollTo(0, 0)");
    browser.click("product-item[data-id=B2] >>> .edit");
    browser.until(DEADLINE, "document.querySelector('#edit-dialog').open");
}

#[test]
fn the_count_of_the_period_follows_the_total_and_is_exact_over_a_close_and_a_restart() {
    let Some(browser) = Browser::start() else { return };
    let mut server = shop(2);
    open_board(&browser, &server, "bread");
    let period = |count: i64| format!("{} === '{count} in this period'", part("B1", ".period"));
    browser.until(DEADLINE, &total_is("B1", 61));
    browser.until(DEADLINE, &period(0));
    let mut client = server.client();
    for _ in 0..40 {
        client.order("B1", 5);
    }
    browser.until(DEADLINE, &total_is("B1", 261));
    browser.until(DEADLINE, &period(200));
    close(&mut client, 1);
    browser.until(DEADLINE, &period(0));
    client.order("B1", -20);
    browser.until(DEADLINE, &total_is("B1", 241));
    browser.until(DEADLINE, &period(-20));
    // A close while the page has no connection.
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    server.restart_on_the_same_ports();
    let mut client = server.client();
    client.order("B1", 7);
    close(&mut client, 2);
    client.order("B1", 2);
    browser.until(3 * DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("B1", 250));
    browser.until(DEADLINE, &period(2));
    client.order("B1", 1);
    browser.until(DEADLINE, &period(3));
}

#[test]
fn a_change_is_shown_beside_the_count_of_the_period() {
    let Some(browser) = Browser::start() else { return };
    let server = shop(7);
    server.client().order("B1", 131);
    open_board(&browser, &server, "bread");
    for (width, height) in [(1280, 800), (1920, 1080), (390, 844)] {
        browser.look(width, height, 1, "light");
        browser.until(DEADLINE, &format!("innerWidth === {width}"));
        browser.until(DEADLINE, &format!("{}.includes('in this period')", part("B1", ".period")));
        server.client().order("B1", 2);
        let root = "document.querySelector('[data-id=B1]').shadowRoot";
        browser.until(DEADLINE, &format!("{root}.getAnimations().some(({{ currentTime }}) => currentTime > 200)"));
        let seen = browser.run(&format!(
            "const root = {root};
             const box = (part) => {{
               const range = document.createRange();
               range.selectNodeContents(root.querySelector(part));
               return range.getBoundingClientRect();
             }};
             const change = root.querySelector('.change').getBoundingClientRect();
             const [period, card] = [box('.period'), root.querySelector('.card').getBoundingClientRect()];
             const number = root.querySelector('.number').getBoundingClientRect();
             return [change.width > 20, change.right <= period.left + 1, change.left >= card.left,
               period.right <= card.right, change.top >= number.bottom - 1]",
        ));
        assert_eq!(seen, json!([true, true, true, true, true]), "{width}");
    }
}

#[test]
fn a_new_category_is_helped_with_its_letter_and_has_a_readable_address() {
    let Some(browser) = Browser::with_flags(&["--accept-lang=de", "--lang=de"]) else { return };
    let server = shop(2);
    open_board(&browser, &server, "bread");
    browser.click("#manage");
    browser.click("#category-add");
    let prefix = "#category-dialog [name=prefix]";
    assert_eq!(browser.run(&format!("return document.querySelector('{prefix}').placeholder")), "zum Beispiel S");
    fill(&browser, "#category-dialog [name=title]", "Süßes & Salziges");
    let says = |text: &str| format!("document.querySelector('#category-dialog .reason').innerText.includes('{text}')");
    fill(&browser, prefix, "S S");
    browser.click("#category-dialog [type=submit]");
    browser.until(DEADLINE, &says("keine Leerzeichen"));
    fill(&browser, prefix, "D");
    browser.click("#category-dialog [type=submit]");
    browser.until(DEADLINE, &says("etwa D1"));
    fill(&browser, prefix, "S");
    browser.click("#category-dialog [type=submit]");
    browser.until(DEADLINE, "document.title === 'Süßes & Salziges · Ordercast'");
    assert_eq!(browser.run("return location.hash"), "#suesses-salziges");
    // The warning is no prohibition.
    browser.click("#category-add");
    fill(&browser, "#category-dialog [name=title]", "Getränke");
    fill(&browser, prefix, "D");
    browser.click("#category-dialog [type=submit]");
    browser.until(DEADLINE, &says("etwa D1"));
    browser.click("#category-dialog [type=submit]");
    browser.until(DEADLINE, "location.hash === '#getraenke'");
}
