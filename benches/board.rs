//! The board under load in a real browser: frames a second beside an empty page, long tasks, the heap, and the time to the
//! first paint. Needs chromium and chromedriver (`make deps`).
//!
//! `cargo bench --bench board -- [--products N] [--rates N,…] [--seconds S]`. Fails if the board differs from the server in
//! the end, or writes to the console.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/browser/webdriver.rs"]
#[expect(dead_code, reason = "the driver of the tests, of which this needs a part")]
mod webdriver;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use serde_json::{Value, json};

use common::{Client, DEADLINE, Random, Server};
use webdriver::Browser;

/// Connections that post: enough for 2,000 orders a second beside a browser on two cores.
const POSTERS: u32 = 4;
/// A usual screen of a laptop, in CSS pixels.
const SCREEN: (u32, u32) = (1366, 768);
/// Loads of the page for the median of its first paint.
const LOADS: usize = 11;
/// How long an empty page is watched.
const EMPTY: Duration = Duration::from_secs(5);
/// Work before figures count: code is compiled, caches fill.
const WARM_UP: Duration = Duration::from_secs(3);

/// Counts frames and long tasks (more than 50 ms) from now on.
const WATCH: &str = "
    window.frames_ = [];
    window.tasks = [];
    window.observer?.disconnect();
    window.observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration)));
    observer.observe({ type: 'longtask' });
    if (!window.isWatching) {
      window.isWatching = true;
      const next = (time) => { frames_.push(time); requestAnimationFrame(next); };
      requestAnimationFrame(next);
    }";

/// Frames a second, the longest time between two frames, and the long tasks since [`WATCH`]; in milliseconds.
const SEEN: &str = "
    const times = frames_;
    return {
      rate: (times.length - 1) * 1000 / (times.at(-1) - times[0]),
      longest: Math.max(...times.slice(1).map((time, at) => time - times[at])),
      tasks,
    };";

struct Options {
    products: usize,
    rates: Vec<u32>,
    time: Duration,
}

impl Options {
    fn parse() -> Result<Options, lexopt::Error> {
        let mut options = Options { products: 200, rates: vec![500, 2_000], time: Duration::from_secs(30) };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("products") => options.products = parser.value()?.parse()?,
                Long("rates") => {
                    let rates = parser.value()?.string()?;
                    options.rates = rates
                        .split(',')
                        .map(str::parse)
                        .collect::<Result<_, _>>()
                        .map_err(|error| lexopt::Error::from(format!("--rates {rates:?}: {error}")))?;
                }
                Long("seconds") => options.time = Duration::from_secs(parser.value()?.parse()?),
                // Cargo passes this to every benchmark.
                Long("bench") => {}
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }
}

fn shop(products: usize) -> Server {
    let product = |number: usize| {
        let name = ["Vacuum Cleaner", "Leaf Blower", "Espresso Machine", "Extension Cable 5 m"][number % 4];
        json!({ "id": format!("A{number}"), "name": name, "rrp": "9.90", "info": "Two years.", "total": number })
    };
    let products: Vec<Value> = (1..=products).map(product).collect();
    let catalog = json!({ "electronics": { "prefix": "A", "products": products } });
    Server::builder().catalog(&catalog.to_string()).start()
}

/// Posts orders of random products at a rate until `done`; returns their number.
fn post(addr: SocketAddr, products: usize, rate: u32, seed: u64, done: &AtomicBool) -> u32 {
    let (mut client, mut random) = (Client::connect(addr), Random::new(seed, 0));
    let begun = Instant::now();
    let mut number = 0;
    while !done.load(Ordering::Relaxed) {
        thread::sleep((Duration::from_secs(1) * number / rate).saturating_sub(begun.elapsed()));
        client.order(&format!("A{}", 1 + random.place(products)), 1);
        number += 1;
    }
    number
}

