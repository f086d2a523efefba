//! Servers whose totals may be old: an edge whose source does not answer says so, and the board, the wall and the client
//! module show it, until the source is back.

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::common::{DEADLINE, Server};
use crate::wall::{FAULTS, HAS_HOURS, PORTRAIT, SCREENS, look_in, open_wall, shop};
use crate::webdriver::Browser;

#[track_caller]
fn edge_of(server: &Server) -> Server {
    Server::builder().follow(server.addr()).start()
}

#[track_caller]
fn open(browser: &Browser, server: &Server, hash: &str) {
    browser.open("about:blank");
    browser.open(&format!("http://{}/{hash}", server.addr()));
}

/// The colour of a part of a product.
fn colour(part: &str) -> String {
    format!("getComputedStyle(document.querySelector('[data-id=A1]').shadowRoot.querySelector('{part}')).color")
}

const STATE: &str = "return document.querySelector('#state').textContent";

#[test]
fn a_board_of_an_edge_says_that_totals_may_be_old_while_the_source_is_away() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    let edge = edge_of(&server);
    open(&browser, &edge, "#electronics");
    browser.until(DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 3));
    server.kill();
    browser.until(DEADLINE, &state_is("stale"));
    let first = browser.run(STATE);
    assert!(first.as_str().is_some_and(|text| text.starts_with("Totals may be old (as of ")), "{first}");
    // The totals are grey, and stay.
    browser.until(DEADLINE, &format!("{} === {}", colour(".number"), colour(".word")));
    browser.until(DEADLINE, &total_is("A1", 3));
    browser.picture("stale");
    // The status that comes every 15 s, and totals that come again with another category, leave the time as it was.
    browser.run("window.begun = Date.now(); location.hash = '#confectionery'");
    browser.until(DEADLINE, &total_is("B1", 101));
    browser.until(DEADLINE, &state_is("stale"));
    browser.until(2 * DEADLINE, "Date.now() - window.begun > 16_000");
    assert_eq!(browser.run(STATE), first);
    // A page that is opened now does not know how old they are.
    open(&browser, &edge, "#electronics");
    browser.until(DEADLINE, &state_is("stale"));
    browser.until(DEADLINE, &total_is("A1", 3));
    assert_eq!(browser.run(STATE), "Totals may be old.");
    // An order waits until the source is back.
    browser.click("product-item[data-id=A1] >>> .add");
    browser.until(DEADLINE, "document.querySelector('#waiting').textContent.startsWith('1 order is')");
    server.restart_on_the_same_ports();
    browser.until(DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 4));
    browser.until(DEADLINE, "document.querySelector('#waiting').textContent === ''");
    browser.until(DEADLINE, &format!("{} !== {}", colour(".number"), colour(".word")));
    assert_eq!(browser.run(STATE), "Live");
    // An edge that ends now had a time at which its totals were current.
    drop(edge);
    browser.until(DEADLINE, &state_is("lost"));
    let text = browser.run(STATE);
    assert!(text.as_str().is_some_and(|text| text.starts_with("Connection lost. Totals as of ")), "{text}");
}

#[test]
fn a_wall_of_an_edge_goes_on_turning_and_says_in_each_view_that_totals_may_be_old() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    let edge = edge_of(&server);
    open(&browser, &edge, "#?wall&period");
    browser.until(DEADLINE, &total_is("A1", 0));
    browser.until(DEADLINE, &state_is("live"));
    server.kill();
    browser.until(DEADLINE, &state_is("stale"));
    for title in ["Confectionery", "Electronics"] {
        browser.until(2 * DEADLINE, &format!("document.querySelector('#brand').textContent === '{title}'"));
        browser.until(DEADLINE, &state_is("stale"));
    }
    browser.until(DEADLINE, &total_is("A1", 0));
    assert_eq!(browser.run(FAULTS)["faults"], json!([]));
    server.restart_on_the_same_ports();
    server.client().order("A1", 2);
    browser.until(DEADLINE, &state_is("live"));
    browser.until(DEADLINE, &total_is("A1", 2));
}

/// Where products and numbers are on the screen: their edges in pixels.
const PLACES: &str = "
    const boxes = [...document.querySelectorAll('product-item, product-item > [slot=orders]')];
    return boxes.map((element) => element.getBoundingClientRect())
      .flatMap(({ left, top, right, bottom }) => [left, top, right, bottom])";

