//! The board on a wall: what fits the screen, pages that turn, and a screen that is left alone for days.

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::common::periods::close;
use crate::common::{DEADLINE, Server};
use crate::webdriver::Browser;

pub const SCREENS: [(u32, u32); 3] = [(1366, 768), (1920, 1080), (3840, 2160)];
pub const PORTRAIT: (u32, u32) = (1080, 1920);

/// Names as bakeries, cafés, canteens and other shops have them, of one to eight words.
#[rustfmt::skip]
const NAMES: [&str; 48] = [
    "Baguette", "Black Forest Gateau", "Wholemeal Spelt Bread with Pumpkin Seeds", "Ham and Cheese Sandwich",
    "White Chocolate Muffin", "Eierschecke", "Espresso", "Käsespätzle mit Röstzwiebeln",
    "Schwarzwälder Kirschtorte", "Butterbrezel", "Fish and Chips with Tartar Sauce", "Croissant",
    "Cinnamon Roll", "Rhabarberschorle", "Pain au Chocolat", "Franzbrötchen", "Currywurst mit Pommes Frites",
    "Soup of the Day", "Latte Macchiato with Oat Milk", "Vegetable Lasagne", "Belegtes Brötchen mit Mett",
    "Sachertorte", "Hot Chocolate with Whipped Cream", "Chicken Caesar Salad Wrap",
    "Kartoffelsuppe mit Würstchen", "Roggenmischbrot", "Sunflower Seed Roll", "Spinach and Feta Quiche",
    "Mineralwasser still", "Rote Grütze mit Vanillesoße", "Blueberry Cheesecake Slice",
    "Wiener Schnitzel mit Kartoffelsalat", "Iced Caramel Macchiato", "Carrot and Walnut Cake", "Bienenstich",
    "Jasmine Green Tea", "Vacuum Cleaner", "Leaf Blower", "Kettle", "Espresso Machine", "Electric Toothbrush",
    "Extension Cable 5 m", "Jeans", "Knäckebröd mit Sonnenblumenkernen", "Apfelschorle 0,5 l",
    "Donaudampfschifffahrt", "Tee", "Two Scoops of Ice Cream with Chocolate Sauce",
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
      // What leaves one of these boxes is not drawn. A number that has just changed is drawn larger, with its box.
      const within = (text, part, what) => {
        const { left, top, width } = part.getBoundingClientRect();
        const scale = width / part.offsetWidth;
        const right = left + scale * (part.clientWidth + 2 * part.clientLeft);
        const client = { left, top, right, bottom: top + scale * (part.clientHeight + 2 * part.clientTop) };
        if (!isInside(text, client)) faults.push(`${what} of ${item.dataset.id} is cut`);
      };
      const inShadow = (part) => item.shadowRoot.querySelector(part);
      const nameRange = document.createRange();
      nameRange.selectNodeContents(name);
      for (const rect of nameRange.getClientRects()) within(rect, name, `the name ${name.textContent}`);
      within(digits, inShadow('.number'), 'the number');
      for (const [part, outer] of [['.hour', '.facts'], ['.change', '.change']]) {
        if (inShadow(part).textContent !== '') within(box(inShadow(part)), inShadow(outer), part);
      }
      if (!texts.every((text) => isInside(text, cell))) faults.push(`a text leaves ${item.dataset.id}`);
      const isOver = texts.some((text, at) => texts.slice(0, at).some((other) => overlap(text, other)));
      if (isOver) faults.push(`texts of ${item.dataset.id} overlap`);
      if (name.scrollHeight > name.clientHeight + 1 || name.scrollWidth > name.clientWidth + 1) {
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

/// A category of so many products. Different counts begin with different names, so that each name meets many cells.
fn category(prefix: &str, count: usize) -> Value {
    let product = |number: usize| {
        let total = [0, 7, 13, 125, 4_810, 123_456][number % 6];
        let name = NAMES[(number + 7 * count) % NAMES.len()];
        json!({ "id": format!("{prefix}{number}"), "name": name, "rrp": "9.90", "info": "x", "total": total })
    };
    json!({ "prefix": prefix, "products": (1..=count).map(product).collect::<Vec<Value>>() })
}

/// Orders of each of these products: the line about the last hour is there.
#[track_caller]
fn order_all(server: &Server, prefix: &str, count: usize) {
    let orders: Vec<Value> =
        (1..=count).map(|number| json!({ "id": format!("{prefix}{number}"), "amount": number })).collect();
    assert_eq!(server.client().post("/orders", json!(orders).to_string()).status, 200);
}

/// A server with this number of products in a category.
pub fn shop(count: usize) -> Server {
    let catalog = json!({ "electronics": category("A", count) });
    let server = Server::builder().catalog(&catalog.to_string()).start();
    order_all(&server, "A", count);
    server
}

#[track_caller]
pub fn open_wall(browser: &Browser, server: &Server, category: &str) {
    open_wall_with(browser, server, category, "");
}

#[track_caller]
fn open_wall_with(browser: &Browser, server: &Server, category: &str, options: &str) {
    browser.open("about:blank");
    browser.open(&format!("http://{}/#{category}?wall{options}", server.addr()));
    browser.until(DEADLINE, &state_is("live"));
}

/// The text of a part of a product.
fn part(id: &str, part: &str) -> String {
    format!("document.querySelector('product-item[data-id={id}]').shadowRoot.querySelector('{part}').textContent")
}

pub const HAS_HOURS: &str = "[...document.querySelectorAll('product-item')].every((item) =>
    item.shadowRoot.querySelector('.hour').textContent !== '' || !item.isInSight)";

#[track_caller]
fn look(browser: &Browser, screen: (u32, u32)) {
    look_in(browser, screen, "dark");
}

/// Waits until the page has a screen of this size and has arranged its products for it, in light or dark mode.
#[track_caller]
pub fn look_in(browser: &Browser, (width, height): (u32, u32), scheme: &str) {
    browser.look(width, height, 1, scheme);
    browser.until(DEADLINE, &format!("innerWidth === {width} && innerHeight === {height}"));
    browser.until(DEADLINE, IS_ARRANGED);
    browser.run(
        "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))",
    );
}

/// Whether the columns take the width that the board has now.
const IS_ARRANGED: &str = "((board) => {
    const number = (name) => parseFloat(board.style.getPropertyValue(name));
    const gap = parseFloat(getComputedStyle(board).rowGap);
    const columns = number('--columns');
    return Math.abs(columns * (number('--cell-width') + gap) - gap - board.clientWidth) < 2;
  })(document.querySelector('#board'))";

