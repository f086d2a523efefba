//! Stop and start: until the first answer, the first snapshot, the first order with a key; and what that takes of memory.

use std::thread;
use std::time::{Duration, Instant};

use super::data::Size;
use super::{post_one, push_memory, time};
use crate::figures::{self, Better, Figure, Measurement, figure, median, milliseconds};
use crate::keys::Keys;
use crate::requests::Client;
use crate::run;
use crate::server::{Contender, STOP_DEADLINE, Server, category_path};

/// Starts of each kind.
const STARTS: usize = 5;
/// After so long without an order a server has done all that it does when it is idle, the table of keys included.
const IDLE: Duration = Duration::from_secs(3);
/// The time without an order after which a server begins with that.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How long the rates may take.
const RATES_DEADLINE: Duration = Duration::from_secs(60);

const STOP: Figure = figure("stop", "ms", Better::Lower);
const MAX_START: Figure = figure("slowest start to first answer", "ms", Better::Lower);
const START_TO_SNAPSHOT: Figure = figure("start to the first snapshot of a category", "ms", Better::Lower);
const FIRST_KEY: Figure = figure("first order with a key, right after the start", "ms", Better::Lower);
const FIRST_KEY_IDLE: Figure = figure("first order with a key, 3 s after the start", "ms", Better::Lower);
const ORDER_AT_REST: Figure = figure("order when the server begins to rest", "ms", Better::Lower);
const RATES: Figure = figure("start to complete rates", "s", Better::Lower);
const RESIDENT: Figure = figure("resident after the start", "MB", Better::Lower);
const ANONYMOUS: Figure = figure("anonymous after the start", "MB", Better::Lower);
const RESIDENT_KEYS: Figure = figure("resident with the table of keys", "MB", Better::Lower);
const ANONYMOUS_KEYS: Figure = figure("anonymous with the table of keys", "MB", Better::Lower);

/// Stops and starts the server; the last start is returned.
pub fn measure(server: Server, contender: &Contender, size: &Size) -> Result<(Server, (String, Measurement)), String> {
    let mut measurement = Measurement::default();
    let [mut stops, mut starts, mut snapshots, mut first_keys] = [const { Vec::new() }; 4];
    let mut keys = Keys::new();
    let mut key = || String::from_utf8_lossy(&keys.next()).into_owned();
    let mut server = server;
    for _ in 0..STARTS {
        let (next, stop) = restart(server, contender)?;
        server = next;
        if stop >= STOP_DEADLINE {
            measurement.faults.push("the server did not stop in time".into());
        }
        stops.push(milliseconds(stop));
        starts.push(milliseconds(server.start));
        let in_category = size.products / size.categories;
        let totals = &server.totals[..in_category];
        let snapshot = || run::snapshots_of(server.address, &category_path(), totals, 1);
        let (faults, snapshot) = time(snapshot)?;
        measurement.faults.extend(faults);
        snapshots.push(milliseconds(server.start + snapshot));
        let mut client = Client::connect(server.address)?;
        let key = key();
        let ((), first_key) = time(|| post_one(&mut client, &mut server.totals, Some(&key)))?;
        first_keys.push(milliseconds(first_key));
        // Again, which counts nothing.
        let answered = server.totals[0];
        post_one(&mut client, &mut server.totals, Some(&key))?;
        server.totals[0] = answered;
    }
    let slowest = starts.iter().copied().fold(0.0, f64::max);
    let mut push = |figure, values| measurement.push(figure, median(values).unwrap_or(0.0));
    push(&STOP, stops);
    push(&figures::START, starts);
    push(&START_TO_SNAPSHOT, snapshots);
    push(&FIRST_KEY, first_keys);
    measurement.push(&MAX_START, slowest);

    let (mut server, _) = restart(server, contender)?;
    push_memory(&mut measurement, &server, &RESIDENT, &ANONYMOUS);
    let began = Instant::now();
    let mut client = Client::connect(server.address)?;
    thread::sleep(REST_AFTER + Duration::from_millis(20));
    let ((), at_rest) = time(|| post_one(&mut client, &mut server.totals, None))?;
    measurement.push(&ORDER_AT_REST, milliseconds(at_rest));
    thread::sleep(IDLE.saturating_sub(began.elapsed()));
    let ((), first_key) = time(|| post_one(&mut client, &mut server.totals, Some(&key())))?;
    measurement.push(&FIRST_KEY_IDLE, milliseconds(first_key));
    push_memory(&mut measurement, &server, &RESIDENT_KEYS, &ANONYMOUS_KEYS);
    settle(&server)?;
    measurement.push(&RATES, began.elapsed().as_secs_f64());
    Ok((server, ("start".into(), measurement)))
}

/// Waits until the server has read the rates, which takes one core for as long as that lasts.
pub fn settle(server: &Server) -> Result<(), String> {
    let began = Instant::now();
    let mut client = Client::connect(server.address)?;
    while !String::from_utf8_lossy(client.get("/rates/electronics")?).contains(r#""complete":true"#) {
        if began.elapsed() > RATES_DEADLINE {
            return Err("the rates are not complete".into());
        }
    }
    Ok(())
}

/// Stops the server and starts it again; returns how long the stop took.
fn restart(mut server: Server, contender: &Contender) -> Result<(Server, Duration), String> {
    let totals = std::mem::take(&mut server.totals);
    let (room, stop) = time(|| server.stop().ok_or("the server has no folder".into()))?;
    let mut server = Server::start_in(contender, room)?;
    server.totals = totals;
    Ok((server, stop))
}
