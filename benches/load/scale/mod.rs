//! Many orders, keys and products: what a server costs at that size, in parts that can be chosen (`--parts`).
//!
//! | module | owns |
//! |---|---|
//! | `data` | making the data, and using it again (`--room`) |
//! | `start` | stop, start, the first snapshot, the first key, memory |
//! | `post` | posting, beside the same server with an empty folder |
//! | `feeds` | snapshots, resuming from a position |
//! | `log` | reading the log, and posting meanwhile |
//! | `tools` | export, backup, check, the close of a period |

mod data;
mod feeds;
mod log;
mod post;
mod start;
mod tools;

use std::time::{Duration, Instant};

use crate::figures::{self, Better, Figure, Measurement, figure, megabytes};
use crate::options::Options;
use crate::procfs;
use crate::requests::Client;
use crate::server::{Contender, PREFIX, Server};

pub use data::Size;

/// The parts, in the order in which they are done.
pub const PARTS: [&str; 6] = ["start", "post", "snapshot", "log", "resume", "tools"];

const ANONYMOUS: Figure = figure("anonymous at the end", "MB", Better::Lower);

/// Works with their figures.
type Rows = Vec<(String, Measurement)>;

/// Makes the data, and measures the parts that the options name.
pub fn measure(contender: &Contender, size: &Size, options: &Options) -> Result<Rows, String> {
    let (mut server, filled) = data::server(contender, size, options.room.as_deref())?;
    start::settle(&server)?;
    let mut rows = Vec::new();
    rows.extend(filled);
    for part in PARTS.iter().filter(|part| options.parts.is_empty() || options.parts.iter().any(|one| one == *part)) {
        eprintln!("scale: {part}");
        let mut done = match *part {
            "start" => {
                let (restarted, row) = start::measure(server, contender, size)?;
                server = restarted;
                vec![row]
            }
            "post" => post::measure(&mut server, contender, options)?,
            "snapshot" => vec![feeds::snapshots(&server, size)?],
            "log" => vec![log::measure(&mut server, options)?],
            "resume" => vec![feeds::resume(&mut server)?],
            _ => vec![tools::measure(&server, contender)?],
        };
        if let Some((_, last)) = done.last_mut() {
            push_memory(last, &server, &figures::RESIDENT_END, &ANONYMOUS);
        }
        rows.extend(done);
        check_totals(&server)?;
    }
    data::finish(server, size, options.room.as_deref())?;
    Ok(rows.into_iter().map(|(work, measurement)| (format!("{size}: {work}"), measurement)).collect())
}

/// Memory of the server as it is now.
fn push_memory(to: &mut Measurement, server: &Server, resident: &'static Figure, anonymous: &'static Figure) {
    to.push(resident, megabytes(procfs::resident(server.pids())));
    to.push(anonymous, megabytes(procfs::anonymous(server.pids())));
}

/// Compares the totals of all products with the orders posted.
fn check_totals(server: &Server) -> Result<(), String> {
    let body = Client::connect(server.address)?.get("/orders")?.to_vec();
    let totals: Vec<serde_json::Value> = serde_json::from_slice(&body).map_err(|error| format!("/orders: {error}"))?;
    let mut wrong = server.totals.len();
    for total in &totals {
        let product = total["id"].as_str().and_then(product_of).and_then(|product| server.totals.get(product));
        wrong -= usize::from(product.copied().is_some_and(|wanted| total["total"].as_u64() == Some(wanted)));
    }
    if wrong > 0 || totals.len() != server.totals.len() {
        return Err(format!("/orders: {wrong} of {} totals are missing or wrong", server.totals.len()));
    }
    Ok(())
}

/// The index of the product with this id.
fn product_of(id: &str) -> Option<usize> {
    id.strip_prefix(PREFIX)?.parse::<usize>().ok()?.checked_sub(1)
}

/// How long it takes.
fn time<T>(work: impl FnOnce() -> Result<T, String>) -> Result<(T, Duration), String> {
    let began = Instant::now();
    let result = work()?;
    Ok((result, began.elapsed()))
}

/// The median time of so many repetitions, in milliseconds.
fn median_time(times: usize, mut work: impl FnMut() -> Result<(), String>) -> Result<f64, String> {
    let all = (0..times).map(|_| Ok(figures::milliseconds(time(&mut work)?.1)));
    Ok(figures::median(all.collect::<Result<_, String>>()?).unwrap_or(0.0))
}

/// Posts one order of the first product, with a key if there is one.
fn post_one(client: &mut Client, totals: &mut [u64], key: Option<&str>) -> Result<(), String> {
    let key = key.map(|key| format!(r#","key":"{key}""#)).unwrap_or_default();
    client.post(&format!("/orders/{PREFIX}1"), "application/json", &format!(r#"{{"amount":1{key}}}"#))?;
    totals[0] += 1;
    Ok(())
}