#[test]
fn any_number_of_products_up_to_48_fits_each_screen_without_faults() {
    let Some(browser) = Browser::start() else { return };
    let counts: Vec<usize> = (1..=12).chain([15, 16, 20, 24, 25, 30, 35, 36, 42, 48]).collect();
    let catalog: serde_json::Map<String, Value> =
        counts.iter().map(|&count| (format!("of-{count}"), category(&format!("P{count}-"), count))).collect();
    let server = Server::builder().catalog(&json!(catalog).to_string()).start();
    for &count in &counts {
        order_all(&server, &format!("P{count}-"), count);
        open_wall(&browser, &server, &format!("of-{count}"));
        browser.until(DEADLINE, HAS_HOURS);
        for screen in SCREENS {
            look(&browser, screen);
            let seen = browser.run(FAULTS);
            assert_eq!(seen["faults"], json!([]), "{count} products on {screen:?}");
            assert_eq!(seen["shown"].as_array().map(Vec::len), Some(count), "{screen:?}");
        }
        if [1, 2, 5, 7, 8, 12, 24, 36, 48].contains(&count) {
            look(&browser, PORTRAIT);
            let seen = browser.run(FAULTS);
            assert_eq!(seen["faults"], json!([]), "{count} products on {PORTRAIT:?}");
            assert_eq!(seen["shown"].as_array().map(Vec::len), Some(count), "{PORTRAIT:?}");
        }
    }
}

/// What is wrong with a product on the board of a till: texts that leave their product or the box that cuts them.
const BOARD_FAULTS: &str = r"
    const faults = [];
    const check = (item, text, part) => {
      if (text.textContent === '') return;
      const range = document.createRange();
      range.selectNodeContents(text);
      const [inner, outer] = [range.getBoundingClientRect(), part.getBoundingClientRect()];
      const isInside = inner.left >= outer.left - 1 && inner.right <= outer.right + 1;
      if (!isInside) faults.push(`${item.dataset.id}: ${text.textContent}`);
    };
    for (const item of document.querySelectorAll('product-item')) {
      const part = (selector) => item.shadowRoot.querySelector(selector);
      check(item, item.querySelector('[slot=orders]'), part('.number'));
      check(item, part('.word'), part('.unit'));
      check(item, part('.period'), part('.unit'));
      check(item, part('.hour'), part('.facts'));
      check(item, part('.change'), part('.change'));
    }
    return faults;
";

