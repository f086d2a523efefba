//! Reading the log: single pages, all of it, pages of which little is wanted, and posting meanwhile.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{median_time, product_of, time};
use crate::figures::{Better, Figure, Measurement, figure, median, milliseconds};
use crate::load::Load;
use crate::options::Options;
use crate::requests::Client;
use crate::run;
use crate::server::{PREFIX, Server};

/// Readings of each page.
const TIMES: usize = 21;
/// The same of one that looks at a million lines.
const SLOW_TIMES: usize = 3;
/// Rounds of posting without and with a reader of the log.
const ROUNDS: usize = 3;
const POSTERS: usize = 16;
const POSTING: Duration = Duration::from_millis(1_500);
const WARM_UP: Duration = Duration::from_millis(300);

const ALL: Figure = figure("all of the log", "lines/s", Better::Higher);
const FIRST_PAGE: Figure = figure("first page", "ms", Better::Lower);
const MIDDLE_PAGE: Figure = figure("page in the middle", "ms", Better::Lower);
const LAST_PAGE: Figure = figure("last page", "ms", Better::Lower);
const OF_PRODUCT: Figure = figure("page of one product, from the middle", "ms", Better::Lower);
const SINCE: Figure = figure("page since a later time, from the middle", "ms", Better::Lower);
const ORDERS_ALONE: Figure = figure("orders of 16 posters", "/s", Better::Neither);
const P99_ALONE: Figure = figure("POST p99 of 16 posters", "ms", Better::Neither);
const ORDERS_READING: Figure = figure("the same while the log is read", "/s", Better::Higher);
const P99_READING: Figure = figure("POST p99 while the log is read", "ms", Better::Lower);
const MAX_READING: Figure = figure("POST max while the log is read", "ms", Better::Lower);

pub fn measure(server: &mut Server, options: &Options) -> Result<(String, Measurement), String> {
    let mut measurement = Measurement::default();
    let mut client = Client::connect(server.address)?;
    let mut sums = Sums { totals: vec![0; server.totals.len()], last_seq: 0 };
    let (_, reading) = time(|| {
        while sums.add(client.get(&format!("/log?after={}", sums.last_seq))?)? > 0 {}
        Ok(())
    })?;
    if sums.totals != server.totals {
        measurement.faults.push("the sums of the log are not the totals".into());
    }
    let last = sums.last_seq;
    measurement.push(&ALL, last as f64 / reading.as_secs_f64());
    let mut page = |figure, times, path: String| -> Result<(), String> {
        measurement.push(figure, median_time(times, || client.get(&path).map(drop))?);
        Ok(())
    };
    page(&FIRST_PAGE, TIMES, "/log".into())?;
    page(&MIDDLE_PAGE, TIMES, format!("/log?after={}", last / 2))?;
    page(&LAST_PAGE, TIMES, format!("/log?after={}", last.saturating_sub(1_000)))?;
    page(&OF_PRODUCT, SLOW_TIMES, format!("/log?id={PREFIX}1&after={}", last / 2))?;
    page(&SINCE, SLOW_TIMES, format!("/log?since=2099-01-01T00:00:00Z&after={}", last / 2))?;

    let load =
        Load { warm_up: WARM_UP, measured: options.seconds.unwrap_or(POSTING), ..Load::of_posters(POSTERS, options) };
    let [mut alone, mut beside] = [const { (Vec::new(), Vec::new()) }; 2];
    let mut slowest = Duration::ZERO;
    for _ in 0..ROUNDS {
        for (is_read, (orders, p99)) in [(false, &mut alone), (true, &mut beside)] {
            let end = AtomicBool::new(!is_read);
            let address = server.address;
            let outcome = thread::scope(|scope| {
                let reading = scope.spawn(|| read_until(address, &end));
                let outcome = run::run(server, &load);
                end.store(true, Ordering::Relaxed);
                reading.join().map_err(|_| "the reader panicked")??;
                outcome
            })?;
            let latency = &outcome.posted.latency;
            orders.push(latency.count() as f64 / load.measured.as_secs_f64());
            p99.extend(latency.quantile(0.99).map(milliseconds));
            slowest = slowest.max(latency.max().filter(|_| is_read).unwrap_or_default());
            measurement.faults.extend(outcome.faults);
        }
    }
    let mut push = |figure, values| measurement.push(figure, median(values).unwrap_or(0.0));
    push(&ORDERS_ALONE, alone.0);
    push(&P99_ALONE, alone.1);
    push(&ORDERS_READING, beside.0);
    push(&P99_READING, beside.1);
    measurement.push(&MAX_READING, milliseconds(slowest));
    Ok(("log".into(), measurement))
}

/// Reads the log from its beginning, and again, until `end`.
fn read_until(address: SocketAddr, end: &AtomicBool) -> Result<(), String> {
    let mut client = Client::connect(address)?;
    let mut after = 0;
    while !end.load(Ordering::Relaxed) {
        let body = client.get(&format!("/log?after={after}"))?;
        after = last_line(body).and_then(|line| number(line, r#""seq":"#)).unwrap_or(0);
    }
    Ok(())
}

fn last_line(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body).ok()?.lines().next_back()
}

/// What the lines read so far add up to.
struct Sums {
    totals: Vec<u64>,
    last_seq: u64,
}

impl Sums {
    /// Checks a page, whose lines must follow those before it, each with the total that its amount makes. Returns the
    /// number of its lines.
    fn add(&mut self, body: &[u8]) -> Result<usize, String> {
        let mut lines = 0;
        for line in std::str::from_utf8(body).map_err(|error| error.to_string())?.lines() {
            self.add_line(line).ok_or_else(|| format!("the log has a wrong line: {line}"))?;
            lines += 1;
        }
        Ok(lines)
    }

    fn add_line(&mut self, line: &str) -> Option<()> {
        let id = line.split_once(r#""id":""#)?.1.split_once('"')?.0;
        let total = self.totals.get_mut(product_of(id)?)?;
        *total += number(line, r#""amount":"#)?;
        let is_right = number(line, r#""total":"#)? == *total && number(line, r#""seq":"#)? == self.last_seq + 1;
        self.last_seq += 1;
        is_right.then_some(())
    }
}

/// The number behind a name.
fn number(line: &str, name: &str) -> Option<u64> {
    let rest = line.split_once(name)?.1;
    rest.split_once(|letter: char| !letter.is_ascii_digit())?.0.parse().ok()
}
