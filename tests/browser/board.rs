//! The board in a real browser on a real server. Needs chromium and chromedriver (`make deps`).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{DEADLINE, Server};
use crate::webdriver::Browser;

/// The longest delay that a visitor does not notice.
const AT_ONCE: Duration = Duration::from_secs(1);

/// More than the longest wait between two attempts of the page.
const RECOVERY: Duration = Duration::from_secs(25);

/// Opens the board of a category and waits until it is live.
#[track_caller]
fn open_board(browser: &Browser, server: &Server, category: &str) {
    browser.open(&format!("http://{}/#{category}", server.addr()));
    browser.until(DEADLINE, &state_is("live"));
}

pub fn state_is(state: &str) -> String {
    format!("document.querySelector('#state').dataset.state === '{state}'")
}

pub fn total_is(id: &str, total: i64) -> String {
    // Without the separators between thousands.
    format!(
        "document.querySelector('product-item[data-id={id}] > [slot=orders]')?.textContent.replaceAll(',', '') === '{total}'"
    )
}

#[track_caller]
fn ids(browser: &Browser) -> Value {
    browser.run("return [...document.querySelectorAll('product-item')].map((item) => item.dataset.id)")
}

#[test]
fn the_list_and_the_page_have_the_titles_of_categories_and_follow_a_change() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let mut client = server.client();
    let json = [("Content-Type", "application/json")];
    let mut retitle = |title: &str| {
        let body = format!("{{\"title\":\"{title}\"}}");
        assert_eq!(client.request("PUT", "/electronics", &json, body.as_bytes()).status, 200);
    };
    retitle("Strom & Geräte");
    open_board(&browser, &server, "electronics");
    browser.until(DEADLINE, "document.title === 'Strom & Geräte · Ordercast'");
    let titles = browser.run("return [...document.querySelector('#category').options].map((option) => option.text)");
    assert_eq!(titles, json!(["Choose a category", "Strom & Geräte", "Confectionery"]));
    retitle("Devices");
    browser.run("location.reload()");
    browser.until(DEADLINE, "document.title === 'Devices · Ordercast'");
}

#[test]
fn choosing_a_category_shows_its_products_and_their_totals() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    browser.open(&format!("http://{}/", server.addr()));
    assert_eq!(browser.run("return document.querySelector('#state').dataset.state"), "idle");

    browser.until(DEADLINE, "document.querySelector('#category').options.length === 3");
    browser.click("#category > option[value=electronics]");
    browser.until(DEADLINE, &total_is("A1", 3));
    browser.until(DEADLINE, &total_is("A2", 7));
    browser.until(DEADLINE, &state_is("live"));
    let slots = browser.run(
        "const item = document.querySelector('product-item[data-id=A1]');
         return ['name', 'rrp', 'info', 'orders'].map((slot) => item.querySelector(`[slot=${slot}]`).textContent)",
    );
    let listed = &server.client().get("/electronics").json()[0];
    assert_eq!(slots, json!([listed["name"], listed["rrp"], listed["info"], "3"]));

    // The address keeps the category over a reload.
    assert_eq!(browser.run("return location.hash"), "#electronics");
    browser.run("location.reload()");
    browser.until(DEADLINE, &total_is("A2", 7));
    // The content security policy blocked nothing, and no file was missing.
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn an_address_with_an_unknown_category_says_so_in_plain_words_and_offers_the_list() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    for (name, shown) in [("elektronics", "elektronics".to_owned()), (&"x".repeat(3_000), "x".repeat(40) + "…")] {
        browser.open(&format!("http://{}/#{name}", server.addr()));
        browser.until(DEADLINE, "!document.querySelector('#problem').hidden");
        let said = browser.run("return document.querySelector('#problem-text').textContent");
        assert_eq!(said, format!("There is no category “{shown}”. Please choose one from the list."));
        browser.until(DEADLINE, "document.querySelector('#category').options.length === 3");
        assert_eq!(browser.run("return document.activeElement.id"), "category");
        // The text goes with the choice.
        browser.click("#category > option[value=electronics]");
        browser.until(DEADLINE, &total_is("A1", 3));
        browser.until(DEADLINE, "document.querySelector('#problem').hidden");
    }
}

#[test]
fn a_product_without_a_price_shows_no_empty_tag() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    assert_eq!(server.client().post("/confectionery", r#"{"name":"Sample"}"#).status, 200);
    open_board(&browser, &server, "confectionery");
    browser.until(DEADLINE, &total_is("B2", 0));
    let widths = browser.run(
        "return ['B1', 'B2'].map((id) =>
           document.querySelector(`product-item[data-id=${id}] > [slot=rrp]`).getBoundingClientRect().width)",
    );
    assert!(widths[0].as_f64().is_some_and(|width| width > 10.0), "{widths}");
    assert_eq!(widths[1], 0);
}