/// Opens a page and waits until its numbers are there.
fn open(browser: &Browser, addr: SocketAddr, view: &str) {
    browser.open("about:blank");
    browser.open(&format!("http://{addr}/#electronics{view}"));
    browser.until(DEADLINE, "document.querySelector('#state')?.dataset.state === 'live'");
}

/// A row of the table; the difference between board and server in the end is an error.
fn measure(browser: &Browser, view: &str, rate: u32, options: &Options) -> Result<String, String> {
    let server = shop(options.products);
    let addr = server.addr();
    open(browser, addr, view);
    let done = AtomicBool::new(false);
    let (seen, heaps, posted) = thread::scope(|scope| {
        let posters: Vec<_> = (0..POSTERS)
            .map(|number| {
                let done = &done;
                scope.spawn(move || post(addr, options.products, rate / POSTERS, number.into(), done))
            })
            .collect();
        thread::sleep(WARM_UP);
        let before = browser.heap();
        browser.run(WATCH);
        thread::sleep(options.time);
        let seen = browser.run(SEEN);
        let after = browser.heap();
        done.store(true, Ordering::Relaxed);
        let posted: u32 = posters.into_iter().map(|poster| poster.join().expect("every order is accepted")).sum();
        (seen, [before, after], posted)
    });
    let expected: BTreeMap<String, i64> = server.totals().into_iter().collect();
    let is_equal = format!(
        "((expected) => [...document.querySelectorAll('product-item')]
            .every((item) => item.total === expected[item.dataset.id]))({})",
        json!(expected)
    );
    browser.until(DEADLINE, &is_equal);
    let shown = browser.run("return document.querySelectorAll('product-item').length");
    if shown != json!(options.products) {
        return Err(format!("{shown} products on the board"));
    }
    let tasks: Vec<f64> = seen["tasks"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let number = |name: &str| seen[name].as_f64().unwrap_or(f64::NAN);
    Ok(format!(
        "| {} | {:.0} | {:.1} | {:.0} | {:.0} | {} | {:.2} → {:.2} |",
        if view.is_empty() { "board" } else { "wall" },
        f64::from(posted) / (WARM_UP + options.time).as_secs_f64(),
        number("rate"),
        number("longest"),
        tasks.iter().copied().fold(0.0, f64::max),
        tasks.iter().filter(|task| **task > 100.0).count(),
        heaps[0] as f64 / 1e6,
        heaps[1] as f64 / 1e6,
    ))
}

/// The median time from the start of a load, with an empty cache, to the first text or picture; in milliseconds.
fn first_paint(browser: &Browser) -> f64 {
    let server = Server::start();
    browser.devtools("Network.setCacheDisabled", &json!({ "cacheDisabled": true }));
    let mut times: Vec<f64> = (0..LOADS)
        .map(|_| {
            open(browser, server.addr(), "");
            let paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
            browser.until(DEADLINE, paint);
            browser.run(&format!("return {paint}")).as_f64().expect("a time")
        })
        .collect();
    browser.devtools("Network.setCacheDisabled", &json!({ "cacheDisabled": false }));
    times.sort_unstable_by(f64::total_cmp);
    times[LOADS / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse()?;
    let Some(browser) = Browser::start() else { return Ok(()) };
    browser.look(SCREEN.0, SCREEN.1, 1, "light");
    browser.open("about:blank");
    browser.run(WATCH);
    thread::sleep(EMPTY);
    let empty = browser.run(SEEN)["rate"].as_f64().ok_or("no frames")?;
    println!("first contentful paint: {:.0} ms (median of {LOADS})", first_paint(&browser));
    println!("an empty page: {empty:.1} frames/s; {} products, {:?} each:\n", options.products, options.time);
    println!("| view | orders/s | frames/s | longest frame, ms | longest task, ms | tasks over 100 ms | heap, MB |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for view in ["?wall", ""] {
        for rate in &options.rates {
            println!("{}", measure(&browser, view, *rate, &options)?);
        }
    }
    let console = browser.console();
    if !console.is_empty() {
        return Err(format!("the page wrote to the console: {console:?}").into());
    }
    Ok(())
}
