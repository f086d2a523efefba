//! The load generator: starts a server on a free port, posts to it, subscribes to it, checks every total it
//! delivers, and says how fast, at what cost. It exits with 1 when a server was fast but wrong.
//!
//! | module | owns |
//! |---|---|
//! | `options` | the command line |
//! | `scenarios` | the pieces of work and their figures |
//! | `search` | the highest rate that is carried |
//! | `run` | one loaded run |
//! | `posters` | the connections that post, one event loop |
//! | `subscribers` | the connections that read, one event loop, and the checks |
//! | `sent` | what has been posted, shared by the two |
//! | `connect` | opening connections, handshakes |
//! | `frames`, `answer` | parsing what servers say |
//! | `histogram` | latencies |
//! | `server` | starting, finding and ending servers |
//! | `procfs` | their CPU and memory |
//! | `limits` | the machine's own limits |
//! | `report` | lines, tables, JSON |

mod answer;
mod connect;
mod frames;
mod histogram;
mod limits;
mod options;
mod posters;
mod procfs;
mod report;
mod run;
mod scenarios;
mod search;
mod sent;
mod server;
mod subscribers;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use options::Options;
use report::Report;

/// Rounds when peers are compared: the fewest that have a median.
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

/// Whether every server that has to be right was.
fn measure() -> Result<bool, Box<dyn std::error::Error>> {
    let options = Options::parse()?;
    if options.help {
        print!("{}", options::HELP);
        return Ok(true);
    }
    println!("{}", report::machine());
    if options.limits {
        limits::print()?;
    }
    let rounds = options.rounds.unwrap_or(if options.peers { PEER_ROUNDS } else { 1 });
    let works = scenarios::works(&options);
    let mut report = Report::default();
    for round in 1..=rounds {
        for work in &works {
            for contender in &options.contenders {
                for row in scenarios::perform(work, contender, &options, round) {
                    report.add(row);
                }
            }
        }
    }
    if works.is_empty() {
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
    // Where peers are compared, their faults are part of the result.
    let mut answerable = options.contenders.iter().filter(|one| !options.peers || !one.is_peer());
    Ok(!answerable.any(|contender| report.is_wrong(&contender.name)))
}