#[test]
fn an_order_shows_within_a_second() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server, "electronics");
    browser.until(DEADLINE, &total_is("A1", 3));
    for (amount, total) in [(10, 13), (10, 23), (-25, -2)] {
        server.client().order("A1", amount);
        browser.until(AT_ONCE, &total_is("A1", total));
    }
    browser.until(AT_ONCE, &total_is("A2", 7));
}

#[test]
fn the_button_adds_an_order() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server, "electronics");
    browser.click("product-item[data-id=A1] >>> .add");
    browser.until(DEADLINE, &total_is("A1", 4));
    // Typing replaces the 1.
    browser.type_into("product-item[data-id=A1] >>> input", "15");
    browser.click("product-item[data-id=A1] >>> .add");
    browser.until(DEADLINE, &total_is("A1", 19));

    // A rejection is shown with the server's own text.
    browser.type_into("product-item[data-id=A1] >>> input", "10000000000000000");
    browser.click("product-item[data-id=A1] >>> .add");
    // A large amount is asked about.
    browser.click("product-item[data-id=A1] >>> .add");
    browser.until(DEADLINE, "!document.querySelector('#problem').hidden");
    let refused = server.client().post("/orders/A1", r#"{"amount":10000000000000000}"#);
    let said = browser.run("return document.querySelector('#problem-text').textContent");
    assert_eq!(said, format!("Vacuum Cleaner: {}", refused.problem(422)));
    browser.until(DEADLINE, &total_is("A1", 19));
}

#[test]
fn the_form_adds_a_product_to_every_board() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server, "electronics");
    let first = browser.window();
    let second = browser.new_window();
    browser.switch_to(&second);
    open_board(&browser, &server, "electronics");

    browser.click("#new-product > summary");
    browser.type_into("[name=name]", "<img src=x onerror=alert(1)>");
    browser.type_into("[name=rrp]", "12.50");
    browser.type_into("[name=info]", "Hangs on the wall & <b>shines</b>");
    browser.click("#product-form button");
    for window in [&second, &first] {
        browser.switch_to(window);
        browser.until(DEADLINE, &total_is("A3", 0));
        // Markup is shown as text.
        let name = "return document.querySelector('[data-id=A3] > [slot=name]').innerHTML";
        assert_eq!(browser.run(name), "&lt;img src=x onerror=alert(1)&gt;");
    }
    server.client().order("A3", 2);
    browser.until(DEADLINE, &total_is("A3", 2));
}

#[test]
fn two_windows_show_the_same_totals() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let windows = [browser.window(), browser.new_window()];
    for window in &windows {
        browser.switch_to(window);
        open_board(&browser, &server, "electronics");
    }
    browser.click("product-item[data-id=A2] >>> .add");
    server.client().order("A1", 10);
    for window in &windows {
        browser.switch_to(window);
        browser.until(DEADLINE, &total_is("A1", 13));
        browser.until(DEADLINE, &total_is("A2", 8));
    }
}

#[test]
fn a_lost_server_is_said_and_recovered_from() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    open_board(&browser, &server, "electronics");
    server.client().order("A1", 10);
    browser.until(DEADLINE, &total_is("A1", 13));

    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    let words = browser.run("return document.querySelector('#state').textContent");
    assert!(words.to_string().contains("Connection lost"), "{words}");
    // The numbers get the colour of what matters less.
    let colour = |part: &str| {
        let item = "document.querySelector('product-item[data-id=A1]').shadowRoot";
        format!("getComputedStyle({item}.querySelector('{part}')).color")
    };
    browser.until(DEADLINE, &format!("{} === {}", colour(".number"), colour(".word")));
    browser.until(AT_ONCE, &total_is("A1", 13));

    server.restart_on_the_same_ports();
    // The new snapshot contains the orders of the time without a connection.
    server.client().order("A2", 5);
    browser.until(RECOVERY, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 13));
    browser.until(DEADLINE, &total_is("A2", 12));
    browser.until(DEADLINE, &format!("{} !== {}", colour(".number"), colour(".word")));
    server.client().order("A1", 10);
    browser.until(AT_ONCE, &total_is("A1", 23));
}

