//! A recorded history of concurrent clients is linearizable; see `tests/common/history/`.

use std::time::Duration;

use crate::common::history::forgeries::FORGERIES;
use crate::common::history::linear::check;
use crate::common::history::{Plan, record};
use crate::common::load::turn;
use crate::common::{Server, seed};

const PLAN: Plan = Plan {
    pairs: 5,
    orders_each: 200,
    batches: 40,
    longest_pause: Duration::ZERO,
    longest_period: Duration::from_millis(15),
    numbers_a_connection: 100,
};

#[test]
fn what_concurrent_clients_did_and_saw_is_linearizable() {
    let _turn = turn();
    let server = Server::start();
    let history = record(&[server.addr()], &PLAN, seed(), |_| {});
    println!("{}", history.summary());
    check(&history).unwrap_or_else(|why| panic!("{why}"));
    // Everything was answered, and no subscriber began anew.
    assert_eq!((history.lost, history.subscribers.iter().filter(|subscriber| subscriber.has_left).count()), (0, 0));
    for (name, forge) in FORGERIES {
        let mut forged = history.clone();
        forge(&mut forged);
        let refused = check(&forged).expect_err(name);
        println!("{name}: {refused}");
    }
}
