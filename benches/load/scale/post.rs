//! Posting, in turn with the same server that has an empty folder and few products.

use std::time::Duration;

use super::{Rows, post_one};
use crate::figures::{self, Better, Figure, Measurement, figure, median, milliseconds};
use crate::keys::Keys;
use crate::load::Load;
use crate::options::Options;
use crate::requests::Client;
use crate::run;
use crate::server::{Contender, Server};

/// Rounds, each on both servers: their median is not an extreme.
const ROUNDS: usize = 3;
/// The numbers of posters, and the products of the other server, of which each poster has one.
const POSTERS: [usize; 3] = [1, 16, 64];
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_millis(1_500);

const BESIDE_EMPTY: Figure = figure("orders beside an empty folder", "×", Better::Higher);

/// What one server did in all rounds.
#[derive(Default)]
struct Runs {
    orders: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    faults: Vec<String>,
}

pub fn measure(large: &mut Server, contender: &Contender, options: &Options) -> Result<Rows, String> {
    let counts = options.posters.clone().unwrap_or(POSTERS.to_vec());
    let mut empty = Server::start(contender, counts.iter().copied().max().unwrap_or(1))?;
    // The first one makes the table of keys.
    let key = Keys::new().next();
    for server in [&mut *large, &mut empty] {
        let mut client = Client::connect(server.address)?;
        post_one(&mut client, &mut server.totals, Some(&String::from_utf8_lossy(&key)))?;
    }
    let mut rows = Vec::new();
    for (posters, keys) in counts.iter().flat_map(|posters| [(*posters, false), (*posters, true)]) {
        let load = Load {
            warm_up: WARM_UP,
            measured: options.seconds.unwrap_or(MEASURED),
            keys,
            ..Load::of_posters(posters, options)
        };
        let (mut of_large, mut of_empty) = (Runs::default(), Runs::default());
        for _ in 0..ROUNDS {
            of_large.add(large, &load)?;
            of_empty.add(&mut empty, &load)?;
        }
        let ratios = of_large.orders.iter().zip(&of_empty.orders).map(|(large, empty)| large / empty).collect();
        let with_keys = if keys { ", with keys" } else { "" };
        let mut measurement = of_large.measurement();
        measurement.push(&BESIDE_EMPTY, median(ratios).unwrap_or(0.0));
        rows.push((format!("POST, {posters} posters{with_keys}"), measurement));
        rows.push((format!("POST, {posters} posters{with_keys}, empty folder"), of_empty.measurement()));
    }
    Ok(rows)
}

impl Runs {
    fn add(&mut self, server: &mut Server, load: &Load) -> Result<(), String> {
        let outcome = run::run(server, load)?;
        let latency = &outcome.posted.latency;
        self.orders.push(latency.count() as f64 / load.measured.as_secs_f64());
        self.p50.extend(latency.quantile(0.5).map(milliseconds));
        self.p99.extend(latency.quantile(0.99).map(milliseconds));
        self.faults.extend(outcome.faults);
        Ok(())
    }

    fn measurement(self) -> Measurement {
        let mut measurement = Measurement { figures: Vec::new(), faults: self.faults };
        let all = [(&figures::ORDERS, self.orders), (&figures::POST_P50, self.p50), (&figures::POST_P99, self.p99)];
        for (figure, values) in all {
            measurement.push(figure, median(values).unwrap_or(0.0));
        }
        measurement
    }
}
