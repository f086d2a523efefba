//! The files of the database are put back as they were before: positions of what is gone are not taken for those of what
//! came since.

use crate::away::order_when_ready;
use crate::common::{Form, Positional, Step, Stop, order_log};
use crate::nodes::nodes;

const ELECTRONICS: &str = "/orders/electronics";

#[test]
fn a_position_of_orders_that_are_gone_with_older_files_of_the_database_is_answered_with_a_snapshot() {
    let Some((mut cluster, mut nodes)) = nodes(1) else { return };
    let node = nodes.remove(0);
    node.client().order("A1", 1);
    cluster.stop(Stop::Fast);
    let files = cluster.copy_of_files();
    cluster.restart();
    order_when_ready(node.addr(), "A1", 10);
    let mut feed = Positional::open(Form::Events, node.addr(), ELECTRONICS, None);
    let position = feed.take(2).pop().and_then(|step| step.position).expect("a position");
    assert!(position.ends_with(".2"), "{position}");
    cluster.stop(Stop::Immediate);
    cluster.put_back(&files);
    cluster.restart();
    for _ in 0..3 {
        order_when_ready(node.addr(), "A2", 1);
    }
    // The subscriber who was there, and one who comes back.
    let totals = |feed: &mut Positional| feed.take(2).iter().map(Step::pair).collect::<Vec<_>>();
    let resumed = &mut Positional::open(Form::WebSocket, node.addr(), ELECTRONICS, Some(&position));
    assert_eq!(totals(resumed), [("A1".to_owned(), 4), ("A2".to_owned(), 10)]);
    assert_eq!(totals(&mut feed)[0], ("A1".to_owned(), 4));
    let lost = "the database has lost the orders from number 2 to 2, although they were answered";
    assert!(node.log().contains(lost), "{}", node.log());
    assert_eq!(order_log::read_from(node.addr(), 0).expect("a log").len(), 4);
}

#[test]
fn a_server_that_has_followed_another_log_begins_a_run_and_one_that_has_not_does_not() {
    let Some((cluster, nodes)) = nodes(1) else { return };
    nodes[0].client().order("A1", 1);
    nodes[0].client().order("A1", 1);
    let run = cluster.sql("SELECT id FROM ordercast.runs");
    let line = cluster.sql("SELECT at_ms FROM ordercast.orders WHERE seq = 2");
    let joined = |known: &str| {
        let sql = format!("BEGIN; SELECT 'begun: ' || has_begun FROM ordercast.join('new', {known}); ROLLBACK");
        cluster.sql(&sql).contains("begun: true")
    };
    for (known, has_begun) in [
        ("NULL, 0, NULL".to_owned(), false),
        (format!("'{run}', 0, NULL"), false),
        (format!("'{run}', 2, NULL"), false),
        (format!("'{run}', 2, {line}"), false),
        (format!("'{run}', 2, {line} + 1"), true),
        (format!("'{run}', 3, NULL"), true),
        // Of a former run more may be known, and its lines may be others.
        ("'former', 3, 7".to_owned(), false),
    ] {
        assert_eq!(joined(&known), has_begun, "{known}");
    }
    // What docs/scaling.md says to do where no node is left that has followed more.
    cluster.sql("UPDATE ordercast.head SET cluster = NULL");
    assert!(joined("NULL, 0, NULL"));
}
