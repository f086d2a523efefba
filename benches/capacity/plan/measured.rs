//! What was measured. All else is computed.

use super::Feed;

/// A figure, and the row that it is from.
pub struct Measured {
    pub what: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub row: &'static str,
}

const fn measured(what: &'static str, value: f64, unit: &'static str, row: &'static str) -> Measured {
    Measured { what, value, unit, row }
}

// Of an edge: two rows at the same rate give the cost of a send to one subscriber, and that of an order whatever the
// subscribers. Sockets that were used long ago have left the caches, so sends cost more at a low rate.
pub const SEND_AT_10: Measured =
    measured("CPU of a send to one subscriber, at 10 a second to each", 4.63, "µs", "10,000 subscribers, 10 orders/s");
pub const SEND_AT_200: Measured =
    measured("the same, at 200 a second", 2.30, "µs", "1,000 and 100 subscribers, 200 orders/s");
pub const SEND_AT_2000: Measured =
    measured("the same, at 2,000 a second", 1.61, "µs", "100 and 10 subscribers, 2,000 orders/s");
pub const MESSAGE: Measured = measured(
    "CPU of each further message of a send",
    0.006,
    "µs",
    "sends of 1,000 and of 1 message (`load -- limits`)",
);
pub const FOLLOW_AT_200: Measured =
    measured("CPU of an order at an edge, at 200 a second", 132.0, "µs", "1,000 and 100 subscribers, 200 orders/s");
pub const FOLLOW_AT_2000: Measured =
    measured("the same, at 2,000 a second", 53.0, "µs", "100 and 10 subscribers, 2,000 orders/s");
pub const FEED: Measured =
    measured("CPU of the followed server for an order to one edge", 5.5, "µs", "16 edges and 1, 2,000 orders/s");
pub const RESIDENT: Measured = measured("resident memory of a subscriber", 10.9, "KB", "5,000 idle subscribers");
pub const KERNEL: Measured = measured(
    "kernel memory of a subscriber",
    23.6,
    "KB",
    "the same: stack 16.0, half of the slab 7.4, page tables 0.2",
);
pub const SOCKET: Measured =
    measured("socket buffers of a subscriber while it reads", 7.2, "KB", "1,000 subscribers, 200 orders/s; both ends");
pub const CONNECTS: Measured =
    measured("subscribers that come back to an edge", 13_400.0, "/s", "5,000 connects, 64 at a time");
pub const COMMIT: Measured =
    measured("a commit in the database", 0.57, "ms", "`make bench-nodes`: pgbench, 1 and 100 orders a call");
pub const COMMIT_ORDER: Measured = measured("each order of it", 0.009, "ms", "the same");

/// Rows that the model does not use: subscribers, their feed, and the CPU of the edge in percent of a core.
pub const CHECKS: [(f64, Feed, f64); 4] = [
    (2_000.0, Feed { orders: 100.0, every: None }, 48.2),
    (500.0, Feed { orders: 400.0, every: None }, 42.2),
    (1_000.0, Feed { orders: 2_000.0, every: Some(100.0) }, 22.5),
    (1_000.0, Feed { orders: 2_000.0, every: Some(1_000.0) }, 8.0),
];

/// All of them, in the order of the document.
pub const ALL: [Measured; 13] = [
    SEND_AT_10,
    SEND_AT_200,
    SEND_AT_2000,
    MESSAGE,
    FOLLOW_AT_200,
    FOLLOW_AT_2000,
    FEED,
    RESIDENT,
    KERNEL,
    SOCKET,
    CONNECTS,
    COMMIT,
    COMMIT_ORDER,
];
