//! The posters: one thread and one connection for each lane, which posts as fast as possible or at an interval, and
//! checks every answer.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::common::{Client, Random, Reply, WebSocket};
use crate::histogram::Histogram;
use crate::plan::BATCH;
use crate::shared::{Kind, Lane, Shared, count, lane_id};

/// The token of all posters, which stays valid through every reload.
pub const TOKEN: &str = "soak-poster-0123456789";
pub const AUTHORIZATION: (&str, &str) = ("Authorization", "Bearer soak-poster-0123456789");
/// How a WebSocket client offers the token.
pub const OFFER: (&str, &str) = ("Sec-WebSocket-Protocol", "bearer, soak-poster-0123456789");
pub const JSON: (&str, &str) = ("Content-Type", "application/json");
const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");
const OK: &str = "{\"ok\":true}";

/// A keyed order in so many is sent again after its answer.
const REPEAT_ONE_IN: u64 = 20;
/// Between two orders over a WebSocket: the server takes 20 messages a second.
const SOCKET_EVERY: Duration = Duration::from_millis(100);
/// A poster that is further behind its schedule gives the rest up: the rate shows it.
const MAX_BEHIND: Duration = Duration::from_millis(500);

/// When a poster's next request is due.
struct Schedule(Instant);

impl Schedule {
    /// Waits until the next request is due. Without an interval it is due at once.
    fn wait(&mut self, interval: Duration) {
        let now = Instant::now();
        if interval.is_zero() {
            self.0 = now;
            return;
        }
        self.0 += interval;
        match self.0.checked_duration_since(now) {
            Some(left) => std::thread::sleep(left),
            None if now - self.0 > MAX_BEHIND => self.0 = now,
            None => {}
        }
    }
}

/// Posts to one lane until the run ends.
pub fn post(shared: &Shared, addr: SocketAddr, index: usize, mut random: Random) {
    let lane = &shared.lanes[index];
    if lane.kind == Kind::Socket {
        return post_over_a_socket(shared, addr, index);
    }
    let mut client = Client::connect(addr);
    let mut schedule = Schedule(Instant::now());
    let id = lane_id(index);
    while shared.is_running() {
        schedule.wait(shared.interval(lane.kind));
        let number = lane.sent.load(Ordering::Relaxed) + 1;
        let orders = if matches!(lane.kind, Kind::Batch | Kind::KeyedBatch) { BATCH as u64 } else { 1 };
        let key = format!("{id}-{number}");
        let begun = Instant::now();
        lane.sending(orders, shared.now());
        let reply = request(&mut client, lane.kind, &id, &key);
        let elapsed = begun.elapsed();
        match reply {
            Ok(reply) if is_right(&reply, lane.kind, &key) => {
                lane.answered.fetch_add(orders, Ordering::Release);
                if orders == 1 {
                    record(&shared.posts, elapsed);
                }
                if lane.kind == Kind::Keyed && random.once_in(REPEAT_ONE_IN) {
                    count(&shared.counts.repeats);
                    match request(&mut client, lane.kind, &id, &key) {
                        Ok(reply) if is_right(&reply, lane.kind, &key) => {}
                        other => shared.fault(format!("the repeat of {key} got {other:?}")),
                    }
                }
            }
            Ok(reply) if matches!(reply.status, 503 | 507) => {
                lane.rejected(orders);
                count(&shared.counts.rejected);
                shared.fault(format!(
                    "an order for {id} got {}: {}",
                    reply.status,
                    String::from_utf8_lossy(&reply.body)
                ));
                client = Client::connect(addr);
            }
            other => {
                shared.fault(format!("an order for {id} got {other:?}"));
                shared.stop();
                return;
            }
        }
    }
}

fn record(histogram: &Mutex<Histogram>, elapsed: Duration) {
    histogram.lock().unwrap_or_else(PoisonError::into_inner).record(elapsed.as_nanos() as u64);
}

/// Sends the next request of a lane, whose orders have the amount 1.
fn request(client: &mut Client, kind: Kind, id: &str, key: &str) -> io::Result<Reply> {
    let single = format!("/orders/{id}");
    match kind {
        Kind::Batch => {
            let order = format!("{{\"id\":\"{id}\",\"amount\":1}}");
            let body = format!("[{}]", vec![order; BATCH].join(","));
            let quoted = format!("\"{key}\"");
            client.try_request("POST", "/orders", &[JSON, AUTHORIZATION, ("Idempotency-Key", &quoted)], body.as_bytes())
        }
        Kind::KeyedBatch => {
            let line = |number| format!("{{\"id\":\"{id}\",\"amount\":1,\"key\":\"{key}-{number}\"}}\n");
            let body: String = (0..BATCH).map(line).collect();
            client.try_request("POST", "/orders", &[NDJSON, AUTHORIZATION], body.as_bytes())
        }
        Kind::Keyed => {
            let body = format!("{{\"amount\":1,\"key\":\"{key}\"}}");
            client.try_request("POST", &single, &[JSON, AUTHORIZATION], body.as_bytes())
        }
        _ => client.try_request("POST", &single, &[JSON, AUTHORIZATION], b"{\"amount\":1}"),
    }
}

fn is_right(reply: &Reply, kind: Kind, key: &str) -> bool {
    let expected = match kind {
        Kind::Batch => format!("[{}]", vec![OK; BATCH].join(",")),
        Kind::KeyedBatch => (0..BATCH).map(|number| format!("{{\"ok\":true,\"key\":\"{key}-{number}\"}}\n")).collect(),
        _ => OK.to_owned(),
    };
    reply.status == 200 && reply.body == expected.as_bytes()
}

/// Sends `add-order` commands on the feed of its own category, whose totals it skips.
fn post_over_a_socket(shared: &Shared, addr: SocketAddr, index: usize) {
    let lane: &Lane = &shared.lanes[index];
    let id = lane_id(index);
    let open = WebSocket::try_open(addr, "/orders/quiet", &[OFFER]);
    let mut session = open.unwrap_or_else(|reply| panic!("the handshake was rejected: {reply:?}"));
    while shared.pause(SOCKET_EVERY) {
        let key = format!("{id}-{}", lane.sent.load(Ordering::Relaxed) + 1);
        let payload = format!("{{\"id\":\"{id}\",\"amount\":1,\"key\":\"{key}\"}}");
        lane.sending(1, shared.now());
        let sent = session.try_send(&format!("{{\"cmd\":\"add-order\",\"payload\":{payload}}}"));
        let answer = sent.and_then(|()| {
            loop {
                let text = session.try_text()?;
                // Between two answers come totals of products that were hidden and are shown again.
                if !text.starts_with("{\"id\":\"Q") {
                    return Ok(text);
                }
            }
        });
        if answer.as_ref().is_ok_and(|text| *text == format!("{{\"ok\":true,\"key\":\"{key}\"}}")) {
            lane.answered.fetch_add(1, Ordering::Release);
        } else {
            shared.fault(format!("the order {key} over a WebSocket got {answer:?}"));
            return;
        }
    }
}
