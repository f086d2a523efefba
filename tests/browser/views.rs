//! Every view of the board, of a shop in the middle of its day, on the screens that it is made for.
//!
//! The pictures of the documentation are made here (`make pictures`): `ORDERCAST_SCREENSHOTS=DIR` writes them.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::common::{DEADLINE, Server, TempDir};
use crate::wall::FAULTS;
use crate::webdriver::{Browser, ENTER};

const MANAGER: &str = "manager-0123456789";

/// How long the shop has been open, in minutes.
const OPEN_MINUTES: u64 = 245;

/// The hour at which the pictures are taken, in the time zone that the browser is given.
const HOUR: u64 = 11;

const LAPTOP: Screen = Screen { width: 1280, height: 800, scale: 1, scheme: "light" };
const DARK: Screen = Screen { scheme: "dark", ..LAPTOP };
const TABLET: Screen = Screen { width: 820, height: 1180, scale: 1, scheme: "light" };
const PHONE: Screen = Screen { width: 390, height: 844, scale: 2, scheme: "light" };
const TELEVISIONS: [Screen; 3] = [
    Screen { width: 1366, height: 768, scale: 1, scheme: "dark" },
    Screen { width: 1920, height: 1080, scale: 1, scheme: "dark" },
    Screen { width: 3840, height: 2160, scale: 1, scheme: "dark" },
];

/// The products: id, name, price, description, total before today, orders in a hundred minutes.
const BREAD: [Product; 6] = [
    ("B1", "Sourdough Loaf", "€4.80", "Wheat and rye, baked at six.", 1_204, 38),
    ("B2", "Baguette", "€2.40", "From the stone oven, every two hours.", 2_871, 57),
    ("B3", "Butter Croissant", "€2.10", "Twenty-seven layers.", 3_390, 74),
    ("B4", "Pretzel", "€1.60", "With coarse salt.", 1_958, 46),
    ("B5", "Cinnamon Bun", "€2.90", "Warm until noon.", 877, 29),
    ("B6", "Rye Bread", "€5.20", "Keeps for a week.", 640, 12),
];
const DRINKS: [Product; 4] = [
    ("D1", "Espresso", "€2.20", "Our own roast.", 2_140, 41),
    ("D2", "Cappuccino", "€3.40", "With cow's or oat milk.", 4_015, 66),
    ("D3", "Hot Chocolate", "€3.90", "From real chocolate.", 512, 15),
    ("D4", "Orange Juice", "€3.50", "Pressed when you order it.", 733, 21),
];
const LUNCH: [Product; 2] = [
    ("L1", "Tomato Soup", "€6.50", "With a slice of sourdough.", 318, 18),
    ("L2", "Cheese Toastie", "€5.90", "Mountain cheese and chives.", 402, 24),
];

type Product = (&'static str, &'static str, &'static str, &'static str, i64, u64);

#[derive(Clone, Copy)]
struct Screen {
    width: u32,
    height: u32,
    scale: u32,
    scheme: &'static str,
}

/// A bakery that has been open for four hours, and the folder of its token file.
fn bakery() -> (Server, TempDir) {
    let products = |products: &[Product]| {
        let product = |&(id, name, rrp, info, total, _): &Product| json!({ "id": id, "name": name, "rrp": rrp, "info": info, "total": total });
        products.iter().map(product).collect::<Vec<_>>()
    };
    let catalog = json!({
        "bread": { "prefix": "B", "title": "Bread & Rolls", "products": products(&BREAD) },
        "drinks": { "prefix": "D", "title": "Drinks", "products": products(&DRINKS) },
        "lunch": { "prefix": "L", "title": "Lunch", "products": products(&LUNCH) },
    });
    let folder = TempDir::new();
    let tokens = folder.write("admin", MANAGER);
    let mut server = Server::builder().catalog(&catalog.to_string()).arg("--admin-token-file").arg(&tokens).start();
    let orders = orders();
    let ages: Vec<u64> = orders.iter().map(|(age, _)| *age).collect();
    let bodies: Vec<Value> = orders.into_iter().map(|(_, order)| order).collect();
    for batch in bodies.chunks(1_000) {
        assert_eq!(server.client().post("/orders", json!(batch).to_string()).status, 200);
    }
    assert!(server.terminate().success());
    age(&server, &ages);
    server.restart();
    (server, folder)
}

