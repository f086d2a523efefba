//! The board on a wall: what fits the screen, pages that turn, and a screen that is left alone for days.

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::common::{DEADLINE, Server};
use crate::webdriver::Browser;

const SCREENS: [(u32, u32); 3] = [(1366, 768), (1920, 1080), (3840, 2160)];

/// Names as shops have them, the longest words and names among them.
const NAMES: [&str; 12] = [
    "Vacuum Cleaner",
    "Leaf Blower",
    "Kettle",
    "Espresso Machine",
    "Electric Toothbrush",
    "Extension Cable 5 m",
    "Jeans",
    "Knäckebröd mit Sonnenblumenkernen",
    "Apfelschorle 0,5 l",
    "Donaudampfschifffahrt",
    "Tee",
    "Two Scoops of Ice Cream with Chocolate Sauce",
];

/// What is wrong with the boxes on the screen: products that overlap or leave the screen, texts that leave their product,
/// are cut, broken inside a word or lie over each other; and a page that scrolls.
pub const FAULTS: &str = r"
    const faults = [];
    const box = (node) => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return range.getBoundingClientRect();
    };
    const isInside = (inner, outer) =>
      inner.left >= outer.left - 1 && inner.right <= outer.right + 1 &&
      inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
    const overlap = (one, other) =>
      one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 1 && other.top < one.bottom - 1;
    const items = [...document.querySelectorAll('product-item')].filter((item) => item.getClientRects().length > 0);
    const boxes = items.map((item) => item.getBoundingClientRect());
    const screen = { left: 0, top: 0, right: innerWidth, bottom: innerHeight };
    boxes.forEach((box, at) => {
      const name = items[at].dataset.id;
      if (!isInside(box, screen)) faults.push(`${name} is outside the screen`);
      if (boxes.slice(0, at).some((other) => overlap(box, other))) faults.push(`${name} overlaps another product`);
    });
    for (const item of items) {
      const cell = item.getBoundingClientRect();
      const name = item.querySelector('[slot=name]');
      const [nameBox, numberBox] = [box(name), box(item.querySelector('[slot=orders]'))];
      // The line of a number is higher than its digits, above and below.
      const beyond = numberBox.height * 0.2;
      const digits = { ...numberBox.toJSON(), top: numberBox.top + beyond, bottom: numberBox.bottom - beyond };
      const texts = [nameBox, digits];
      for (const part of ['.word', '.hour']) {
        const element = item.shadowRoot.querySelector(part);
        if (element.getClientRects().length > 0 && element.textContent !== '') texts.push(box(element));
      }
      if (!texts.every((text) => isInside(text, cell))) faults.push(`a text leaves ${item.dataset.id}`);
      const isOver = texts.some((text, at) => texts.slice(0, at).some((other) => overlap(text, other)));
      if (isOver) faults.push(`texts of ${item.dataset.id} overlap`);
      if (name.scrollHeight > name.clientHeight + 2 || name.scrollWidth > name.clientWidth + 1) {
        faults.push(`the name ${name.textContent} is cut`);
      }
      const node = name.firstChild;
      let end = 0;
      for (const word of node.data.split(/[\s-]+/)) {
        const start = node.data.indexOf(word, end);
        end = start + word.length;
        const range = document.createRange();
        range.setStart(node, start);
        range.setEnd(node, end);
        if (range.getClientRects().length > 1) faults.push(`the word ${word} is broken`);
      }
    }
    const { scrollWidth, scrollHeight } = document.documentElement;
    if (scrollWidth > innerWidth || scrollHeight > innerHeight) faults.push(`it scrolls: ${scrollWidth} x ${scrollHeight}`);
    return { shown: items.map((item) => item.dataset.id), faults };
";