/// The edges of the band, its contrast to the page (WCAG 2.2, relative luminance), and the fill of a number.
const BAND: &str = "
    const numbers = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const luminance = (element) => {
      const [red, green, blue] = numbers(getComputedStyle(element).backgroundColor).map(linear);
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const bar = document.querySelector('.bar');
    const [dark, light] = [bar, document.documentElement].map(luminance).sort((one, other) => one - other);
    const { left, top, right } = bar.getBoundingClientRect();
    return {
      edges: [left, top, innerWidth - right],
      contrast: (light + 0.05) / (dark + 0.05),
      fill: getComputedStyle(document.querySelector('[slot=orders]')).webkitTextFillColor,
    };";

/// The greatest distance between places, in pixels.
#[track_caller]
fn furthest(now: &Value, before: &Value) -> f64 {
    let numbers = |places: &Value| -> Vec<f64> {
        places.as_array().expect("a list").iter().map(|edge| edge.as_f64().expect("a number")).collect()
    };
    let (now, before) = (numbers(now), numbers(before));
    assert_eq!(now.len(), before.len());
    now.iter().zip(&before).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max)
}

#[test]
fn old_numbers_on_a_wall_are_hollow_below_a_band_of_the_whole_width_and_keep_their_places() {
    let Some(browser) = Browser::start() else { return };
    let looks = [SCREENS[1], (1280, 800), PORTRAIT]
        .into_iter()
        .flat_map(|screen| ["light", "dark"].map(|scheme| (screen, scheme)));
    for count in [1, 48] {
        let mut server = shop(count);
        open_wall(&browser, &server, "electronics");
        browser.until(DEADLINE, HAS_HOURS);
        let seen = |(screen, scheme)| {
            look_in(&browser, screen, scheme);
            (browser.run(PLACES), browser.run(BAND))
        };
        let live: Vec<(Value, Value)> = looks.clone().map(seen).collect();
        server.kill();
        browser.until(DEADLINE, &state_is("lost"));
        for (look, (places, former)) in looks.clone().zip(live) {
            let (now, band) = seen(look);
            assert!(furthest(&now, &places) <= 1.0, "{count} products on {look:?}: {now}, before {places}");
            assert_eq!(browser.run(FAULTS)["faults"], json!([]), "{count} products on {look:?}");
            assert_eq!(band["edges"], json!([0, 0, 0]), "{look:?}");
            assert!(band["contrast"].as_f64().is_some_and(|contrast| contrast >= 4.5), "{look:?}: {band}");
            assert_eq!(band["fill"], "rgba(0, 0, 0, 0)", "{look:?}");
            assert_ne!(former["fill"], band["fill"], "{look:?}");
            let ((width, height), scheme) = look;
            browser.picture(&format!("wall-lost-{count}-{width}x{height}-{scheme}"));
        }
    }
}

#[test]
fn a_feed_of_the_client_module_tells_a_stale_server_from_a_live_one() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    let body = br#"{"prefix":"E"}"#;
    let json = [("Content-Type", "application/json")];
    assert_eq!(server.client().request("PUT", "/empty", &json, body).status, 201);
    let edge = edge_of(&server);
    open(&browser, &edge, "");
    browser.run(
        "return import('/ordercast.js').then(({ Ordercast }) => {
           const shop = new Ordercast();
           window.follow = (category, resumes) => {
             const states = [];
             const feed = shop.feed({ resumes, onState: (state) => states.push(state) });
             feed.watch(category);
             return { feed, states };
           };
           window.feeds = [follow('electronics', false), follow('electronics', true), follow('empty', false)];
         })",
    );
    let all_said = |states: &str| format!("feeds.every(({{ states }}) => states.join() === '{states}')");
    browser.until(DEADLINE, &all_said("connecting,live"));
    server.kill();
    browser.until(DEADLINE, &all_said("connecting,live,stale"));
    browser.run("window.dates = feeds.map(({ feed }) => feed.currentDate.getTime())");
    // A feed that begins now is never live.
    browser.run("feeds.push(follow('electronics', false), follow('electronics', true), follow('empty', false))");
    browser.until(DEADLINE, "feeds.slice(3).every(({ states }) => states.join() === 'connecting,stale')");
    assert_eq!(browser.run("return feeds.slice(3).map(({ feed }) => feed.currentDate)"), json!([null, null, null]));
    assert_eq!(browser.run("return dates.every((date, at) => date === feeds[at].feed.currentDate.getTime())"), true);
    server.restart_on_the_same_ports();
    browser.until(DEADLINE, "feeds.every(({ states }) => states.join().endsWith(',stale,live'))");
    assert_eq!(browser.run("return feeds.every(({ feed }) => Date.now() - feed.currentDate < 60_000)"), true);
}
