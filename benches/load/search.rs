//! The highest order rate that a server carries: doubled until it fails, then bisected on a logarithmic scale.

use std::time::Duration;

use crate::figures::{self, Measurement, milliseconds};
use crate::load::Load;
use crate::options::Options;
use crate::run::{self, Outcome};
use crate::server::{Contender, Server};

/// Deliveries a second at the first rate. Every server worth measuring carries more.
const FIRST_DELIVERIES: f64 = 200_000.0;
/// The highest rate tried, in orders a second.
const MAX_RATE: f64 = 100_000.0;
/// The search ends when the lowest failed rate is at most this many times the highest carried rate.
const PRECISION: f64 = 1.1;
/// Bound on the rates tried in one search.
const MAX_RATES: usize = 14;
/// Connections that post, one number per attempt at a rate. A repeat keeps a disturbance of the machine from deciding;
/// more posters keep enough orders in flight for a server that answers late but many at once.
const POSTERS: [usize; 3] = [64, 256, 64];
/// The smallest share of the offered orders that must be accepted.
const MIN_ACCEPTED: f64 = 0.95;

/// Finds the highest rate at which every total is delivered with the 99th percentile of latency up to `limit`.
pub fn highest_rate(
    contender: &Contender,
    subscribers: usize,
    limit: Duration,
    options: &Options,
) -> Result<Measurement, String> {
    let mut best: Option<(f64, Outcome)> = None;
    let mut failed: Option<f64> = None;
    let mut why = String::new();
    let mut server = None;
    // Each poster orders a product of its own.
    let products = POSTERS.into_iter().max().unwrap_or_default();
    let mut rate = FIRST_DELIVERIES / subscribers as f64;
    for _ in 0..MAX_RATES {
        let mut carried = None;
        let mut reason = String::new();
        for posters in POSTERS {
            let load = Load::of_search(subscribers, rate, posters, options);
            let running = match &mut server {
                Some(running) => running,
                none => none.insert(Server::start(contender, products)?),
            };
            match attempt(running, &load, limit) {
                Ok(outcome) => {
                    carried = Some(outcome);
                    break;
                }
                Err(error) => reason = error,
            }
            // The next attempt starts without the backlog of the failed one.
            server = None;
        }
        match carried {
            Some(outcome) => best = Some((rate, outcome)),
            None => {
                failed = Some(rate);
                why = format!("{rate:.0} orders/s: {reason}");
            }
        }
        rate = match (&best, failed) {
            (Some((carried, _)), Some(failed)) if failed / carried < PRECISION => break,
            (Some((carried, _)), Some(failed)) => (carried * failed).sqrt(),
            (Some((carried, _)), None) if *carried >= MAX_RATE => break,
            (Some((carried, _)), None) => (carried * 2.0).min(MAX_RATE),
            (None, _) => rate / 2.0,
        };
    }
    let Some((rate, outcome)) = best else {
        return Err(format!("no rate carried; last, {why}"));
    };
    let mut measurement = Measurement::default();
    measurement.push(&figures::RATE, rate);
    measurement.push(&figures::CARRIED, rate * subscribers as f64);
    measurement.quantiles(&outcome.seen.latency, &[(&figures::P50_THERE, 0.5), (&figures::P99_THERE, 0.99)]);
    measurement.push(&figures::CPU_THERE, outcome.server_cpu * 1e6 / outcome.deliveries.max(1) as f64);
    measurement.push(&figures::OTHERS_CPU, outcome.others_cpu * 100.0 / outcome.window.as_secs_f64());
    if !why.is_empty() {
        println!("  not carried: {why}");
    }
    Ok(measurement)
}

/// Runs `load` once; the error says why its rate was not carried.
fn attempt(server: &mut Server, load: &Load, limit: Duration) -> Result<Outcome, String> {
    let outcome = run::run(server, load)?;
    let accepted = outcome.posted.latency.count() as f64 / load.measured.as_secs_f64();
    let offered = load.rate.unwrap_or_default();
    let p99 = outcome.seen.latency.quantile(0.99).unwrap_or(Duration::MAX);
    if let Some(fault) = outcome.faults.first() {
        Err(fault.clone())
    } else if accepted < offered * MIN_ACCEPTED {
        Err(format!("only {accepted:.0} accepted"))
    } else if outcome.seen.skipped > 0 {
        Err(format!("{} skipped", outcome.seen.skipped))
    } else if p99 > limit {
        Err(format!("p99 {:.1} ms", milliseconds(p99)))
    } else {
        Ok(outcome)
    }
}