#[test]
fn a_silently_dead_connection_is_noticed() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server, "electronics");
    server.signal("STOP");
    // The event of a browser whose machine wakes up; the page then tests its connection.
    browser.run("dispatchEvent(new Event('online'))");
    browser.until(RECOVERY, &state_is("lost"));
    server.signal("CONT");
    browser.until(RECOVERY, &state_is("live"));
    server.client().order("A1", 10);
    browser.until(AT_ONCE, &total_is("A1", 13));
}

#[test]
fn switching_category_leaves_nothing_of_the_former_behind() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server, "electronics");
    browser.run(
        "window.requests = [];
         new PerformanceObserver((list) => requests.push(...list.getEntries().map(({ name }) => name)))
           .observe({ type: 'resource' });",
    );
    // Orders of the former category keep coming during the changes.
    let poster = thread::spawn({
        let mut client = server.client();
        move || (0..400).for_each(|_| client.order("A1", 1))
    });
    for category in ["confectionery", "electronics", "confectionery"].repeat(5) {
        browser.click(&format!("#category > option[value={category}]"));
    }
    browser.until(DEADLINE, &total_is("B1", 101));
    poster.join().expect("every order is taken");
    browser.until(DEADLINE, &state_is("live"));
    assert_eq!(ids(&browser), json!(["B1"]));
    server.client().order("B1", 1);
    browser.until(AT_ONCE, &total_is("B1", 102));
    // Late totals of the former category cause no request. A change loads the list, the categories and the rates, or less
    // if the next change comes first.
    let requests = browser.run("return requests");
    assert!(requests.as_array().is_some_and(|all| all.len() <= 45), "{requests}");

    browser.run("history.back()");
    browser.until(DEADLINE, &total_is("A1", 403));
    assert_eq!(ids(&browser), json!(["A1", "A2"]));
    browser.run("location.hash = '#hats'");
    browser.until(DEADLINE, &state_is("idle"));
    let said = browser.run("return document.querySelector('#problem-text').textContent");
    assert_eq!(said, "There is no category “hats”. Please choose one from the list.");
    assert_eq!(ids(&browser), json!([]));
}

#[test]
fn a_flood_of_orders_does_not_hold_up_the_page() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open_board(&browser, &server, "electronics");
    browser.run(
        "window.longest = 0;
         let last = performance.now();
         setInterval(() => {
           const now = performance.now();
           longest = Math.max(longest, now - last);
           last = now;
         }, 10);",
    );
    let posters = ["A1", "A2"].repeat(2).into_iter().map(|id| {
        let mut client = server.client();
        thread::spawn(move || (0..1000).for_each(|_| client.order(id, 1)))
    });
    for poster in posters.collect::<Vec<_>>() {
        poster.join().expect("every order is taken");
    }
    browser.until(DEADLINE, &total_is("A1", 2003));
    browser.until(DEADLINE, &total_is("A2", 2007));
    let longest = browser.run("return longest");
    // Generous, because posters, server and browser share the machine. A page that writes every total takes far longer.
    assert!(longest.as_f64().is_some_and(|longest| longest < 2000.0), "{longest} ms");
}

/// A web server with an empty page, for as long as the test runs.
fn somebody_elses_page() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it has an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A browser opens connections that it may never use. None of them may block another.
            thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let _ = lines.find(String::is_empty);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\
                      Connection: close\r\n\r\n<!doctype html>",
                );
            });
        }
    });
    addr
}