/// The orders of the morning, each with its age in minutes, the oldest first. They are the same in every run.
fn orders() -> Vec<(u64, Value)> {
    let mut orders = Vec::new();
    for age in (1..OPEN_MINUTES).rev() {
        for (at, (id, .., share)) in BREAD.iter().chain(&DRINKS).chain(&LUNCH).enumerate() {
            // A number without a visible pattern, from the minute and the product.
            let mixed = (age * 64 + at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let number = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20;
            // The orders get more and fewer within an hour.
            let share = share * (14 - (age % 60).abs_diff(30) / 3) / 9;
            if number % 100 < share {
                orders.push((age, json!({ "id": id, "amount": 1 + number / 100 % 4 * (number / 400 % 2) })));
            }
        }
    }
    orders
}

/// Gives the orders of a server that has ended their times: the n-th is `ages[n]` minutes old.
fn age(server: &Server, ages: &[u64]) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_millis() as i64;
    let mut file = rusqlite::Connection::open(server.data().join("ordercast.sqlite3")).expect("a data file");
    let change = file.transaction().expect("nobody else uses the file");
    for (at, age) in ages.iter().enumerate() {
        let row = (now - *age as i64 * 60_000, at as i64 + 1);
        assert_eq!(change.execute("UPDATE orders SET at_ms = ?1 WHERE seq = ?2", row).expect("an order"), 1);
    }
    change
        .execute_batch(
            "UPDATE products SET ordered_ms = (SELECT max(at_ms) FROM orders WHERE product = products.row);
         UPDATE periods SET opened_ms = (SELECT min(at_ms) FROM orders) - 300000;",
        )
        .expect("tables");
    change.commit().expect("the file can be written to");
}

/// Opens a view in a browser whose clock shows a time in the shop's day.
#[track_caller]
fn open(browser: &Browser, server: &Server, address: &str) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_secs();
    // The signs of these names are inverted: Etc/GMT-2 is two hours ahead of UTC.
    let zone = match HOUR as i64 - (now / 3_600 % 24) as i64 {
        ahead @ 0.. => format!("Etc/GMT-{ahead}"),
        behind => format!("Etc/GMT+{}", -behind),
    };
    browser.devtools("Emulation.setTimezoneOverride", &json!({ "timezoneId": zone }));
    browser.open("about:blank");
    browser.open(&format!("http://{}/{address}", server.addr()));
}

#[track_caller]
fn open_bread(browser: &Browser, server: &Server) {
    open(browser, server, "#bread");
    browser.until(DEADLINE, &state_is("live"));
    let hours = "[...document.querySelectorAll('product-item')].map((item) => item.shadowRoot.querySelector('.hour'))";
    browser.until(DEADLINE, &format!("{hours}.length === 6 && {hours}.every((hour) => hour.textContent !== '')"));
    browser.until(DEADLINE, &format!("{hours}.every((hour) => /^\\+\\d+ in the last hour$/.test(hour.textContent))"));
}

/// Gives the page a screen of this size and waits until it is laid out for it.
#[track_caller]
fn look(browser: &Browser, Screen { width, height, scale, scheme }: Screen) {
    browser.look(width, height, scale, scheme);
    browser.until(DEADLINE, &format!("innerWidth === {width} && innerHeight === {height}"));
    browser.until(DEADLINE, "document.documentElement.scrollWidth <= innerWidth");
    browser.run(
        "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))",
    );
}

/// Takes a picture of a change: orders a product, and stops the change in its middle for as long as it takes.
#[track_caller]
fn picture_of_a_change(browser: &Browser, server: &Server, (id, amount): (&str, i64), name: &str) {
    server.client().order(id, amount);
    let changes = format!("document.querySelector('[data-id={id}]').shadowRoot.getAnimations()");
    browser.until(
        DEADLINE,
        &format!("{changes}.map((change) => {{ change.pause(); change.currentTime = 500; }}).length === 2"),
    );
    let said = browser.run(&format!(
        "return document.querySelector('[data-id={id}]').shadowRoot.querySelector('.change').textContent"
    ));
    assert_eq!(said, format!("+{amount}"));
    browser.picture(name);
    browser.run(&format!("for (const change of {changes}) change.finish()"));
    browser.until(DEADLINE, &format!("{changes}.length === 0"));
}

