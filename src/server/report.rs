//! The log lines about the start and the end of a server.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::Caps;
use crate::store::retention::Retention;

/// What a server has found at its start.
pub(super) struct Start<'a> {
    pub(super) addresses: &'a [SocketAddr],
    /// Where its data are: a file, or the server that this one follows.
    pub(super) place: &'a str,
    /// Whether it is a server.
    pub(super) is_followed: bool,
    /// The sequence number of the last order, which is the number of all of them.
    pub(super) orders: u64,
    pub(super) products: usize,
    pub(super) caps: Caps,
    pub(super) retention: Retention,
}

impl Start<'_> {
    /// The line about the start.
    pub(super) fn line(&self) -> String {
        let Self { addresses, place, is_followed, orders, products, caps, retention } = self;
        let addresses: Vec<_> = addresses.iter().map(|address| format!("http://{address}")).collect();
        let kept = if *is_followed {
            format!("it follows {place}")
        } else {
            format!("{place} has {} and {}", counted(*orders, "order"), counted(*products as u64, "product"))
        };
        let mut line = format!(
            "ordercast {} listens on {}; {kept}; at most {}",
            env!("CARGO_PKG_VERSION"),
            addresses.join(", "),
            counted(caps.connections as u64, "connection"),
        );
        if let Some(connections) = caps.per_address {
            let _ = write!(line, ", {connections} from one address");
        }
        for (cap, what) in [
            (retention.max_keys, "keys"),
            (retention.orders, "orders in the log"),
            (retention.data_bytes, "bytes of data"),
        ] {
            if let Some(cap) = cap {
                let _ = write!(line, ", {cap} {what}");
            }
        }
        line
    }
}

/// The line about the end.
pub(super) fn stop_line(reason: &str, orders: u64, ran: Duration) -> String {
    format!("stopped after {}: {reason}; {} taken in this run", span(ran), counted(orders, "order"))
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// A span of time in its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{:.1} s", time.as_secs_f32()),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_say_what_was_found_and_what_was_done() {
        let addresses = ["127.0.0.1:3000".parse().unwrap(), "[::1]:5050".parse().unwrap()];
        let mut start = Start {
            addresses: &addresses,
            place: "/srv/ordercast.sqlite3",
            is_followed: false,
            orders: 1,
            products: 12,
            caps: Caps { connections: 100, per_address: None },
            retention: Retention::default(),
        };
        let begin = format!(
            "ordercast {} listens on http://127.0.0.1:3000, http://[::1]:5050; /srv/ordercast.sqlite3 has 1 order and 12 \
             products; at most 100 connections",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(start.line(), begin);
        start.caps.per_address = Some(7);
        start.retention.max_keys = Some(8);
        start.retention.orders = Some(9);
        start.retention.data_bytes = Some(1_048_576);
        let caps = ", 7 from one address, 8 keys, 9 orders in the log, 1048576 bytes of data";
        assert_eq!(start.line(), format!("{begin}{caps}"));
        start = Start { place: "http://box.lan", is_followed: true, retention: Retention::default(), ..start };
        assert!(
            start
                .line()
                .ends_with("[::1]:5050; it follows http://box.lan; at most 100 connections, 7 from one address")
        );
        assert_eq!(
            stop_line("SIGTERM", 0, Duration::from_millis(1_234)),
            "stopped after 1.2 s: SIGTERM; 0 orders taken in this run"
        );
    }

    #[test]
    fn a_span_has_two_units() {
        for (seconds, expected) in
            [(61, "1 min 1 s"), (3_599, "59 min 59 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }
}
