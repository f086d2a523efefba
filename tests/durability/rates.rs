//! Rates after a restart: the same as without it.

use crate::common::load::pipeline_orders;
use crate::common::order_log::read_from;
use crate::common::rates::rates;
use crate::common::{DEADLINE, Server, TempDir, wait_until};

#[test]
fn rates_are_the_same_after_a_kill_and_after_a_stop_and_go_on_from_there() {
    let mut server = Server::start();
    for is_killed in [true, false, true] {
        // In the end more lines than are read at a time.
        pipeline_orders(server.addr(), 5, 1_000);
        server.client().order("B1", -7);
        let before = rates(&mut server.client(), "/rates");
        let log = read_from(server.addr(), 0).expect("the log can be read");
        before.check(&log);
        if !is_killed {
            assert_eq!(server.terminate().code(), Some(0));
        }
        server.restart();
        let after = rates(&mut server.client(), "/rates");
        after.check(&log);
        let ordered = |of: &crate::common::rates::Rates| -> Vec<_> {
            of.products.iter().map(|product| product.ordered.clone()).collect()
        };
        assert_eq!(ordered(&after), ordered(&before));
        server.client().order("A2", 3);
        rates(&mut server.client(), "/rates").check(&read_from(server.addr(), 0).expect("the log can be read"));
    }
}

#[test]
fn rates_after_a_restart_have_as_many_orders_as_the_log_keeps() {
    let mut server = Server::builder().arg("--keep-orders").arg("100").start();
    pipeline_orders(server.addr(), 4, 500);
    let kept = |server: &Server| read_from(server.addr(), 0).expect("the log can be read");
    // Old orders are deleted by later commits.
    wait_until(DEADLINE, "the old orders are deleted", || {
        server.client().order("A1", 1);
        kept(&server).len() <= 100
    });
    let log = kept(&server);
    let sum = |server: &Server| -> i64 {
        let read = rates(&mut server.client(), "/rates");
        read.products.iter().flat_map(|product| &product.amounts).sum()
    };
    assert_eq!(sum(&server), log.last().expect("an order").seq as i64, "the server has counted all of them");
    server.restart();
    assert_eq!(sum(&server), 100);
    rates(&mut server.client(), "/rates/electronics").check(&log);
}

#[test]
fn the_starting_total_of_a_product_that_a_catalogue_adds_is_no_order_after_a_restart_either() {
    let catalogue = |products: &str| format!("{{\"drinks\":{{\"prefix\":\"D\",\"products\":[{products}]}}}}");
    let product = |id: &str, total: i64| {
        format!("{{\"id\":\"{id}\",\"name\":\"x\",\"rrp\":\"1\",\"info\":\"\",\"total\":{total}}}")
    };
    let folder = TempDir::new();
    let first = Server::builder().data(folder.path()).catalog(&catalogue(&product("D1", 5))).start();
    first.client().order("D1", 2);
    drop(first);
    let both = catalogue(&format!("{},{}", product("D1", 5), product("D2", 7)));
    let mut server = Server::builder().data(folder.path()).catalog(&both).start();
    for _ in 0..2 {
        let log = read_from(server.addr(), 0).expect("the log can be read");
        assert_eq!((log[1].id.as_str(), log[1].amount, log.len()), ("D2", 7, 2), "the log shows its starting total");
        rates(&mut server.client(), "/rates/drinks").check(&log[..1]);
        server.restart();
    }
}
