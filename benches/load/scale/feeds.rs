//! Snapshots, and feeds that go on from a position.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::data::Size;
use super::{check_totals, median_time, product_of};
use crate::figures::{Better, Figure, Measurement, figure};
use crate::keys;
use crate::requests::Client;
use crate::run;
use crate::server::{Server, category_path};

/// Repetitions of what one client does, and of what many do at once.
const TIMES: usize = 11;
const MANY_TIMES: usize = 5;
/// Clients at once.
const MANY: usize = 64;
/// Orders behind a position that is not too old.
const BACK: usize = 5_000;
/// The same, of one that is: a server looks at 10,000 lines of the log.
const FAR_BACK: usize = 11_000;
/// The longest time to the next event.
const DEADLINE: Duration = Duration::from_secs(30);

const CATEGORY: Figure = figure("snapshot of a category", "ms", Better::Lower);
const CATEGORY_MANY: Figure = figure("64 of a category at once", "ms", Better::Lower);
const ALL: Figure = figure("snapshot of all products", "ms", Better::Lower);
const ALL_MANY: Figure = figure("64 of all at once", "ms", Better::Lower);
const GET_CATEGORY: Figure = figure("GET a category's totals", "ms", Better::Lower);
const GET_ALL: Figure = figure("GET all totals", "ms", Better::Lower);
const GET_ALL_MANY: Figure = figure("64 of these at once", "ms", Better::Lower);

const ONE_BACK: Figure = figure("resume, 1 order back", "ms", Better::Lower);
const MIDDLE: Figure = figure("resume, 5,000 orders back", "ms", Better::Lower);
const MIDDLE_MANY: Figure = figure("64 of these at once", "ms", Better::Lower);
const TOO_OLD: Figure = figure("resume, 11,000 orders back, with a snapshot", "ms", Better::Lower);

pub fn snapshots(server: &Server, size: &Size) -> Result<(String, Measurement), String> {
    let mut measurement = Measurement::default();
    let category = category_path();
    let in_category = &server.totals[..size.products / size.categories];
    let feeds = [
        (&CATEGORY, category.clone(), in_category, 1, TIMES),
        (&CATEGORY_MANY, category.clone(), in_category, MANY, MANY_TIMES),
        (&ALL, server.feed_path(), &server.totals, 1, TIMES),
        (&ALL_MANY, server.feed_path(), &server.totals, MANY, MANY_TIMES),
    ];
    for (figure, path, totals, count, times) in feeds {
        let mut faults = Vec::new();
        let median = median_time(times, || {
            faults.extend(run::snapshots_of(server.address, &path, totals, count)?);
            Ok(())
        })?;
        measurement.push(figure, median);
        measurement.faults.extend(faults);
    }
    let mut client = Client::connect(server.address)?;
    measurement.push(&GET_CATEGORY, median_time(TIMES, || client.get(&category).map(drop))?);
    measurement.push(&GET_ALL, median_time(TIMES, || client.get("/orders").map(drop))?);
    let get = || Client::connect(server.address)?.get("/orders").map(drop);
    measurement.push(&GET_ALL_MANY, median_time(MANY_TIMES, || at_once(MANY, get))?);
    Ok(("snapshot".into(), measurement))
}

pub fn resume(server: &mut Server) -> Result<(String, Measurement), String> {
    let mut measurement = Measurement::default();
    let products = server.totals.len();
    let start = follow(server, None, products)?;
    // One order of each of the first products.
    let back = BACK.min(products);
    keys::fill(server, back, 0)?;
    let end = follow(server, Some(&start), back)?;
    measurement.push(&MIDDLE, median_time(TIMES, || follow(server, Some(&start), back).map(drop))?);
    let many = || at_once(MANY, || follow(server, Some(&start), back).map(drop));
    measurement.push(&MIDDLE_MANY, median_time(MANY_TIMES, many)?);
    keys::fill(server, 1, 0)?;
    measurement.push(&ONE_BACK, median_time(TIMES, || follow(server, Some(&end), 1).map(drop))?);
    keys::fill(server, FAR_BACK - back, 0)?;
    measurement.push(&TOO_OLD, median_time(TIMES, || follow(server, Some(&start), products).map(drop))?);
    check_totals(server)?;
    Ok(("resume".into(), measurement))
}

/// Does the same on so many threads at once.
fn at_once(count: usize, work: impl Fn() -> Result<(), String> + Sync) -> Result<(), String> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client panicked")?)
    })
}

/// Reads an event stream of all products from a position on, or from now on, until it has sent so many events, which must
/// be the last totals of as many products, the first ones. Returns the last position.
fn follow(server: &Server, position: Option<&str>, events: usize) -> Result<String, String> {
    let mut stream = Stream::open(server.address, &server.feed_path(), position)?;
    let mut is_seen = vec![false; events];
    let mut last = String::new();
    for _ in 0..events {
        let (product, total, id) = stream.next()?;
        if server.totals.get(product) != Some(&total) || is_seen.get(product) != Some(&false) {
            return Err(format!("an event has the total {total} of product {product}"));
        }
        is_seen[product] = true;
        last = id;
    }
    Ok(last)
}

/// An event stream.
struct Stream {
    lines: BufReader<TcpStream>,
    line: String,
}

impl Stream {
    fn open(server: SocketAddr, path: &str, position: Option<&str>) -> Result<Self, String> {
        let position = position.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let open = || {
            let mut stream = TcpStream::connect(server)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nAccept: text/event-stream\r\n{position}\r\n")?;
            Ok(stream)
        };
        let stream = open().map_err(|error: std::io::Error| format!("{path}: {error}"))?;
        let mut stream = Self { lines: BufReader::new(stream), line: String::new() };
        if !stream.line()?.starts_with("HTTP/1.1 200") {
            return Err(format!("{path}: {}", stream.line));
        }
        while !stream.line()?.is_empty() {}
        Ok(stream)
    }

    /// The product and the total of the next event, and its position if it has one.
    fn next(&mut self) -> Result<(usize, u64, String), String> {
        let (mut total, mut id) = (None, String::new());
        loop {
            let line = self.line()?;
            if let Some(text) = line.strip_prefix("data: ") {
                let data: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
                total = data["id"].as_str().and_then(product_of).zip(data["total"].as_u64());
            } else if let Some(text) = line.strip_prefix("id: ") {
                id = text.into();
            } else if line.is_empty()
                && let Some((product, total)) = total
            {
                return Ok((product, total, id));
            }
        }
    }

    fn line(&mut self) -> Result<&str, String> {
        self.line.clear();
        let count = self.lines.read_line(&mut self.line).map_err(|error| format!("event stream: {error}"))?;
        if count == 0 {
            return Err("the event stream ended".into());
        }
        Ok(self.line.trim_end())
    }
}