#[test]
fn the_largest_numbers_fit_the_wall_and_the_board() {
    const MOST: i64 = (1 << 53) - 1;
    let Some(browser) = Browser::start() else { return };
    let catalog: serde_json::Map<String, Value> =
        [1, 6, 24].map(|count| (format!("of-{count}"), category(&format!("P{count}-"), count))).into_iter().collect();
    let server = Server::builder().catalog(&json!(catalog).to_string()).start();
    for count in [1, 6, 24] {
        open_wall(&browser, &server, &format!("of-{count}"));
        let first = format!("P{count}-1");
        let id = |number: usize| format!("P{count}-{number}");
        for number in 1..=count {
            let total = server.client().total(&id(number));
            // As many digits as there are, a number that a scanner could have put into the field, and a negative one.
            let amount = [MOST - total, 4_006_381_333_939, -MOST][number % 3];
            server.client().order(&id(number), amount);
            browser.until(DEADLINE, &total_is(&id(number), total + amount));
        }
        browser.until(DEADLINE, &format!("document.querySelector('product-item[data-id={first}]').lastHour !== 0"));
        browser.until(DEADLINE, HAS_HOURS);
        for screen in [SCREENS[0], SCREENS[1], SCREENS[2], PORTRAIT] {
            look(&browser, screen);
            assert_eq!(browser.run(FAULTS)["faults"], json!([]), "{count} products on {screen:?}");
        }
        browser.open(&format!("http://{}/#of-{count}", server.addr()));
        browser.until(DEADLINE, "document.body.dataset.view === 'board'");
        browser.until(DEADLINE, HAS_HOURS);
        let has_period = "item.shadowRoot.querySelector('.period').textContent !== ''";
        browser.until(
            DEADLINE,
            &format!("[...document.querySelectorAll('product-item')].every((item) => !item.isInSight || {has_period})"),
        );
        server.client().order(&first, 4_006_381_333_939);
        browser.until(DEADLINE, &format!("{} !== ''", part(&first, ".change")));
        for screen in [(320, 640), SCREENS[0], SCREENS[1]] {
            look(&browser, screen);
            assert_eq!(browser.run(BOARD_FAULTS), json!([]), "{count} products on a board of {screen:?}");
        }
    }
}