/// A server with this number of products in a category.
fn shop(count: usize) -> Server {
    let product = |number: usize| {
        let total = [0, 7, 13, 125, 4_810, 123_456][number % 6];
        json!({ "id": format!("A{number}"), "name": NAMES[number % NAMES.len()], "rrp": "9.90", "info": "x", "total": total })
    };
    let products: Vec<Value> = (1..=count).map(product).collect();
    let catalog = json!({ "electronics": { "prefix": "A", "products": products } });
    let server = Server::builder().catalog(&catalog.to_string()).start();
    // The line about the last hour is there.
    let orders: Vec<Value> =
        (1..=count).map(|number| json!({ "id": format!("A{number}"), "amount": number })).collect();
    assert_eq!(server.client().post("/orders", json!(orders).to_string()).status, 200);
    server
}

#[track_caller]
fn open_wall(browser: &Browser, server: &Server, category: &str) {
    browser.open("about:blank");
    browser.open(&format!("http://{}/#{category}?wall", server.addr()));
    browser.until(DEADLINE, &state_is("live"));
}

const HAS_HOURS: &str = "[...document.querySelectorAll('product-item')].every((item) =>
    item.shadowRoot.querySelector('.hour').textContent !== '' || !item.isInSight)";

/// Waits until the page has a screen of this size and has arranged its products for it.
#[track_caller]
fn look(browser: &Browser, (width, height): (u32, u32)) {
    browser.look(width, height, 1, "dark");
    browser.until(DEADLINE, &format!("innerWidth === {width} && innerHeight === {height}"));
    browser.run(
        "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))",
    );
}

#[test]
fn every_number_of_products_up_to_48_fits_each_screen_without_faults() {
    let Some(browser) = Browser::start() else { return };
    for count in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 20, 23, 24, 27, 30, 31, 35, 36, 40, 41, 45, 47, 48]
    {
        let server = shop(count);
        open_wall(&browser, &server, "electronics");
        browser.until(DEADLINE, HAS_HOURS);
        for screen in SCREENS {
            look(&browser, screen);
            let seen = browser.run(FAULTS);
            assert_eq!(seen["faults"], json!([]), "{count} products on {screen:?}");
            assert_eq!(seen["shown"].as_array().map(Vec::len), Some(count), "{screen:?}");
        }
    }
}

#[test]
fn more_products_than_fit_are_on_pages_that_turn_and_show_each_of_them() {
    let Some(browser) = Browser::start() else { return };
    let server = shop(200);
    open_wall(&browser, &server, "electronics");
    look(&browser, SCREENS[0]);
    let pages = browser.run("return Number(document.querySelector('#pages').textContent.split('/')[1])");
    let pages = pages.as_u64().expect("the bar says how many pages there are");
    assert!((2..=10).contains(&pages), "{pages} pages");
    let mut shown = Vec::new();
    for page in 1..=pages {
        browser.until(2 * DEADLINE, &format!("document.querySelector('#pages').textContent === '{page}/{pages}'"));
        let seen = browser.run(FAULTS);
        assert_eq!(seen["faults"], json!([]), "page {page}");
        shown.extend(seen["shown"].as_array().cloned().unwrap_or_default());
    }
    let all: Vec<Value> = (1..=200).map(|number| json!(format!("A{number}"))).collect();
    assert_eq!(shown, all);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn all_categories_take_turns_and_no_form_is_shown() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_wall(&browser, &server, "");
    for title in ["Electronics", "Confectionery", "Electronics"] {
        browser.until(3 * DEADLINE, &format!("document.querySelector('#brand').textContent === '{title}'"));
        browser.until(DEADLINE, &state_is("live"));
    }
    let controls = browser.run(
        "const all = [document, ...[...document.querySelectorAll('product-item')].map((item) => item.shadowRoot)]
           .flatMap((root) => [...root.querySelectorAll('input, select, button, summary, a')]);
         return all.filter((control) => control.getClientRects().length > 0).map((control) => control.outerHTML)",
    );
    assert_eq!(controls, json!([]));
}

#[test]
fn the_wall_follows_a_server_that_restarts_and_stays_on_its_view() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    open_wall(&browser, &server, "electronics");
    browser.until(DEADLINE, &total_is("A1", 3));
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    server.restart_on_the_same_ports();
    server.client().order("A1", 4);
    browser.until(3 * DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 7));
    assert_eq!(browser.run("return document.body.dataset.view"), "wall");
}
