//! What subscribers get when everything that was published is replaced.

use super::super::*;
use super::options::{Bench, TOOLS, TOYS, details, every, total};
use crate::tally::catalog::CategoryIndex;

/// The stored orders went back to number 8, and a product was added there.
fn replacement(keeps_categories: bool) -> Replacement {
    let mut runs = RunList::default();
    for (id, after) in [("old", 0), ("run", 10), ("next", 8)] {
        runs.begin(id.to_owned(), after);
    }
    let totals = [5, 6, 7, 1].map(total).to_vec();
    let openings = [5, 5, 5, 0].map(total).to_vec();
    Replacement {
        totals,
        openings,
        opened_after: 7,
        opened_before: vec![],
        last_seq: 8,
        shown_after: Some(8),
        runs,
        keeps_categories,
    }
}

#[test]
fn every_subscriber_gets_a_snapshot_and_then_what_follows_with_positions_of_the_new_run() {
    let bench = Bench::new();
    let period = Options { counts: Counts::Period, ..Options::default() };
    let mut plain = bench.subscribe(TOOLS, Format::Plain, Options::default(), None);
    let mut positioned = bench.subscribe(TOYS, Format::Positioned, Options::default(), None);
    let mut paced = bench.subscribe(TOYS, Format::Plain, every(60_000), None);
    let mut of_period = bench.subscribe(TOOLS, Format::Events, period, None);
    for client in [&mut plain, &mut positioned, &mut paced, &mut of_period] {
        bench.sent(client);
    }
    // The first is sent at once, the second waits for the minute to end.
    bench.publish(&[(11, 2, 8)]);
    assert_eq!(bench.sent(&mut paced), ["Y1 8"]);
    bench.publish(&[(12, 2, 9)]);
    assert_eq!((bench.sent(&mut positioned).len(), bench.sent(&mut paced).len()), (2, 0));
    bench.hold();
    bench.publish(&[(13, 0, 99)]);
    bench.catalog.write().unwrap().add_product(CategoryIndex(1), "Y2", details()).unwrap();
    bench.handle.replace(replacement(true));
    assert_eq!(bench.handle.last_seq(), 8);
    bench.publish(&[(9, 3, 2)]);
    assert_eq!(bench.sent(&mut plain), ["T1 5", "T2 6"]);
    let sent = bench.sent(&mut positioned);
    assert_eq!(sent, ["Y1 7 next.2.snapshot", "Y2 2 next.2.9"]);
    assert_eq!(bench.sent(&mut paced), ["Y1 7", "Y2 2"]);
    assert_eq!(bench.sent(&mut of_period), ["data: T1 0", "id: next.1p.9\ndata: T2 1"]);
    // Later orders come as ever.
    bench.publish(&[(10, 2, 17)]);
    assert_eq!(bench.sent(&mut positioned), ["Y1 17 next.2.10"]);
    // Orders that were taken back had positions that are unknown now, and every position up to there may lack a product.
    for since in ["run.2.12", "run.2.9", "run.2.8", "old.2.3"] {
        let mut client = bench.subscribe(TOYS, Format::Positioned, Options::default(), Some(since));
        assert_eq!(bench.sent(&mut client).len(), 2, "{since}");
    }
    let mut client = bench.subscribe(TOYS, Format::Positioned, Options::default(), Some("next.2.9"));
    assert_eq!(bench.sent(&mut client), ["Y1 17 next.2.10"]);
}

#[test]
fn subscribers_are_reset_when_categories_have_other_places() {
    let bench = Bench::new();
    let mut client = bench.subscribe(TOOLS, Format::Plain, Options::default(), None);
    bench.sent(&mut client);
    bench.handle.replace(replacement(false));
    bench.settle();
    assert!(client.subscriber.is_closed());
}