/// What is wrong with the texts of the page: those that are cut, and buttons whose text has several lines.
const CUT_TEXTS: &str = "
    const roots = [document, ...[...document.querySelectorAll('product-item')].map((item) => item.shadowRoot)];
    const selector = 'button, summary, label, a, h2, .facts, .status, .hour, .last, .unit, #state, p';
    const all = roots.flatMap((root) => [...root.querySelectorAll(selector)]);
    const shown = all.filter((element) => element.checkVisibility() && element.textContent.trim() !== '');
    const lines = (element) => {
      const range = document.createRange();
      range.selectNodeContents(element);
      return new Set([...range.getClientRects()].map(({ bottom }) => Math.round(bottom / 6))).size;
    };
    return shown
      .filter((element) => (element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 1 &&
        !element.matches('.visually-hidden')) || (element.matches('button, summary') && lines(element) > 1))
      .map((element) => `${element.className || element.id || element.tagName}: ${element.textContent}`)";

#[test]
fn a_shop_sees_its_day_on_every_screen() {
    let Some(browser) = Browser::start() else { return };
    let (server, _folder) = bakery();
    open_bread(&browser, &server);
    for (name, screen) in [("light", LAPTOP), ("dark", DARK), ("tablet", TABLET), ("phone", PHONE)] {
        look(&browser, screen);
        assert_eq!(browser.run(CUT_TEXTS), json!([]), "{name}");
        picture_of_a_change(&browser, &server, ("B1", 2), name);
    }
    open(&browser, &server, "");
    let sums = "[...document.querySelectorAll('#overview .sum')].map((sum) => sum.textContent.replace(/\\D/g, ''))";
    browser.until(DEADLINE, &format!("{sums}.length === 3 && {sums}.every((sum) => sum !== '')"));
    for (name, screen) in [("overview", LAPTOP), ("overview-phone", PHONE)] {
        look(&browser, screen);
        browser.picture(name);
    }
    let totals = server.totals();
    let sum =
        |letter: &str| totals.iter().filter(|(id, _)| id.starts_with(letter)).map(|(_, total)| total).sum::<i64>();
    browser.until(DEADLINE, &format!("{sums}.join(' ') === '{} {} {}'", sum("B"), sum("D"), sum("L")));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_wall_shows_a_shop_on_each_television_without_faults() {
    let Some(browser) = Browser::start() else { return };
    let (server, _folder) = bakery();
    open(&browser, &server, "#bread?wall");
    browser.until(DEADLINE, &state_is("live"));
    for screen in TELEVISIONS {
        look(&browser, screen);
        let seen = browser.run(FAULTS);
        assert_eq!(seen, json!({ "shown": ["B1", "B2", "B3", "B4", "B5", "B6"], "faults": [] }), "{}", screen.width);
        picture_of_a_change(&browser, &server, ("B3", 4), &format!("wall-{}", screen.width));
    }
}

#[test]
fn a_till_lists_its_orders_and_says_what_became_of_each() {
    let Some(browser) = Browser::start() else { return };
    let (mut server, _folder) = bakery();
    open_bread(&browser, &server);
    look(&browser, LAPTOP);
    for (id, amount) in [("B4", "2"), ("B3", "6"), ("B1", "1")] {
        browser.type_into(&format!("product-item[data-id={id}] >>> input"), amount);
        browser.click(&format!("product-item[data-id={id}] >>> .add"));
    }
    browser.click("#last-orders > summary");
    let sent = "[...document.querySelectorAll('#till [data-state=sent]')].map((state) => state.textContent)";
    browser.until(DEADLINE, &format!("{sent}.join() === '+1 sent,+6 sent,+2 sent'"));
    browser.run("document.querySelector('footer').scrollIntoView({ block: 'end' })");
    let changes = "[...document.querySelectorAll('product-item')].flatMap((item) => item.shadowRoot.getAnimations())";
    browser.until(DEADLINE, &format!("{changes}.length === 0"));
    browser.picture("till");
    assert_eq!(browser.run(CUT_TEXTS), json!([]));
    look(&browser, PHONE);
    browser.run("document.querySelector('#last-orders').scrollIntoView()");
    browser.picture("till-phone");

    look(&browser, LAPTOP);
    browser.click("#last-orders > summary");
    browser.run("scrollTo(0, 0)");
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    browser.picture("away");
    browser.click("product-item[data-id=B3] >>> .add");
    browser.until(DEADLINE, "document.querySelector('#waiting').textContent.startsWith('1 order is waiting')");
    let waiting = "document.querySelector('[data-id=B3]').shadowRoot.querySelector('.sent').textContent";
    browser.until(DEADLINE, &format!("{waiting} === '+1 waiting'"));
    browser.picture("waiting");
    look(&browser, PHONE);
    browser.run("scrollTo(0, 0)");
    browser.picture("waiting-phone");
    assert_eq!(browser.run(CUT_TEXTS), json!([]));
}

#[test]
fn the_shop_is_managed_and_its_day_reported() {
    let Some(browser) = Browser::start() else { return };
    let (server, _folder) = bakery();
    open_bread(&browser, &server);
    look(&browser, LAPTOP);
    browser.click("#manage");
    browser.click("product-item[data-id=B6] >>> .edit");
    browser.run("document.querySelector('#edit-dialog [name=hidden]').checked = true");
    browser.picture("edit");
    browser.click("#edit-dialog [type=submit]");
    browser.until(DEADLINE, "document.querySelector('#token').open");
    browser.picture("token");
    browser.type_into("#token-input", &format!("{MANAGER}{ENTER}"));
    browser.until(DEADLINE, "document.querySelector('[data-id=B6]').hasAttribute('withdrawn')");
    browser.until(DEADLINE, "!document.querySelector('#edit-dialog').open");
    // The focus is back on the pencil; the picture is without its ring.
    browser.click(".brand");
    look(&browser, LAPTOP);
    browser.picture("managing");
    assert_eq!(browser.run(CUT_TEXTS), json!([]));
    look(&browser, PHONE);
    browser.picture("managing-phone");
    look(&browser, LAPTOP);

    browser.click("#period-show");
    browser.until(DEADLINE, "document.querySelectorAll('#report-lines tbody tr:has(td)').length === 12");
    let sum: i64 = server.client().get("/periods/current").json()["products"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|product| product["amount"].as_i64())
        .sum();
    browser.until(DEADLINE, &format!("document.querySelector('#report-sum').textContent.replace(',', '') === '{sum}'"));
    for (name, screen) in [("report", LAPTOP), ("report-phone", PHONE)] {
        look(&browser, screen);
        let place = browser.run("return document.querySelector('#report-dialog').getBoundingClientRect().toJSON()");
        assert!(
            place["top"].as_f64() >= Some(0.0) && place["bottom"].as_f64() <= Some(f64::from(screen.height)),
            "{place}"
        );
        browser.picture(name);
    }
}

#[test]
fn no_text_of_any_language_is_cut_on_a_laptop_a_tablet_or_a_phone() {
    for language in ["en", "de", "fr", "es"] {
        let flags = [&format!("--accept-lang={language}")[..], &format!("--lang={language}")];
        let Some(browser) = Browser::with_flags(&flags) else { return };
        let (server, _folder) = bakery();
        open(&browser, &server, "#bread");
        browser.until(DEADLINE, &total_is("B6", server.total("B6")).replace("','", "/\\D/g"));
        browser.until(DEADLINE, &state_is("live"));
        for (name, screen) in [("laptop", LAPTOP), ("tablet", TABLET), ("phone", PHONE)] {
            look(&browser, screen);
            assert_eq!(browser.run(CUT_TEXTS), json!([]), "{language} on a {name}");
            browser.picture(&format!("{language}-{name}"));
        }
    }
}