/// Tries what a page can do with the server at an address: read the products, post an order, receive the feed.
#[track_caller]
fn what_the_page_can_do(browser: &Browser, server: &str) -> Value {
    let script = "
        const [server] = arguments;
        const tried = (promise) => promise.then((value) => value, () => 'refused');
        const products = fetch(`http://${server}/electronics`)
          .then((response) => response.json()).then((products) => products[0].id);
        const order = fetch(`http://${server}/orders/A1`, {
          method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{\"amount\":10}',
        }).then((response) => response.text());
        const feed = new Promise((resolve, reject) => {
          const socket = new WebSocket(`ws://${server}/orders/confectionery`);
          socket.onmessage = ({ data }) => resolve(data);
          socket.onclose = reject;
        });
        return Promise.all([products, order, feed].map(tried));";
    browser.run_with(script, &json!([server]))
}

#[test]
fn a_page_from_another_port_is_served_and_one_from_another_host_is_not() {
    let flags = ["--host-resolver-rules=MAP evil.example 127.0.0.1"];
    let Some(browser) = Browser::with_flags(&flags) else { return };
    let server = Server::start();
    let (port, page) = (server.addr().port(), somebody_elses_page().port());

    browser.open(&format!("http://localhost:{page}/"));
    let did = what_the_page_can_do(&browser, &format!("localhost:{port}"));
    assert_eq!(did, json!(["A1", "{\"ok\":true}", "{\"id\":\"B1\",\"total\":101}"]));

    browser.open(&format!("http://evil.example:{page}/"));
    for name in ["localhost", "127.0.0.1", "evil.example"] {
        let did = what_the_page_can_do(&browser, &format!("{name}:{port}"));
        assert_eq!(did, json!(["refused", "refused", "refused"]), "{name}");
    }
    // A POST that needs no preflight must not be counted either, although the page cannot read the answer.
    browser.run_with(
        "return fetch(`http://localhost:${arguments[0]}/orders/A1`, {
           method: 'POST', mode: 'no-cors', body: '{\"amount\":10}',
         }).then(() => null, () => null)",
        &json!([port]),
    );
    // DNS rebinding: with a foreign name for this machine, the browser takes the page and the server for one origin.
    browser.open(&format!("http://evil.example:{port}/"));
    assert_eq!(browser.run("return document.querySelector('#category')"), Value::Null);
    let did = what_the_page_can_do(&browser, &format!("evil.example:{port}"));
    assert_eq!(did[2], "refused");
    let totals = server.client().get("/orders/electronics").json();
    assert_eq!(totals[0], json!({ "id": "A1", "total": 13 }));
}

#[test]
fn the_numbers_of_a_row_are_level_whatever_their_descriptions_say() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let long = "Every station you forgot, and some that nobody has ever known. ".repeat(4);
    for info in ["", long.as_str(), "Short."] {
        let product = json!({ "name": "Radio", "rrp": "79.90", "info": info });
        server.client().post("/electronics", product.to_string());
    }
    open_board(&browser, &server, "electronics");
    browser.until(DEADLINE, &total_is("A5", 0));
    // In a high cell a description has two lines, in a low one only one.
    for (width, height, dense) in [(1280, 800, true), (1280, 1500, false)] {
        browser.look(width, height, 1, "light");
        let item = "document.querySelector('product-item')";
        browser.until(DEADLINE, &format!("{item}.hasAttribute('dense') === {dense}"));
        browser.until(
            DEADLINE,
            "(() => {
               const places = [...document.querySelectorAll('product-item')].map((item) => {
                 const { top, bottom } = item.shadowRoot.querySelector('.count').getBoundingClientRect();
                 return [item.offsetTop, (top + bottom) / 2];
               });
               const rows = Map.groupBy(places, ([row]) => row);
               return rows.size < places.length && [...rows.values()].every((row) => {
                 const middles = row.map(([, middle]) => middle);
                 return Math.max(...middles) - Math.min(...middles) < 1;
               });
             })()",
        );
    }
}

#[test]
fn the_board_fits_a_phone_and_a_television() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    let mut client = server.client();
    for (name, rrp, info) in [
        ("Desk Lamp", "34.50", "Warm light, cool price."),
        ("Kettle", "42.00", "Boils a litre in two minutes."),
        ("Radio", "79.90", "Every station you forgot."),
        ("Fan Heater", "55.00", "For the other half of the year."),
    ] {
        let product = json!({ "name": name, "rrp": rrp, "info": info });
        client.post("/electronics", product.to_string());
    }
    let amounts = [("A1", 125), ("A2", 77), ("A3", 212), ("A4", 48), ("A5", 9), ("A6", 31)];
    amounts.iter().for_each(|(id, amount)| client.order(id, *amount));
    open_board(&browser, &server, "electronics");
    browser.until(DEADLINE, &total_is("A6", 31));

    for (name, width, height, scale, scheme) in [
        ("light", 1280, 800, 1, "light"),
        ("dark", 1280, 800, 1, "dark"),
        ("phone", 390, 844, 2, "light"),
        ("television", 1920, 1080, 1, "dark"),
    ] {
        browser.look(width, height, scale, scheme);
        browser.until(DEADLINE, &format!("innerWidth === {width}"));
        browser.until(DEADLINE, "document.documentElement.scrollWidth <= innerWidth");
        if name != "phone" {
            // A board on a wall cannot be scrolled.
            browser.until(DEADLINE, "document.documentElement.scrollHeight <= innerHeight");
        }
        // The picture shows a change.
        server.client().order("A1", 2);
        let pulses = "document.querySelector('[data-id=A1]').shadowRoot.getAnimations()";
        browser.until(DEADLINE, &format!("{pulses}.some((pulse) => pulse.currentTime > 200)"));
    }
}
