//! The plan for a million subscribers in docs/scaling.md, and the model in `benches/capacity` that computes it.

#[path = "../../benches/capacity/plan/mod.rs"]
mod plan;

use std::fs;
use std::path::Path;

use plan::measured::{COMMIT, COMMIT_ORDER, SEND_AT_200};
use plan::tables::{self, number};
use plan::{Feed, LOAD, Layout, MAX_CONNECTIONS, NODE_LOAD, NODES, between, orders_a_commit};

const PLAIN: Feed = Feed { orders: 200.0, every: None };

#[test]
fn an_interval_bounds_messages_only_where_products_are_ordered_more_often() {
    let feed = |orders, every| Feed { orders, every: Some(every) };
    let of = |feed: Feed| (feed.messages(), feed.wanted_sends());
    assert_eq!(of(feed(200.0, 100.0)), (200.0, 200.0));
    assert_eq!(of(feed(2_000.0, 100.0)), (500.0, 40.0));
    assert_eq!(of(feed(200.0, 1_000.0)), (50.0, 4.0));
}

#[test]
fn an_edge_that_is_busy_sends_several_orders_at_a_time() {
    let few = PLAIN.edge(100.0);
    assert_eq!((few.sends, few.round), (200.0, 100.0 * SEND_AT_200.value / 1e6));
    let many = PLAIN.edge(10_000.0);
    assert!(many.sends < 50.0 && (many.fanout - 1.0).abs() < 0.001, "{} {}", many.sends, many.fanout);
}

#[test]
fn a_full_edge_keeps_to_its_round_and_its_connections() {
    for orders in [1.0, 10.0, 200.0, 2_000.0, 20_000.0] {
        for round in [0.001, 0.005, 0.05, 1.0] {
            let edge = Feed { orders, every: None }.full_edge(round);
            assert!(edge.round <= round * 1.02 && edge.subscribers <= MAX_CONNECTIONS, "{orders} {round}");
            assert!(edge.round > round * 0.9 || edge.subscribers == MAX_CONNECTIONS, "{orders} {round}");
        }
    }
}

#[test]
fn every_server_feeds_no_more_edges_than_it_can() {
    for subscribers in [1.0, 1e5, 1e6, 1e7, 1e8] {
        let Layout { edge, levels, cores, .. } = PLAIN.layout(subscribers, 0.005);
        assert!(levels[0] * edge.subscribers >= subscribers);
        assert!(*levels.last().unwrap() <= NODES * PLAIN.feeds(NODE_LOAD));
        let inner = PLAIN.feeds(LOAD - edge.follow);
        assert!(levels.windows(2).all(|pair| pair[1] * inner >= pair[0]), "{levels:?}");
        assert!(cores >= levels[0]);
    }
    assert_eq!([1.0, 1e7].map(|subscribers| PLAIN.layout(subscribers, 0.005).levels.len()), [1, 2]);
}

#[test]
fn orders_share_commits_only_when_the_database_is_busy() {
    let limit = LOAD * 1e3 / (COMMIT.value + COMMIT_ORDER.value);
    assert_eq!(orders_a_commit(limit * 0.9), Some(1.0));
    assert!(orders_a_commit(limit * 2.0).is_some_and(|orders| orders > 2.0));
    assert_eq!(orders_a_commit(LOAD * 1e3 / COMMIT_ORDER.value), None);
}

#[test]
fn values_between_two_points_are_on_the_line_of_logarithms() {
    let points = [(10.0, 4.0), (1_000.0, 2.0)];
    assert_eq!([1.0, 10.0, 100.0, 1_000.0, 5_000.0].map(|x| between(x, &points)), [4.0, 4.0, 3.0, 2.0, 2.0]);
}

#[test]
fn numbers_have_three_digits_and_commas() {
    let texts = [0.0543, 0.3456, 2.0, 5.5, 2.345, 23.46, 234.5, 1_234.0, 12_345.0, 1e7].map(number);
    assert_eq!(texts, ["0.054", "0.346", "2", "5.5", "2.35", "23.5", "235", "1,230", "12,300", "10,000,000"]);
}

#[test]
fn the_tables_of_the_plan_for_a_million_subscribers_are_those_of_the_model() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scaling.md")).unwrap();
    for table in tables::all() {
        assert!(
            page.contains(&table),
            "docs/scaling.md does not have this table, which `make capacity` prints:\n{table}"
        );
    }
}
