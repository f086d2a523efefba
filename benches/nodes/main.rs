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
/// Subscribers of each node.
const SUBSCRIBERS: usize = 100;
/// Orders a second while latency is measured.
const PACED: u32 = 100;

/// Orders a call of pgbench, for how the cost of a commit grows with its orders.
const BATCHES: [usize; 3] = [1, 10, 100];

/// What one arrangement of servers did.
struct Outcome {
    orders_per_second: f64,
    post: (f64, f64),
    delivery: (f64, f64),
}

fn main() -> ExitCode {
    let mut seconds = 5;
    let mut rounds = 3;
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let number = args.next().and_then(|number| number.parse().ok());
        match (arg.as_str(), number) {
            ("--seconds", Some(number)) => seconds = number,
            ("--rounds", Some(number)) => rounds = number,
            _ => {
                eprintln!("nodes: --seconds N and --rounds N are all there is");
                return ExitCode::FAILURE;
            }
        }
    }
    let length = Duration::from_secs(seconds);
    println!("| round | servers | orders/s | POST p50, p99 ms | POST at one, seen at another p50, p99 ms |");
    println!("|---|---|---|---|---|");
    for round in 1..=rounds {
        let alone = measure(&[Server::start()], length);
        print(round, "one on SQLite", &alone);
        let Some(cluster) = Cluster::start() else { return ExitCode::FAILURE };
        let folder = TempDir::new();
        let made = ordercast(folder.path(), &["migrate", "--store", &cluster.url()], &[]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let node = || Server::builder().store(&cluster.url()).start();
        print(round, "one node", &measure(&[node()], length));
        let commits = || -> f64 { pgbench::commits(&cluster) };
        let (before, nodes) = (commits(), [node(), node(), node()]);
        let three = measure(&nodes, length);
        let batch = pgbench::batch(three.orders_per_second * length.as_secs_f64(), commits() - before);
        print(round, "three nodes", &three);
        drop(nodes);
        let bare = pgbench::orders_per_second(&cluster, batch, 3, length);
        println!("| {round} | pgbench, 3 clients, {batch} orders a call | {bare:.0} | | |");
        for batch in BATCHES {
            let bare = pgbench::orders_per_second(&cluster, batch, 3, length);
            println!("| {round} | pgbench, 3 clients, {batch} orders a call | {bare:.0} | | |");
        }
        println!(
            "| {round} | three nodes against | SQLite {:.2}, pgbench {:.2} | | |",
            three.orders_per_second / alone.orders_per_second,
            three.orders_per_second / bare
        );
    }
    ExitCode::SUCCESS
}

fn print(round: u64, servers: &str, outcome: &Outcome) {
    let Outcome { orders_per_second, post, delivery } = outcome;
    println!(
        "| {round} | {servers} | {orders_per_second:.0} | {:.2}, {:.2} | {:.2}, {:.2} |",
        post.0, post.1, delivery.0, delivery.1
    );
}

/// Posts as fast as it goes with subscribers that check every order, then at a pace for the latency.
fn measure(servers: &[Server], length: Duration) -> Outcome {
    let addrs: Vec<SocketAddr> = servers.iter().map(Server::addr).collect();
    let watchers = Watchers::start(&addrs, SUBSCRIBERS);
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
    watchers.finish(posted.orders);
    let delivery = posters::paced(addrs[0], *addrs.last().expect("a server"), PACED, length);
    Outcome {
        orders_per_second: posted.orders as f64 / length.as_secs_f64(),
        post: posters::quantiles(posted.times),
        delivery: posters::quantiles(delivery),
    }
}
