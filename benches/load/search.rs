//! The highest paced rate that a server carries: doubled until it fails, then halved in the logarithm.

use std::time::Duration;

use crate::options::Options;
use crate::report;
use crate::run::{self, Load, Outcome};
use crate::scenarios::{Figures, paced};
use crate::server::{Contender, Server};

/// Deliveries a second to begin with: below what every server carries that is worth measuring.
const FIRST_DELIVERIES: f64 = 200_000.0;
/// The fastest the posters are asked for.
const MAX_RATE: f64 = 100_000.0;
/// The search ends when the lowest failed rate is this close to the highest carried.
const CLOSE_ENOUGH: f64 = 1.1;
/// Bound on the steps of one search.
const MAX_STEPS: usize = 14;
/// Connections that post, by try: neither a disturbance from outside must decide, nor that a server which answers
/// late, but many at once, needs more orders in flight.
const POSTERS: [usize; 3] = [64, 256, 64];
/// Of the offered rate, what must really have been accepted.
const ACHIEVED: f64 = 0.95;

/// Finds the highest rate with the 99th percentile under `limit`, every total delivered to everyone.
pub fn highest_rate(
    contender: &Contender,
    subscribers: usize,
    limit: Duration,
    options: &Options,
) -> Result<Figures, String> {
    let mut best: Option<(f64, Outcome)> = None;
    let mut failed: Option<f64> = None;
    let mut why = String::new();
    let mut server = None;
    // One for each poster that any step may ask for.
    let products = POSTERS.into_iter().max().unwrap_or_default();
    let mut rate = FIRST_DELIVERIES / subscribers as f64;
    for _ in 0..MAX_STEPS {
        let mut carried = None;
        let mut reason = String::new();
        for posters in POSTERS {
            let load = step(subscribers, rate, posters, options);
            let running = match &mut server {
                Some(running) => running,
                none => none.insert(Server::start(contender, products)?),
            };
            match attempt(running, &load, limit) {
                Ok(outcome) => carried = Some(outcome),
                Err(error) => reason = error,
            }
            if carried.is_some() {
                break;
            }
            // What a failed step has left behind must not weigh on the next.
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
            (Some((carried, _)), Some(failed)) if failed / carried < CLOSE_ENOUGH => break,
            (Some((carried, _)), Some(failed)) => (carried * failed).sqrt(),
            (Some((carried, _)), None) if *carried >= MAX_RATE => break,
            (Some((carried, _)), None) => (carried * 2.0).min(MAX_RATE),
            (None, _) => rate / 2.0,
        };
    }
    let Some((rate, outcome)) = best else {
        return Err(format!("no rate carried; last, {why}"));
    };
    let mut figures = Figures::default();
    figures.push(&report::RATE, rate);
    figures.push(&report::CARRIED, rate * subscribers as f64);
    figures.quantiles(&outcome.seen.latency, &[(&report::P50_THERE, 0.5), (&report::P99_THERE, 0.99)]);
    figures.push(&report::CPU_THERE, outcome.server_cpu * 1e6 / outcome.deliveries.max(1) as f64);
    figures.push(&report::OTHERS_CPU, outcome.others_cpu * 100.0 / outcome.window.as_secs_f64());
    if !why.is_empty() {
        println!("  above it, {why}");
    }
    Ok(figures)
}

fn step(subscribers: usize, rate: f64, posters: usize, options: &Options) -> Load {
    let (warm_up, measured) = if options.quick { (200, 700) } else { (500, 2_000) };
    Load {
        posters,
        warm_up: Duration::from_millis(warm_up),
        measured: options.seconds.unwrap_or(Duration::from_millis(measured)),
        ..paced(subscribers, Some(rate), options)
    }
}

/// One step; an error says why the rate was not carried.
fn attempt(server: &mut Server, load: &Load, limit: Duration) -> Result<Outcome, String> {
    let outcome = run::run(server, load)?;
    let accepted = outcome.posted.latency.count() as f64 / load.measured.as_secs_f64();
    let offered = load.pace.unwrap_or_default();
    let p99 = outcome.seen.latency.quantile(0.99).unwrap_or(Duration::MAX);
    if let Some(fault) = outcome.faults.first() {
        Err(fault.clone())
    } else if accepted < offered * ACHIEVED {
        Err(format!("only {accepted:.0} accepted"))
    } else if outcome.seen.skipped > 0 {
        Err(format!("{} skipped", outcome.seen.skipped))
    } else if p99 > limit {
        Err(format!("p99 {:.1} ms", p99.as_secs_f64() * 1e3))
    } else {
        Ok(outcome)
    }
}
