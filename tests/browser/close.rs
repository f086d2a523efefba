//! The reports of periods on the board: closing one in two steps, those of earlier ones, and printing.

use serde_json::json;

use crate::common::periods::{close, report};
use crate::common::{DEADLINE, Server};
use crate::shop::{fill, open_board};
use crate::webdriver::{Browser, ENTER, save};

/// Whether the question about a close can be answered.
pub const ASKS_TO_CLOSE: &str =
    "!document.querySelector('#report-dialog [type=submit]').matches('[hidden], :disabled')";
/// Whether the report is that of a closed period.
pub const IS_CLOSED: &str = "document.querySelector('#report-state').textContent === 'Closed'";
const IS_CURRENT: &str = "document.querySelector('#report-state').textContent === 'Not closed yet'";

#[track_caller]
fn current_number(server: &Server) -> i64 {
    report(&mut server.client(), "current")["number"].as_i64().expect("a number")
}

#[track_caller]
pub fn show_report(browser: &Browser) {
    browser.click("#period-show");
    browser.until(DEADLINE, "document.querySelector('#report-dialog').open");
}

fn title_is(title: &str) -> String {
    format!("document.querySelector('#report-title').textContent === '{title}'")
}

fn sum_is(sum: i64) -> String {
    format!("document.querySelector('#report-sum').textContent === '{sum}'")
}

#[test]
fn a_period_is_closed_only_after_a_second_question() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    server.client().order("A1", 14);
    open_board(&browser, &server);
    show_report(&browser);
    server.client().order("A1", 1);
    let names = browser
        .run("return [...document.querySelectorAll('#report-choices button')].map((button) => button.innerText)");
    assert_eq!(names, json!(["Back", "Print", "Save as CSV", "Close period 1…"]));
    browser.click("#report-close");
    browser.until(DEADLINE, ASKS_TO_CLOSE);
    // The question is put about what is closed, not about what was when the report was opened.
    assert_eq!(browser.run(&format!("return {}", sum_is(15))), true);
    let asked = browser.run(
        "const confirm = document.querySelector('#report-confirm');
         return [document.querySelector('#report-question').innerText, document.activeElement.id,
           [...confirm.querySelectorAll('button')].map((button) => button.innerText)]",
    );
    assert_eq!(asked, json!(["Close period 1 for good?", "report-keep", ["Back", "Close period 1"]]));
    // By keyboard: back, and then the same way again.
    browser.type_into("#report-keep", ENTER);
    browser.until(DEADLINE, "document.activeElement.id === 'report-back'");
    assert_eq!(browser.run(&format!("return {ASKS_TO_CLOSE}")), false);
    assert_eq!(current_number(&server), 1);
    browser.type_into("#report-close", ENTER);
    browser.until(DEADLINE, ASKS_TO_CLOSE);
    assert_eq!(current_number(&server), 1);
    browser.type_into("#report-dialog [type=submit]", ENTER);
    browser.until(DEADLINE, IS_CLOSED);
    assert_eq!(current_number(&server), 2);
    let shown = browser.run(
        "return ['#report-close', '#report-confirm', '#report-previous', '#report-next'].map((part) =>
           document.querySelector(part).checkVisibility())",
    );
    assert_eq!(shown, json!([false, false, false, true]));
    assert_eq!(browser.run(&format!("return {}", title_is("Period 1"))), true);
    assert_eq!(browser.run("return document.activeElement.id"), "report-back");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn the_reports_of_closed_periods_are_paged_through() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let mut client = server.client();
    for (number, amount) in [(1, 5), (2, 7)] {
        client.order("A1", amount);
        close(&mut client, number);
    }
    client.order("A1", 9);
    open_board(&browser, &server);
    show_report(&browser);
    let shows = |title: &str, sum: i64, state: &str| {
        browser.until(DEADLINE, &title_is(title));
        browser.until(DEADLINE, &sum_is(sum));
        assert_eq!(browser.run(&format!("return {state}")), true, "{title}");
    };
    shows("Period 3", 9, IS_CURRENT);
    assert_eq!(browser.run("return document.querySelector('#report-previous').innerText"), "Period 2");
    assert_eq!(browser.run("return document.querySelector('#report-next').hidden"), true);
    browser.click("#report-previous");
    shows("Period 2", 7, IS_CLOSED);
    browser.click("#report-previous");
    shows("Period 1", 5, IS_CLOSED);
    let first = browser.run(
        "return [document.querySelector('#report-previous').hidden, document.querySelector('#report-close').hidden,
           document.querySelector('#report-span').textContent.includes(' to ')]",
    );
    assert_eq!(first, json!([true, true, true]));
    browser.click("#report-next");
    shows("Period 2", 7, IS_CLOSED);
    browser.click("#report-next");
    shows("Period 3", 9, IS_CURRENT);
    browser.click("#report-close");
    browser.until(DEADLINE, ASKS_TO_CLOSE);
}