#[test]
fn the_bar_of_a_wall_is_one_line_and_an_hour_is_drawn_on_a_line_below_the_number() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    server.client().order("A1", 4);
    open_wall(&browser, &server, "electronics");
    browser.until(DEADLINE, &format!("{} !== ''", part("A1", ".hour")));
    for screen in [SCREENS[0], SCREENS[1], SCREENS[2], PORTRAIT] {
        look(&browser, screen);
        let seen = browser.run(
            "const product = (id) => document.querySelector(`product-item[data-id=${id}]`);
             const part = (id, selector) => product(id).shadowRoot.querySelector(selector);
             const boxes = ['svg', '.hour', '.number'].map((name) => part('A1', name).getBoundingClientRect());
             const [chart, hour, number] = boxes;
             const state = document.createRange();
             state.selectNodeContents(document.querySelector('#state'));
             return {
               board: document.querySelector('#board').clientHeight / innerHeight,
               state: state.getBoundingClientRect().width,
               line: part('A1', 'path').getBBox().width,
               charts: ['A1', 'A2'].map((id) => part(id, 'svg').getClientRects().length),
               off: Math.abs((chart.left + hour.right) / 2 - (number.left + number.right) / 2) / number.width,
             }",
        );
        let value = |name: &str| seen[name].as_f64().expect("a number");
        assert!(value("board") > 0.93, "{screen:?}: {seen}");
        assert_eq!(value("state"), 0.0, "{screen:?}");
        assert_eq!((value("line"), &seen["charts"]), (60.0, &json!([1, 0])), "{screen:?}");
        assert!(value("off") < 0.01, "{screen:?}: {seen}");
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
fn a_category_without_products_has_no_turn_unless_there_is_no_other() {
    let Some(browser) = Browser::start() else { return };
    let catalog = json!({ "tools": category("T", 1) }).to_string();
    let server = Server::builder().catalog(&catalog).start();
    let mut client = server.client();
    let json = [("Content-Type", "application/json")];
    let mut change = |method: &str, path: &str, body: &[u8]| client.request(method, path, &json, body).status;
    assert_eq!(change("PUT", "/empty", br#"{"title":"Empty","prefix":"E"}"#), 201);
    assert_eq!(change("PATCH", "/tools/T1", br#"{"hidden":true}"#), 200);
    open_wall(&browser, &server, "");
    browser.until(DEADLINE, "document.querySelector('#hint').innerText === 'No products here yet.'");
    let brand_is = |title: &str| format!("document.querySelector('#brand').textContent === '{title}'");
    assert_eq!(browser.run(&format!("return {}", brand_is("Empty"))), true);
    assert_eq!(change("PATCH", "/tools/T1", br#"{"hidden":false}"#), 200);
    browser.until(2 * DEADLINE, &brand_is("Tools"));
    // A page is shown for 10 s.
    browser.run(
        "window.begun = Date.now();
         window.brands = [];
         const brand = document.querySelector('#brand');
         new MutationObserver(() => brands.push(brand.textContent)).observe(brand, { childList: true })",
    );
    browser.until(2 * DEADLINE, "Date.now() - window.begun > 11_000");
    assert_eq!(browser.run("return brands.filter((title) => title !== 'Tools')"), json!([]));
    assert_eq!(change("POST", "/empty", br#"{"name":"Rake"}"#), 200);
    browser.until(3 * DEADLINE, &brand_is("Empty"));
    browser.until(DEADLINE, &total_is("E1", 0));
}

#[test]
fn a_wall_of_all_categories_stays_on_the_present_one_while_the_server_is_away() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    open_wall(&browser, &server, "");
    browser.until(DEADLINE, &total_is("A1", 3));
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    // A page is shown for 10 s.
    browser.run("window.lost = Date.now()");
    browser.until(2 * DEADLINE, "Date.now() - window.lost > 11_000");
    assert_eq!(browser.run("return document.querySelector('#brand').textContent"), "Electronics");
    assert_eq!(browser.run(&format!("return {}", total_is("A1", 3))), true);
    server.restart_on_the_same_ports();
    browser.until(3 * DEADLINE, "document.querySelector('#brand').textContent === 'Confectionery'");
    browser.until(DEADLINE, &total_is("B1", 101));
}

#[test]
fn the_wall_follows_a_server_that_restarts_and_stays_on_its_view() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    open_wall(&browser, &server, "electronics");
    browser.until(DEADLINE, &total_is("A1", 3));
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    // A wall takes no orders, and says nothing about them.
    let state = browser.run("return document.querySelector('#state').textContent");
    let state = state.as_str().unwrap_or_default();
    assert!(state.starts_with("Connection lost. Totals as of ") && state.matches(". ").count() == 1, "{state}");
    server.restart_on_the_same_ports();
    server.client().order("A1", 4);
    browser.until(3 * DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 7));
    assert_eq!(browser.run("return document.body.dataset.view"), "wall");
}

#[test]
fn a_wall_of_the_period_begins_at_0_after_a_close_and_survives_a_restart() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    let mut client = server.client();
    client.order("A1", 4);
    open_wall_with(&browser, &server, "electronics", "&period");
    browser.until(DEADLINE, &total_is("A1", 4));
    browser.until(DEADLINE, &total_is("A2", 0));
    assert_eq!(browser.run("return document.querySelector('#period-only').innerText"), "this period");
    let hour = part("A1", ".hour");
    browser.until(DEADLINE, &format!("{hour} === '+4 in the last hour'"));
    close(&mut client, 1);
    browser.until(DEADLINE, &total_is("A1", 0));
    client.order("A1", 2);
    browser.until(DEADLINE, &total_is("A1", 2));
    browser.until(DEADLINE, &format!("{hour} === '+6 in the last hour'"));
    // A new product has a count too.
    client.post("/electronics", json!({ "name": "Kettle", "rrp": "19.99" }).to_string());
    browser.until(DEADLINE, &total_is("A3", 0));
    // A close that the wall has missed.
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    server.restart_on_the_same_ports();
    let mut client = server.client();
    close(&mut client, 2);
    client.order("A2", 9);
    browser.until(3 * DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A2", 9));
    browser.until(DEADLINE, &total_is("A1", 0));
    // The same page shows the totals again, and the period of all categories in turn.
    browser.run("location.hash = '#electronics?wall'");
    browser.until(DEADLINE, &total_is("A1", 3 + 4 + 2));
    browser.until(DEADLINE, "document.querySelector('#period-only').innerText === ''");
    browser.run("location.hash = '#?wall&period'");
    browser.until(DEADLINE, &total_is("A2", 9));
    browser.until(3 * DEADLINE, "document.querySelector('#brand').textContent === 'Confectionery'");
    browser.until(DEADLINE, &total_is("B1", 0));
    browser.until(DEADLINE, &state_is("live"));
}
