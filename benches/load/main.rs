//! The load generator: starts a server on a free port, posts orders, opens subscribers, checks every delivered total,
//! and reports throughput, latency, CPU and memory. It exits with 1 when a total or an answer was wrong, or a server
//! used more memory than `--max-resident` allows.
//!
//! | module | owns |
//! |---|---|
//! | `options` | the command line |
//! | `scenarios` | the pieces of work |
//! | `search` | the highest rate that is carried |
//! | `load` | posters and subscribers of one run |
//! | `run` | one run under load |
//! | `posters` | the connections that post, one event loop |
//! | `subscribers` | the connections that read, one event loop, and the checks |
//! | `sent` | the orders posted, shared by these two |
//! | `keys` | random keys, filling a server with orders |
//! | `scale` | many orders, keys and products |
//! | `requests` | requests one after another |
//! | `connect` | opening connections, handshakes |
//! | `frames`, `answer` | parsing what servers send |
//! | `histogram` | latencies |
//! | `server` | starting and ending servers |
//! | `scrape` | reading the server's metrics during a run |
//! | `procfs` | CPU and memory of processes and kernel |
//! | `bare_sends` | the cost of sends without a server |
//! | `bare_syncs` | the time of writes to the disk without a server |
//! | `figures` | the kinds of figures, the result of one piece of work |
//! | `report` | lines, tables, JSON |
//! | `growth` | how the cost of a delivery grows, as a drawing |
//! | `chart` | what drawings share |

mod answer;
mod bare_sends;
mod bare_syncs;
#[allow(dead_code, reason = "the soak's plot uses the rest")]
mod chart;
mod connect;
mod figures;
mod frames;
mod growth;
mod histogram;
mod keys;
mod load;
mod options;
mod posters;
mod procfs;
mod report;
mod requests;
mod run;
mod scale;
mod scenarios;
mod scrape;
mod search;
mod sent;
mod server;
mod subscribers;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use growth::Growth;
use options::Options;
use report::Report;
use scenarios::Work;

/// Rounds when peers are compared: the fewest with a median that is not an extreme.
const PEER_ROUNDS: u32 = 3;

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the options ask for; false when a server that must have no faults had one.
fn measure() -> Result<bool, Box<dyn std::error::Error>> {
    let options = Options::parse()?;
    if options.help {
        print!("{}", options::HELP);
        return Ok(true);
    }
    println!("{}", report::machine());
    if options.bare_sends {
        bare_sends::print()?;
    }
    let rounds = options.rounds.unwrap_or(if options.peers { PEER_ROUNDS } else { 1 });
    let works = scenarios::works(&options);
    let (mut report, mut growth) = (Report::default(), Growth::default());
    for round in 1..=rounds {
        for work in &works {
            let is_post = matches!(work, Work::Post { .. });
            for contender in options.contenders.iter().filter(|one| is_post || !one.is_durable_peer()) {
                for row in scenarios::perform(work, contender, &options, round) {
                    if let Work::Growth(cell) = work {
                        growth.add(*cell, &row);
                    }
                    report.add(row);
                }
            }
        }
    }
    if let Some(path) = &options.svg {
        growth.draw(path)?;
    }
    if works.is_empty() || rounds == 0 {
        return Ok(true);
    }
    if rounds > 1 || options.contenders.len() > 1 {
        println!("\n{}", report.markdown());
    }
    if let Some(path) = &options.markdown {
        fs::write(path, report.markdown())?;
    }
    let default = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("load.json");
    let path = options.json.clone().unwrap_or_else(default);
    fs::write(&path, format!("{:#}\n", report.json()))?;
    println!("every figure: {}", path.display());
    // In a comparison of peers, a peer's faults are a result and not a failure.
    let mut checked = options.contenders.iter().filter(|contender| !options.peers || !contender.is_peer());
    Ok(!checked.any(|contender| report.has_faults(&contender.name)))
}