#[test]
fn a_period_that_a_colleague_has_closed_is_shown_as_closed() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let mut client = server.client();
    client.order("A1", 5);
    open_board(&browser, &server);
    // Before the question, and after it.
    for number in [1_u64, 2] {
        show_report(&browser);
        browser.until(DEADLINE, &title_is(&format!("Period {number}")));
        if number == 1 {
            close(&mut client, number);
            browser.click("#report-close");
        } else {
            browser.click("#report-close");
            browser.until(DEADLINE, ASKS_TO_CLOSE);
            close(&mut client, number);
            browser.click("#report-dialog [type=submit]");
        }
        browser.until(DEADLINE, IS_CLOSED);
        let said = browser.run(
            "return [document.querySelector('#report-title').innerText, document.querySelector('#report-note').innerText,
               document.querySelector('#report-dialog .reason').hidden,
               document.querySelector('#report-close').checkVisibility(),
               document.querySelector('#report-dialog [type=submit]').checkVisibility()]",
        );
        let note = format!("Period {number} had been closed already. This is its report.");
        assert_eq!(said, json!([format!("Period {number}"), note, true, false, false]));
        browser.click("#report-dialog .cancel");
    }
    assert_eq!(current_number(&server), 3);
}

#[test]
fn the_title_of_a_category_is_changed() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server);
    assert_eq!(browser.run("return document.querySelector('#category-edit').checkVisibility()"), false);
    browser.click("#manage");
    browser.until(DEADLINE, "document.querySelector('#category-edit').checkVisibility()");
    browser.click("#category-edit");
    assert_eq!(browser.run("return document.querySelector('#category-dialog [name=title]').value"), "Electronics");
    fill(&browser, "#category-dialog [name=title]", "Household");
    browser.click("#category-dialog [type=submit]");
    browser.until(DEADLINE, "document.title === 'Household · Ordercast'");
    browser.until(DEADLINE, "!document.querySelector('#category-dialog').open");
    // A new category needs its letter again.
    browser.click("#category-add");
    assert_eq!(browser.run("return document.querySelector('#category-dialog [name=prefix]').checkVisibility()"), true);
    assert_eq!(browser.run("return document.querySelector('#category-dialog [name=title]').value"), "");
    let listed = server.client().get("/categories").json();
    assert_eq!(listed[0]["title"], "Household");
}

/// A catalogue whose names have long words.
fn catalog(products: usize) -> String {
    let product = |number: usize| json!({ "id": format!("B{number}"), "name": format!("Baguette no. {number}") });
    let products: Vec<_> = (1..=products).map(product).collect();
    json!({
        "bakery": { "prefix": "B", "title": "Bakery", "products": products },
        "apparel": { "prefix": "P", "title": "Work clothes", "products": [
            { "id": "P2", "name": "Zipper" },
            { "id": "P1", "name": "Arbeitsschutzhandschuhe extra large" },
        ] },
    })
    .to_string()
}

/// The words in the report that are on more than one line, and how far the report is from the edges of the page.
const BROKEN_WORDS: &str = "
    const printout = document.querySelector('#printout');
    const texts = document.createTreeWalker(printout, NodeFilter.SHOW_TEXT);
    const broken = [];
    let count = 0;
    while (texts.nextNode()) {
      const text = texts.currentNode;
      for (const { 0: word, index } of text.data.matchAll(/\\S+/g)) {
        const range = document.createRange();
        range.setStart(text, index);
        range.setEnd(text, index + word.length);
        const tops = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
        if (tops.size > 1) broken.push(word);
        count += tops.size;
      }
    }
    return { broken, count, top: printout.getBoundingClientRect().top, width: document.documentElement.scrollWidth }";

