//! Recorded histories of concurrent clients of three nodes, while nothing fails and while nodes, their connections and the
//! database do: each node shows its clients a single tally, and all have one order. See `tests/common/history/`.
//!
//! `ORDERCAST_NODE_HISTORIES` is the number of histories with faults (`make nodes-torture`), `ORDERCAST_SEED` repeats the
//! choices of the first one.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::common::history::forgeries::{FORGERIES, Forgery};
use crate::common::history::linear::{History, Operation, What, check};
use crate::common::history::nodes::check_nodes;
use crate::common::history::{Plan, record};
use crate::common::load::turn;
use crate::common::{Cluster, DEADLINE, Random, Relay, Server, order_log, seed, wait_until};
use crate::nodes::{migrate, node};

const NODES: usize = 3;
const PLAN: Plan = Plan {
    pairs: 4,
    orders_each: 100,
    batches: 30,
    longest_pause: Duration::ZERO,
    longest_period: Duration::from_millis(40),
    numbers_a_connection: 40,
};
/// The load lasts as long as the faults.
const LONG_PLAN: Plan = Plan { longest_pause: Duration::from_millis(40), ..PLAN };
/// The longest time between two faults.
const LONGEST_PEACE: Duration = Duration::from_millis(300);

/// A fault.
#[derive(Clone, Copy, Debug)]
enum Blow {
    KillNode,
    KillDatabase,
    CutConnections,
    /// Answers are held before connections are cut.
    LoseAnswers,
    /// A node is behind the others.
    HoldEverything,
}

const BLOWS: [Blow; 5] =
    [Blow::KillNode, Blow::KillDatabase, Blow::CutConnections, Blow::LoseAnswers, Blow::HoldEverything];

/// The database, and nodes with a relay between each of them and it.
struct World {
    cluster: Cluster,
    relays: Vec<Relay>,
    nodes: Vec<Server>,
}

impl World {
    fn start() -> Option<World> {
        let cluster = Cluster::start()?;
        migrate(&cluster.url(), &[]);
        let relays: Vec<Relay> = (0..NODES).map(|_| Relay::start(&cluster.address())).collect();
        let url = |relay: &Relay| format!("postgres://postgres@{}/postgres", relay.address());
        let nodes = relays.iter().map(|relay| node(&url(relay))).collect();
        Some(World { cluster, relays, nodes })
    }

    fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Server::addr).collect()
    }

    fn strike(&mut self, blow: Blow, random: &mut Random) {
        let at = random.place(NODES);
        match blow {
            Blow::KillNode => {
                self.ready();
                self.nodes[at].restart_on_the_same_ports();
            }
            Blow::KillDatabase => {
                self.cluster.kill();
                self.cluster.restart();
            }
            Blow::CutConnections => self.relays[at].cut(),
            Blow::LoseAnswers => {
                self.relays[at].hold_answers();
                thread::sleep(Duration::from_millis(random.below(500)));
                self.relays[at].cut();
                self.relays[at].resume();
            }
            Blow::HoldEverything => {
                self.relays[at].hold();
                thread::sleep(Duration::from_millis(random.below(1_500)));
                self.relays[at].resume();
            }
        }
    }

    /// Waits until every node takes orders.
    #[track_caller]
    fn ready(&self) {
        wait_until(4 * DEADLINE, "every node is ready", || {
            self.nodes.iter().all(|node| node.client().get("/readyz").status == 200)
        });
    }

    /// Checks that every node has this log.
    #[track_caller]
    fn check_logs(&self, history: &History) {
        for node in &self.nodes {
            let last = || order_log::read_from(node.addr(), history.log.len() as u64 - 1).expect("the log can be read");
            wait_until(DEADLINE, "the node has everything", || last().len() == 1);
            assert!(order_log::read_from(node.addr(), 0).expect("a log") == history.log, "a node has another log");
        }
    }
}

#[test]
fn what_clients_of_three_nodes_did_and_saw_fits_one_order() {
    let _turn = turn();
    let Some(world) = World::start() else { return };
    let history = record(&world.addrs(), &PLAN, seed(), |_| {});
    println!("{}; as of one server: {:?}", history.summary(), check(&history).err());
    check_nodes(&history, NODES).unwrap_or_else(|why| panic!("{why}"));
    world.check_logs(&history);
    assert!(history.operations.iter().all(|operation| operation.returned.is_some()), "everything is answered");
    for (name, forge) in FORGERIES.iter().chain(&FORGERIES_OVER_NODES) {
        let mut forged = history.clone();
        forge(&mut forged);
        let refused = check_nodes(&forged, NODES).expect_err(name);
        println!("{name}: {refused}");
    }
    check_that_another_node_may_be_behind(history);
}

