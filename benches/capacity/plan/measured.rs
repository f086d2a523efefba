//! What was measured. All else is computed.

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

// Of an edge: the line through two rows at the same rate gives the cost of a send to one subscriber, and that of an order,
// whatever the subscribers. Sockets that were used long ago have left the caches, so sends cost more at a low rate.
pub const SEND_AT_10: Measured = measured("CPU of a send to one subscriber, 10 a second to each", 0.0, "µs", "");
pub const SEND_AT_200: Measured = measured("the same, 200 a second", 2.30, "µs", "");
pub const SEND_AT_2000: Measured = measured("the same, 2,000 a second", 1.61, "µs", "");
pub const FOLLOW_AT_200: Measured = measured("CPU of an order at an edge, 200 a second", 132.0, "µs", "");
pub const FOLLOW_AT_2000: Measured = measured("the same, 2,000 a second", 53.0, "µs", "");
pub const FEED: Measured = measured("CPU of the followed server for an order to one edge more", 5.5, "µs", "");
pub const RESIDENT: Measured = measured("resident memory of a subscriber", 0.0, "KB", "");
pub const KERNEL: Measured = measured("kernel memory of a subscriber: stack, page tables, half of the slab", 0.0, "KB", "");
pub const SOCKET: Measured = measured("socket buffers of a subscriber at 200 sends a second", 8.0, "KB", "");
pub const CONNECTS: Measured = measured("subscribers that come back to an edge", 0.0, "/s", "");
pub const COMMIT: Measured = measured("a commit in the database", 0.0, "ms", "");
pub const COMMIT_ORDER: Measured = measured("each order in it", 0.0, "ms", "");

/// All of them, in the order of the document.
pub const ALL: [Measured; 12] = [
    SEND_AT_10,
    SEND_AT_200,
    SEND_AT_2000,
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
