//! Several nodes on one PostgreSQL, beside one server on SQLite and beside pgbench that calls the same function with the
//! same batches: throughput, and the time from a POST at one node to a subscriber of another. Needs PostgreSQL (`make
//! deps`), of which it starts clusters of its own: `cargo bench --features postgres --bench nodes -- --seconds 5`.
//!
//! It exits with 1 when a subscriber missed an order, or saw one at another place than the others.

#[path = "../../tests/common/mod.rs"]
mod common;

mod pgbench;
mod posters;
mod watchers;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use common::server::ordercast;
use common::{Cluster, Server, TempDir};
use posters::Posted;
use watchers::Watchers;

/// Posters, over all nodes.
const POSTERS: usize = 16;
/// Subscribers of each node, unless `--subscribers` says how many.
const SUBSCRIBERS: usize = 100;
/// Orders a second while latency is measured.
const PACED: u32 = 100;

/// Orders a call of pgbench, for how the cost of a commit grows with its orders.
const BATCHES: [usize; 3] = [1, 10, 100];

/// What one arrangement of servers did.
struct Outcome {
    orders_per_second: f64,
    /// Commits a second of nodes meanwhile.
    commits_per_second: f64,
    post: (f64, f64),
    delivery: (f64, f64),
}

fn main() -> ExitCode {
    let mut seconds = 5;
    let mut rounds = 3;
    let mut subscribers = SUBSCRIBERS;
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let number = args.next().and_then(|number| number.parse().ok());
        match (arg.as_str(), number) {
            ("--seconds", Some(number)) => seconds = number,
            ("--rounds", Some(number)) => rounds = number,
            ("--subscribers", Some(number)) => subscribers = number as usize,
            _ => {
                eprintln!("nodes: --seconds N, --rounds N and --subscribers N are all there is");
                return ExitCode::FAILURE;
            }
        }
    }
    let length = Duration::from_secs(seconds);
    let measure = |servers: &[Server], commits: &dyn Fn() -> f64| measure(servers, subscribers, length, commits);
    println!("| round | servers | orders/s | POST p50, p99 ms | POST at one, seen at another p50, p99 ms |");
    println!("|---|---|---|---|---|");
    for round in 1..=rounds {
        let alone = measure(&[Server::start()], &|| 0.0);
        print(round, "one on SQLite", &alone);
        let Some(cluster) = Cluster::start() else { return ExitCode::FAILURE };
        let folder = TempDir::new();
        let made = ordercast(folder.path(), &["migrate", "--store", &cluster.url()], &[]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let node = || Server::builder().store(&cluster.url()).start();
        let commits = || pgbench::commits(&cluster);
        print(round, "one node", &measure(&[node()], &commits));
        let nodes = [node(), node(), node()];
        let three = measure(&nodes, &commits);
        let batch = pgbench::batch(three.orders_per_second, three.commits_per_second);
        print(round, "three nodes", &three);
        drop(nodes);
        let bare = pgbench::orders_per_second(&cluster, batch, 3, length);
        println!("| {round} | pgbench, 3 clients, {batch} orders a call | {bare:.0} | | |");
        for batch in BATCHES {
            let bare = pgbench::orders_per_second(&cluster, batch, 3, length);
            println!("| {round} | pgbench, 3 clients, {batch} orders a call | {bare:.0} | | |");
        }
        println!(
            "| {round} | three nodes against | orders/s of SQLite {:.2}, commits/s of pgbench {:.2} | | |",
            three.orders_per_second / alone.orders_per_second,
            three.commits_per_second / (bare / batch as f64)
        );
    }
    ExitCode::SUCCESS
}

fn print(round: u64, servers: &str, outcome: &Outcome) {
    let Outcome { orders_per_second, commits_per_second, post, delivery } = outcome;
    let a_commit = orders_per_second / commits_per_second;
    let batches = if a_commit.is_finite() { format!(", {a_commit:.1} a commit") } else { String::new() };
    println!(
        "| {round} | {servers} | {orders_per_second:.0}{batches} | {:.2}, {:.2} | {:.2}, {:.2} |",
        post.0, post.1, delivery.0, delivery.1
    );
}

/// Posts as fast as it goes with subscribers that check every order, then at a pace for the latency.
fn measure(servers: &[Server], subscribers: usize, length: Duration, commits: &dyn Fn() -> f64) -> Outcome {
    let addrs: Vec<SocketAddr> = servers.iter().map(Server::addr).collect();
    let watchers = Watchers::start(&addrs, subscribers);
    let before = commits();
    let posted = thread::scope(|scope| {
        let poster = |at: usize| {
            let addr = addrs[at % addrs.len()];
            scope.spawn(move || posters::flat_out(addr, length))
        };
        let posters: Vec<_> = (0..POSTERS).map(poster).collect();
        posters
            .into_iter()
            .map(|poster| poster.join().expect("no poster panicked"))
            .fold(Posted::default(), Posted::and)
    });
    let commits_per_second = (commits() - before) / length.as_secs_f64();
    watchers.finish(posted.orders);
    let delivery = posters::paced(addrs[0], *addrs.last().expect("a server"), PACED, length);
    Outcome {
        orders_per_second: posted.orders as f64 / length.as_secs_f64(),
        commits_per_second,
        post: posters::quantiles(posted.times),
        delivery: posters::quantiles(delivery),
    }
}