#[test]
fn what_clients_of_three_nodes_did_and_saw_fits_one_order_also_while_they_fail() {
    let _turn = turn();
    let histories = std::env::var("ORDERCAST_NODE_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let first = seed();
    for seed in (0..histories).map(|number| first + number) {
        let Some(mut world) = World::start() else { return };
        let mut random = Random::new(seed, 1_000_000);
        let (mut left, mut struck) = (BLOWS.to_vec(), Vec::new());
        let history = record(&world.addrs(), &LONG_PLAN, seed, |are_answered| {
            while !left.is_empty() && !are_answered() {
                let blow = left.swap_remove(random.place(left.len()));
                thread::sleep(Duration::from_micros(random.below(LONGEST_PEACE.as_micros() as u64)));
                world.strike(blow, &mut random);
                struck.push(blow);
            }
            world.ready();
        });
        println!("ORDERCAST_SEED={seed}: {struck:?}; {}", history.summary());
        check_nodes(&history, NODES).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        world.check_logs(&history);
        assert!(world.nodes.iter_mut().all(Server::is_running), "a node has ended");
    }
}

/// Wrong histories of several nodes that go on at another node.
const FORGERIES_OVER_NODES: [Forgery; 4] = [
    ("an order missing where a subscriber goes on at another node", |it| {
        let (told, _) = first_at_another_node(it);
        it.operations.remove(told);
    }),
    ("an order received again at another node", |it| {
        let (told, before) = first_at_another_node(it);
        let again = Operation { node: it.operations[told].node, ..it.operations[before].clone() };
        it.operations.insert(told, again);
    }),
    ("an order not shown at the node that answered it", |it| {
        let is_order = |it: &&Operation| matches!(it.what, What::Orders(_)) && it.returned.is_some();
        let answered = it.operations.iter().filter(is_order).max_by_key(|it| it.returned).expect("an order").clone();
        let first = it.operations.iter().filter(|it| matches!(it.what, What::Read("/orders", _)));
        let first = first.min_by_key(|it| it.invoked).expect("a read").what.clone();
        // Both just after the answer.
        let at = answered.returned.map(|at| at + 1);
        it.operations.push(Operation { invoked: at.expect("answered"), returned: at, what: first, ..answered });
    }),
    ("a key that one node took for an order and another for another", |it| {
        let rejected = it.operations.iter_mut().find(|it| matches!(it.what, What::KeyReused(_))).expect("a rejection");
        let What::KeyReused(sent) = rejected.what.clone() else { unreachable!("found above") };
        rejected.what = What::Orders(vec![sent]);
    }),
];

/// Where a subscriber to totals first receives one at another node than the one before it, and where that one is.
fn first_at_another_node(history: &History) -> (usize, usize) {
    let mut last: Vec<Option<usize>> = vec![None; history.subscribers.len()];
    for (place, operation) in history.operations.iter().enumerate() {
        let What::Told(number, _) = operation.what else { continue };
        let subscriber = &history.subscribers[number];
        let before = last[number].replace(place).filter(|_| subscriber.due_every_order && !subscriber.has_counts);
        if let Some(before) = before.filter(|before| history.operations[*before].node != operation.node) {
            return (place, before);
        }
    }
    panic!("no subscriber goes on at another node");
}

/// The check is of no more than what is promised: a node where nobody has seen an order may show it later, but then it
/// does not go back.
fn check_that_another_node_may_be_behind(mut history: History) {
    let mut reads: Vec<_> =
        history.operations.iter().filter(|it| matches!(it.what, What::Read("/orders", _))).collect();
    reads.sort_by_key(|it| it.invoked);
    let (old, new) = (reads[0].clone(), reads[reads.len() - 1].clone());
    let end = history.operations.iter().filter_map(|it| it.returned).max().expect("an answer");
    for (later, read) in (1..).zip([old.clone(), new, old]) {
        assert_eq!(check_nodes(&history, NODES + 1), Ok(()));
        history.operations.push(Operation { node: NODES, invoked: end + later, returned: Some(end + later), ..read });
    }
    check_nodes(&history, NODES + 1).expect_err("a node that goes back");
}
