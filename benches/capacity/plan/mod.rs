//! The plan: what subscribers, and the orders that they see, need of edges, cores, memory, network and database.

pub mod measured;
pub mod tables;

use measured::{
    COMMIT, COMMIT_ORDER, CONNECTS, FEED, FOLLOW_AT_200, FOLLOW_AT_2000, KERNEL, MESSAGE, RESIDENT, SEND_AT_10,
    SEND_AT_200, SEND_AT_2000, SOCKET,
};

/// The share of a core that a server may use on average where work must not wait for it.
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

    /// Sends a second to a subscriber of an edge that is not busy: one for each order, or at the common moments of an interval
    /// in which every product is ordered.
    pub fn wanted_sends(self) -> f64 {
        match self.every {
            Some(every) if self.orders * every / 1_000.0 > PRODUCTS => MOMENTS * 1_000.0 / every,
            _ => self.messages(),
        }
    }

    /// CPU of a send, in µs, at so many a second.
    fn send_us(self, sends: f64) -> f64 {
        let costs = [(10.0, SEND_AT_10.value), (200.0, SEND_AT_200.value), (2_000.0, SEND_AT_2000.value)];
        between(sends, &costs) + (self.messages() / sends - 1.0).max(0.0) * MESSAGE.value
    }

    /// CPU of an edge for the orders that it follows, in cores.
    fn follow_cores(self) -> f64 {
        self.orders * between(self.orders, &[(200.0, FOLLOW_AT_200.value), (2_000.0, FOLLOW_AT_2000.value)]) / 1e6
    }

    /// An edge with so many subscribers. Orders that come during a round of sends leave together in the next one, so a
    /// round that takes long makes fewer of them.
    pub fn edge(self, subscribers: f64) -> Edge {
        let mut sends = self.wanted_sends();
        for _ in 0..STEPS {
            sends = self.wanted_sends().min(1e6 / (subscribers * self.send_us(sends)));
        }
        let round = subscribers * self.send_us(sends) / 1e6;
        Edge { subscribers, sends, round, fanout: sends * round, follow: self.follow_cores() }
    }

    /// The edge with the most subscribers whose round takes at most so many seconds.
    pub fn full_edge(self, round: f64) -> Edge {
        let sends = self.wanted_sends().min(1.0 / round);
        self.edge((round * 1e6 / self.send_us(sends)).min(MAX_CONNECTIONS).floor())
    }

    /// The edges that a server with so much of a core can feed.
    pub fn feeds(self, cores: f64) -> f64 {
        (cores * 1e6 / (self.orders * FEED.value)).min(MAX_CONNECTIONS).floor()
    }

    /// The layout for so many subscribers, at edges with such a round.
    pub fn layout(self, subscribers: f64, round: f64) -> Layout {
        let edge = self.full_edge(round);
        let mut levels = vec![(subscribers / edge.subscribers).ceil()];
        let inner = self.feeds(LOAD - edge.follow);
        while let Some(last) = levels.last()
            && *last > NODES * self.feeds(NODE_LOAD)
        {
            levels.push((last / inner).ceil());
        }
        // An edge that sends without a pause has a core for that; one that does not has room for bursts.
        let each = (edge.fanout / LOAD).min(1.0) + edge.follow / LOAD;
        let others: f64 = levels[1..].iter().sum();
        let fed = levels[..levels.len() - 1].iter().sum::<f64>() * self.orders * FEED.value / 1e6;
        let bytes = self.messages() / edge.sends * MESSAGE_BYTES;
        Layout {
            cores: levels[0] * each + (others * edge.follow + fed) / LOAD,
            gib: subscribers * (RESIDENT.value + KERNEL.value + SOCKET.value) * 1_024.0 / GIB,
            gigabits: subscribers * edge.sends * (bytes + (bytes / SEGMENT_BYTES).ceil() * PACKET_BYTES) * 8.0 / 1e9,
            edge,
            levels,
        }
    }
}

/// Repetitions after which the rate of sends changes no more.
const STEPS: usize = 500;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// What an edge with subscribers does.
pub struct Edge {
    pub subscribers: f64,
    /// Sends a second to each subscriber.
    pub sends: f64,
    /// Seconds of a send to all.
    pub round: f64,
    /// CPU for them, and for the orders that it follows, in cores.
    pub fanout: f64,
    pub follow: f64,
}

/// Edges, and what they need in all.
pub struct Layout {
    pub edge: Edge,
    /// Edges of each level, those with subscribers first and those that follow nodes last.
    pub levels: Vec<f64>,
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
pub fn between(x: f64, points: &[(f64, f64)]) -> f64 {
    let after = points.iter().position(|(at, _)| *at > x).unwrap_or(points.len());
    match (points.get(after.wrapping_sub(1)), points.get(after)) {
        (Some((from, low)), Some((to, high))) => low + (high - low) * (x / from).ln() / (to / from).ln(),
        (Some((_, value)), None) | (None, Some((_, value))) => *value,
        (None, None) => f64::NAN,
    }
}
