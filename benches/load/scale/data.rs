//! The data: made through the server by batches, and kept for another run where a folder is named.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::time;
use crate::figures::{Better, Figure, Measurement, figure, pretty};
use crate::keys;
use crate::server::{Contender, Room, Server};

const FILLED: Figure = figure("orders by batches of 1,000", "/s", Better::Higher);
const ORDER_BYTES: Figure = figure("an order in the data file", "bytes", Better::Lower);
const KEYED_BYTES: Figure = figure("an order with a key there", "bytes", Better::Lower);

/// How much data there is.
#[derive(Clone, PartialEq, Eq)]
pub struct Size {
    pub orders: usize,
    /// The last of the orders, each with a key of its own.
    pub keys: usize,
    pub products: usize,
    pub categories: usize,
}

impl Default for Size {
    /// Smaller than what it is for, so that a run takes about a minute.
    fn default() -> Self {
        Self { orders: 1_000_000, keys: 100_000, products: 10_000, categories: 1_000 }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} orders", pretty(self.orders as f64))
    }
}

/// A server with the data in a folder of its own; or in this one, where it is made unless it is there.
pub fn server(
    contender: &Contender,
    size: &Size,
    kept: Option<&Path>,
) -> Result<(Server, Option<(String, Measurement)>), String> {
    let room = match kept {
        Some(path) if path.join("data").exists() && !totals_file(path).exists() => {
            return Err(format!("{}: its data was not made by this benchmark; name another folder", path.display()));
        }
        Some(path) => Room::kept_at(path, size.products),
        None => contender.room(size.products),
    };
    let room = room?.with_categories(size.categories)?;
    if let Some(path) = kept {
        let totals = read_totals(path, size);
        let data = path.join("data");
        let fail = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        // Until this run has ended: whoever comes after one that has not makes the data anew.
        fs::write(totals_file(path), "{}").map_err(|error| fail(&totals_file(path), error))?;
        if let Some(totals) = totals {
            let mut server = Server::start_in(contender, room)?;
            server.totals = totals;
            return Ok((server, None));
        }
        if data.exists() {
            fs::remove_dir_all(&data).map_err(|error| fail(&data, error))?;
        }
    }
    let file = room.path().join("data/ordercast.sqlite3");
    let length = || fs::metadata(&file).map_or(0, |metadata| metadata.len()) as f64;
    let mut server = Server::start_in(contender, room)?;
    let empty = length();
    let plain = size.orders - size.keys;
    let ((), first) = time(|| keys::fill(&mut server, plain, 0))?;
    let with_orders = length();
    let ((), second) = time(|| keys::fill(&mut server, size.keys, size.keys))?;
    let mut measurement = Measurement::default();
    measurement.push(&FILLED, size.orders as f64 / (first + second).as_secs_f64());
    // What is still in the write-ahead log, 4 MB at the most, is not counted.
    measurement.push(&ORDER_BYTES, (with_orders - empty) / plain.max(1) as f64);
    measurement.push(&KEYED_BYTES, (length() - with_orders) / size.keys.max(1) as f64);
    Ok((server, Some(("made".into(), measurement))))
}

/// Ends the server, and writes down what its data must be if they are kept.
pub fn finish(server: Server, size: &Size, kept: Option<&Path>) -> Result<(), String> {
    let totals = server.totals.clone();
    drop(server.stop());
    let Some(path) = kept else { return Ok(()) };
    let text = json!({ "size": numbers(size), "totals": totals }).to_string();
    fs::write(totals_file(path), text).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_totals(path: &Path, size: &Size) -> Option<Vec<u64>> {
    let text = fs::read_to_string(totals_file(path)).ok()?;
    let kept: serde_json::Value = serde_json::from_str(&text).ok()?;
    let is_same = kept["size"] == json!(numbers(size));
    is_same.then(|| kept["totals"].as_array()?.iter().map(serde_json::Value::as_u64).collect())?
}

fn totals_file(path: &Path) -> PathBuf {
    path.join("totals.json")
}

fn numbers(size: &Size) -> [usize; 4] {
    [size.orders, size.keys, size.products, size.categories]
}
