//! A server that follows a node: it shows what all nodes commit, says when the node's database is away, and goes on after
//! another primary has taken over.

use std::time::Instant;

use crate::away::order_when_ready;
use crate::common::{Cluster, DEADLINE, Form, Positional, Server, Stop, wait_until};
use crate::failover::{cut_stream, url};
use crate::feeds::{all_stale, told_by};
use crate::nodes::{migrate, node, nodes};

const ELECTRONICS: &str = "/orders/electronics";

/// A server that follows this one.
fn edge_of(server: &Server) -> Server {
    Server::builder().follow(server.addr()).start()
}

#[test]
fn an_edge_of_a_node_shows_the_orders_of_all_nodes_and_says_when_their_database_is_away() {
    let Some((mut cluster, nodes)) = nodes(2) else { return };
    let edge = edge_of(&nodes[0]);
    let edges = [edge_of(&edge), edge];
    let mut told = told_by(&edges);
    let open = |form, server: &Server| Positional::open(form, server.addr(), ELECTRONICS, None);
    let mut feeds = [open(Form::WebSocket, &edges[0]), open(Form::Events, &edges[1])];
    feeds.iter_mut().for_each(|feed| drop(feed.take(2)));
    let mut total = 3;
    for stop in [Stop::Immediate, Stop::Fast] {
        // Over an edge, and at a node that it does not follow.
        for server in [&edges[0], &nodes[1], &edges[1]] {
            server.client().order("A1", 1);
            total += 1;
            for feed in &mut feeds {
                assert_eq!(feed.next().pair(), ("A1".to_owned(), total));
            }
        }
        let begun = Instant::now();
        cluster.stop(stop);
        all_stale(&mut told, begun);
        for edge in &edges {
            assert_eq!(edge.client().get("/readyz").status, 503);
            let refused = edge.client().post("/orders/A1", "{\"amount\":1000}");
            assert!(refused.status == 503 && refused.header("retry-after").is_some(), "{refused:?}");
        }
        cluster.restart();
        told.iter_mut().for_each(|feed| feed.until_live(DEADLINE));
        assert_eq!(edges[0].total("A1"), total);
    }
}

#[test]
fn subscribers_of_an_edge_begin_anew_when_a_takeover_has_lost_orders() {
    let Some(mut primary) = Cluster::start() else { return };
    migrate(&primary.url(), &[]);
    let standby = primary.standby();
    let node = node(&url(&primary, &standby));
    let edge = edge_of(&node);
    edge.client().order("A1", 10);
    let total = || standby.try_sql("SELECT total FROM ordercast.totals WHERE product = 1").unwrap_or_default();
    wait_until(DEADLINE, "the standby has the order", || total() == "13");
    cut_stream(&primary, &standby);
    edge.client().order("A1", 100);
    let mut feed = Positional::open(Form::Events, edge.addr(), ELECTRONICS, None);
    let seen = feed.take(2);
    assert!(seen.iter().any(|step| step.pair() == ("A1".to_owned(), 113)), "{seen:?}");
    primary.kill();
    standby.promote();
    order_when_ready(edge.addr(), "A1", 1);
    wait_until(DEADLINE, "the edge has the totals of the new primary", || edge.total("A1") == node.total("A1"));
    // A snapshot, and then the order, or a snapshot with it.
    let total = node.total("A1");
    let mut totals = Vec::new();
    while totals.last() != Some(&total) {
        let step = feed.next();
        totals.extend((step.id == "A1").then_some(step.total));
    }
    assert_eq!(edge.client().get("/orders").text(), node.client().get("/orders").text());
}
