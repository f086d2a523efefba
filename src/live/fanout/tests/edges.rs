//! What a server gets that follows this one.

use super::super::*;
use super::options::{Bench, Client, details, total};
use crate::tally::catalog::CategoryIndex;
use crate::tally::edge::EdgeStart;

fn edge(bench: &Bench, since: &str) -> Client {
    let options = Options { is_edge: true, ..Options::default() };
    bench.subscribe(Feed::All, Format::Positioned, options, Some(since))
}

fn news(number: u64) -> String {
    format!("{{\"news\":{number}}}")
}

fn hide(bench: &Bench, product: u32, is_hidden: bool) {
    bench.catalog.write().unwrap().change_product(ProductIndex(product), details(), is_hidden).unwrap();
    bench.handle.publish_catalog(CategoryIndex(0));
}

#[test]
fn news_come_between_the_orders_before_and_after_them_however_they_were_published() {
    for is_held in [true, false] {
        let bench = Bench::new();
        let mut client = edge(&bench, "run.0.10");
        let first = bench.handle.news();
        assert_eq!(bench.sent(&mut client), [news(first)]);
        if is_held {
            bench.hold();
        }
        bench.publish(&[(11, 0, 1)]);
        bench.handle.publish_period([0, 0, 0].map(total).into(), 11);
        bench.publish(&[(12, 2, 1), (13, 0, 2)]);
        hide(&bench, 0, true);
        bench.publish(&[(14, 2, 2)]);
        let mut sent = bench.sent(&mut client);
        let last = sent.pop();
        assert_eq!(sent[0], "T1 1 run.0.11");
        assert!(sent[1] == news(first + 1) || sent[1] == news(first + 2), "{sent:?}");
        assert_eq!(sent.iter().filter(|it| it.contains(".0.")).count(), 3, "{sent:?}");
        assert_eq!(last.as_deref(), Some("Y1 2 run.0.14"));
        assert_eq!((bench.handle.news(), bench.handle.edge_start().unwrap().news), (first + 2, first + 2));
    }
}

#[test]
fn an_edge_that_was_away_gets_news_and_orders_of_products_that_are_hidden_by_now() {
    let bench = Bench::new();
    bench.publish(&[(11, 0, 1), (12, 2, 1)]);
    hide(&bench, 0, true);
    let mut client = edge(&bench, "run.0.10");
    let number = bench.handle.news();
    assert_eq!(bench.sent(&mut client), [news(number), "T1 1 run.0.11".into(), "Y1 1 run.0.12".into()]);
    let start = bench.handle.edge_start().unwrap();
    let totals = [1, 0, 1].map(total).to_vec();
    let expected =
        EdgeStart { totals, openings: [0; 3].map(total).to_vec(), last_seq: 12, news: number, ..start.clone() };
    assert_eq!((start.runs.last_id(), &start), (Some("run"), &expected));
    hide(&bench, 0, false);
    assert_eq!(bench.sent(&mut client), [news(number + 1)]);
    assert_eq!(bench.handle.edge_start().unwrap().shown_after, Some(12));
}

#[test]
fn an_edge_with_an_unknown_position_is_closed_instead_of_a_snapshot() {
    let bench = Bench::new();
    let mut clients = ["", "other.0.10", "run.0.11"].map(|since| edge(&bench, since));
    bench.settle();
    bench.publish(&[(11, 0, 1)]);
    for client in &mut clients {
        assert_eq!(bench.sent(client), Vec::<String>::new());
    }
}

#[test]
fn other_runs_are_told_before_later_orders_and_are_those_of_every_later_position() {
    let bench = Bench::new();
    let mut client = edge(&bench, "run.0.10");
    bench.sent(&mut client);
    let mut other = bench.subscribe(Feed::All, Format::Positioned, Options::default(), Some("run.0.10"));
    let mut runs = bench.handle.edge_start().unwrap().runs;
    runs.begin("next".to_owned(), 10);
    bench.handle.set_runs(runs);
    bench.publish(&[(11, 0, 1)]);
    assert_eq!(bench.sent(&mut client), [news(bench.handle.news()), "T1 1 next.0.11".into()]);
    assert_eq!(bench.sent(&mut other), ["T1 1 next.0.11"]);
    let mut late = bench.subscribe(Feed::All, Format::Positioned, Options::default(), Some("run.0.10"));
    assert_eq!(bench.sent(&mut late), ["T1 1 next.0.11"]);
}