#[test]
fn a_printed_report_begins_at_the_top_and_breaks_no_word() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::builder().catalog(&catalog(4)).start();
    let mut client = server.client();
    for (id, amount) in [("B4", 4), ("B1", 1), ("P1", 12_345), ("P2", 2)] {
        client.order(id, amount);
    }
    browser.open(&format!("http://{}/#bakery", server.addr()));
    browser.until(DEADLINE, "document.querySelectorAll('product-item').length === 4");
    show_report(&browser);
    // The order of the lists, and not that of the alphabet, with the sum of each category.
    let lines = browser.run(
        "return [...document.querySelectorAll('#report-lines tbody tr')].map((line) =>
           [...line.cells].map((cell) => cell.textContent))",
    );
    assert_eq!(
        lines,
        json!([
            ["Work clothes", "12,347"],
            ["Zipper", "P2", "2"],
            ["Arbeitsschutzhandschuhe extra large", "P1", "12,345"],
            ["Bakery", "5"],
            ["Baguette no. 1", "B1", "1"],
            ["Baguette no. 4", "B4", "4"],
        ])
    );
    for (width, height) in [(210.0, 297.0), (80.0, 200.0)] {
        let pdf = browser.print(width, height);
        assert_eq!(pages(&pdf), 1, "{width} mm");
        save(&format!("report-{width}.pdf"), &pdf);
    }
    // The browser has told the page that it prints.
    let printed = browser.run("return document.querySelector('#printout').textContent");
    assert!(printed.as_str().is_some_and(|it| it.contains("Not closed yetPrinted ")), "{printed}");
    // 80 mm without margins of 3 mm, and A4 without margins of 10 mm, at 96 pixels an inch.
    for width in [279, 718] {
        browser.emulate("print", width);
        browser.until(DEADLINE, &format!("innerWidth === {width}"));
        let found = browser.run(BROKEN_WORDS);
        assert_eq!((&found["broken"], &found["top"]), (&json!([]), &json!(0)), "{width}: {found}");
        assert!(found["count"].as_i64().is_some_and(|count| count > 30), "{found}");
        assert!(found["width"].as_i64().is_some_and(|page| page <= width.into()), "{width}: {found}");
        let shown = browser.run(
            "return ['#printout', '#report-dialog', 'main', 'footer', '.bar']
               .filter((part) => document.querySelector(part).checkVisibility())",
        );
        assert_eq!(shown, json!(["#printout"]));
    }
    browser.emulate("screen", 1_000);
    browser.click("#report-dialog .cancel");
    browser.emulate("print", 1_000);
    // Without a report, the board itself is printed.
    assert_eq!(browser.run("return document.querySelector('main').checkVisibility()"), true);
}

#[test]
fn a_long_report_is_printed_on_as_many_pages_as_it_needs() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::builder().catalog(&catalog(200)).start();
    let mut client = server.client();
    for number in 1..=200 {
        client.order(&format!("B{number}"), number);
    }
    browser.open(&format!("http://{}/#apparel", server.addr()));
    browser.until(DEADLINE, "document.querySelectorAll('product-item').length === 2");
    show_report(&browser);
    browser.until(DEADLINE, "document.querySelectorAll('#report-lines tbody tr').length === 201");
    let pdf = browser.print(210.0, 297.0);
    save("report-long.pdf", &pdf);
    // 201 lines of at least 5 mm on pages of 277 mm, and not of more than 12 mm.
    assert!((4..=9).contains(&pages(&pdf)), "{} pages", pages(&pdf));
}

/// The pages of a PDF, whose objects have a type each (PDF 1.7, section 7.7.3.3).
fn pages(pdf: &[u8]) -> usize {
    let text = String::from_utf8_lossy(pdf);
    text.matches("/Type /Page\n").count()
}
