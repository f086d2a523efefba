//! The plan: what subscribers, and the orders that they see, need of edges, cores, memory, network and database.

pub mod measured;
pub mod tables;

use measured::{
    COMMIT, COMMIT_ORDER, CONNECTS, FEED, FOLLOW_AT_200, FOLLOW_AT_2000, KERNEL, RESIDENT, SEND_AT_10, SEND_AT_200,
    SEND_AT_2000, SOCKET,
};

/// The share of a core that the busy thread of an edge may use on average, so that bursts find room.
pub const LOAD: f64 = 0.6;
/// The share of a core that a node may use for its edges; it takes orders too.
pub const NODE_LOAD: f64 = 0.3;
/// Nodes on the database.
pub const NODES: f64 = 10.0;
/// Connections of an edge: the default of `--max-connections`, which the system's default limits allow.
pub const MAX_CONNECTIONS: f64 = 10_000.0;
/// Products of a category, all ordered equally often.
pub const PRODUCTS: f64 = 50.0;
/// The common moments of an interval, at which the products that are due leave in one send (`live::fanout::pace`).
const MOMENTS: f64 = 4.0;

/// Bytes of `{"id":"A1","total":123456}` on the feed, with its frame head.
const MESSAGE_BYTES: f64 = 30.0;
/// Bytes around the messages of a packet: Ethernet with preamble and gap 38, IPv4 20, TCP with timestamps 32.
const PACKET_BYTES: f64 = 90.0;
/// The most bytes of messages in a packet.
const SEGMENT_BYTES: f64 = 1_448.0;

/// What every subscriber follows: a category with so many orders a second, which all edges and nodes carry.
#[derive(Clone, Copy)]
pub struct Feed {
    pub orders: f64,
    /// `every`, in milliseconds; `None` for every order.
    pub every: Option<f64>,
}

impl Feed {
    /// Messages a second to a subscriber.
    pub fn messages(self) -> f64 {
        self.every.map_or(self.orders, |every| self.orders.min(PRODUCTS * 1_000.0 / every))
    }

    /// Sends a second to a subscriber: one for each order, or at the common moments of an interval in which every product is
    /// ordered.
    pub fn sends(self) -> f64 {
        match self.every {
            Some(every) if self.orders * every / 1_000.0 > PRODUCTS => MOMENTS * 1_000.0 / every,
            _ => self.messages(),
        }
    }

    /// Bytes a second to a subscriber, on the wire.
    fn bytes(self) -> f64 {
        let each = self.messages() / self.sends() * MESSAGE_BYTES;
        self.sends() * (each + (each / SEGMENT_BYTES).ceil() * PACKET_BYTES)
    }

    /// CPU of an edge, in cores, with so many subscribers.
    pub fn edge_cores(self, subscribers: f64) -> f64 {
        let follow = between(self.orders, &[(200.0, FOLLOW_AT_200.value), (2_000.0, FOLLOW_AT_2000.value)]);
        let costs = [(10.0, SEND_AT_10.value), (200.0, SEND_AT_200.value), (2_000.0, SEND_AT_2000.value)];
        let send = between(self.sends(), &costs);
        (self.orders * follow + subscribers * self.sends() * send) / 1e6
    }

    /// The subscribers of an edge.
    pub fn per_edge(self) -> f64 {
        let (idle, one) = (self.edge_cores(0.0), self.edge_cores(1.0) - self.edge_cores(0.0));
        ((LOAD - idle) / one).min(MAX_CONNECTIONS).floor()
    }

    /// The time of a send to all subscribers of an edge, in milliseconds: the last one sees an order so much later.
    pub fn round_ms(self) -> f64 {
        (self.edge_cores(self.per_edge()) - self.edge_cores(0.0)) / self.sends() * 1e3
    }

    /// The edges that a server with so much of a core can feed.
    fn feeds(self, cores: f64) -> f64 {
        (cores * 1e6 / (self.orders * FEED.value)).min(MAX_CONNECTIONS).floor()
    }

    /// The layout for so many subscribers.
    pub fn layout(self, subscribers: f64) -> Layout {
        let mut levels = vec![(subscribers / self.per_edge()).ceil()];
        let inner = self.feeds(LOAD - self.edge_cores(0.0));
        while let Some(last) = levels.last()
            && *last > NODES * self.feeds(NODE_LOAD)
        {
            levels.push((last / inner).ceil());
        }
        let edges: f64 = levels.iter().sum();
        let fed = edges - levels.last().copied().unwrap_or(0.0);
        let sending = subscribers * (self.edge_cores(1.0) - self.edge_cores(0.0));
        let cores = sending + edges * self.edge_cores(0.0) + fed * self.orders * FEED.value / 1e6;
        Layout {
            cores: cores / LOAD,
            gib: subscribers * (RESIDENT.value + KERNEL.value + SOCKET.value) * 1e3 / GIB,
            gigabits: subscribers * self.bytes() * 8.0 / 1e9,
            levels,
        }
    }
}

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Edges, and what they need in all.
pub struct Layout {
    /// Edges of each level, those with subscribers first and those that follow nodes last.
    pub levels: Vec<f64>,
    /// Cores, of which [`LOAD`] is used.
    pub cores: f64,
    pub gib: f64,
    /// Gigabits a second to subscribers.
    pub gigabits: f64,
}

/// Seconds until so many subscribers have come back to one edge.
pub fn back_in(subscribers: f64) -> f64 {
    subscribers / CONNECTS.value
}

/// The share of the time in which the database commits, with so many orders a second, each with a commit of its own.
pub fn busy(orders: f64) -> f64 {
    orders * (COMMIT.value + COMMIT_ORDER.value) / 1e3
}

/// The orders of a commit at which the database is busy for [`LOAD`] of the time; `None` if it cannot be.
pub fn orders_a_commit(orders: f64) -> Option<f64> {
    let left = LOAD - orders * COMMIT_ORDER.value / 1e3;
    (left > 0.0).then(|| (orders * COMMIT.value / 1e3 / left).max(1.0))
}

/// The value at `x` on the line between the nearest points, by the logarithm of x; outside, that of the nearest.
fn between(x: f64, points: &[(f64, f64)]) -> f64 {
    let after = points.iter().position(|(at, _)| *at > x).unwrap_or(points.len());
    match (points.get(after.wrapping_sub(1)), points.get(after)) {
        (Some((from, low)), Some((to, high))) => low + (high - low) * (x / from).ln() / (to / from).ln(),
        (Some((_, value)), None) | (None, Some((_, value))) => *value,
        (None, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Feed = Feed { orders: 200.0, every: None };

    #[test]
    fn an_interval_bounds_messages_only_where_products_are_ordered_more_often() {
        let feed = |orders, every| Feed { orders, every: Some(every) };
        assert_eq!((feed(200.0, 100.0).messages(), feed(200.0, 100.0).sends()), (200.0, 200.0));
        assert_eq!((feed(2_000.0, 100.0).messages(), feed(2_000.0, 100.0).sends()), (500.0, 40.0));
        assert_eq!((feed(200.0, 1_000.0).messages(), feed(200.0, 1_000.0).sends()), (50.0, 4.0));
    }

    #[test]
    fn a_full_edge_uses_its_share_of_a_core_or_all_its_connections() {
        let used = PLAIN.edge_cores(PLAIN.per_edge());
        assert!(LOAD - used < 0.001 && used <= LOAD, "{used}");
        assert_eq!(Feed { orders: 10.0, every: None }.per_edge(), MAX_CONNECTIONS);
    }

    #[test]
    fn every_server_feeds_no_more_edges_than_it_can() {
        for subscribers in [1.0, 1e5, 1e6, 1e7, 1e8] {
            let Layout { levels, cores, .. } = PLAIN.layout(subscribers);
            assert!(levels[0] * PLAIN.per_edge() >= subscribers);
            assert!(*levels.last().unwrap() <= NODES * PLAIN.feeds(NODE_LOAD));
            let inner = PLAIN.feeds(LOAD - PLAIN.edge_cores(0.0));
            assert!(levels.windows(2).all(|pair| pair[1] * inner >= pair[0]), "{levels:?}");
            assert!(cores >= subscribers * PLAIN.sends() * SEND_AT_200.value / 1e6 / LOAD);
        }
        assert_eq!((PLAIN.layout(1.0).levels.len(), PLAIN.layout(1e8).levels.len()), (1, 3));
    }

    #[test]
    fn a_message_alone_fills_a_packet_with_its_headers() {
        assert_eq!(PLAIN.bytes(), 200.0 * 120.0);
        let many = Feed { orders: 2_000.0, every: Some(100.0) };
        assert_eq!(many.bytes(), 500.0 * 30.0 + 40.0 * 90.0);
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
}
