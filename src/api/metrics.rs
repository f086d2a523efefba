//! `GET /metrics`: what the layers have counted, as text for Prometheus. Owns the names. Every layer has counters of its own,
//! which are read here and nowhere else; no label comes from a client, so the number of lines is fixed.

use std::sync::Arc;

use super::exposition::{Exposition, MEDIA_TYPE};
use crate::http::counters::Counters;
use crate::http::response::{Answer, Body};
use crate::ledger::{LedgerHandle, Readiness, Rejection};
use crate::live::fanout::{FanoutHandle, Format};
use crate::live::slow_sockets::SlowSockets;
use crate::store::{Figures, now_ms};

/// Nanoseconds of a second.
const NANOSECONDS: f64 = 1e9;
/// Why orders may be refused, by the names that their rejections have.
const REFUSALS: [&str; 5] = ["store_full", "store_failed", "store_unusable", "store_hangs", "store_away"];

/// Where the numbers come from.
pub struct Metrics {
    /// Connections and answers.
    pub connections: Arc<Counters>,
    /// The most connections at a time.
    pub max_connections: usize,
    /// Orders, commits and the data file.
    pub ledger: LedgerHandle,
    /// Subscribers.
    pub fanout: FanoutHandle,
    /// Subscribers whose socket is full.
    pub slow_sockets: Arc<SlowSockets>,
    /// When the server was started, in milliseconds since 1970 (UTC).
    pub started_ms: u64,
}

impl Metrics {
    /// All metrics, also while the disk hangs.
    #[inline(never)]
    pub(super) fn answer(&self) -> Answer {
        // First, so that a ledger that has just been started has tried the disk.
        let figures = self.ledger.figures();
        let mut text = Exposition::default();
        self.push_server(&mut text);
        self.push_orders(&mut text);
        self.push_connections(&mut text);
        self.push_feeds(&mut text);
        push_store(&mut text, &figures);
        Answer::new(200, MEDIA_TYPE, Body::Owned(text.into_text().into_bytes())).with("Cache-Control", "no-store")
    }

    fn push_server(&self, text: &mut Exposition) {
        let version = [(env!("CARGO_PKG_VERSION"), 1)];
        text.gauges("ordercast_build_info", "The version, as a label of the number 1.", "version", version);
        let started = self.started_ms as f64 / 1e3;
        text.gauge(
            "ordercast_start_time_seconds",
            "When the server was started, in seconds since 1970 (UTC).",
            started,
        );
        let refusal = match self.ledger.last_readiness() {
            Readiness::Ready => None,
            Readiness::Failing(Rejection::StoreFull | Rejection::StoreAtCap) => Some("store_full"),
            Readiness::Away | Readiness::Failing(Rejection::StoreAway) => Some("store_away"),
            Readiness::Failing(Rejection::StoreUnusable(_) | Rejection::StoreForbidden) => Some("store_unusable"),
            Readiness::Failing(_) => Some("store_failed"),
            Readiness::Hanging => Some("store_hangs"),
        };
        let help = "Whether orders can be taken: 1, or 0 while they are refused.";
        let is_stale = self.fanout.is_stale();
        text.gauge("ordercast_ready", help, u64::from(refusal.is_none() && !is_stale));
        let help =
            "Whether totals may be older than what is stored, because the server does not hear of new ones: 1 or 0.";
        text.gauge("ordercast_stale", help, u64::from(is_stale));
        let refusals = REFUSALS.map(|reason| (reason, u64::from(refusal == Some(reason))));
        let help = "Whether orders are refused for this reason: 1 or 0.";
        text.gauges("ordercast_refusing_orders", help, "reason", refusals);
    }

    fn push_orders(&self, text: &mut Exposition) {
        let counters = self.ledger.counters();
        let help = "Orders that were counted and are on disk.";
        text.counter("ordercast_orders_total", help, counters.orders.get());
        let help = "Orders that were not counted again, because their key was known.";
        text.counter("ordercast_repeats_total", help, counters.repeats.get());
        let help = "Orders, batches and changes that the ledger rejected, by reason.";
        text.counters("ordercast_rejections_total", help, "reason", counters.rejections());
        let help = "Time of a commit.";
        text.histogram("ordercast_commit_seconds", help, &counters.commit_times.read(), NANOSECONDS);
        let help = "Time of the last step of a commit: writing the log of the data file, and the sync.";
        text.histogram("ordercast_sync_seconds", help, &counters.sync_times.read(), NANOSECONDS);
        let help = "Orders in a commit.";
        text.histogram("ordercast_commit_orders", help, &counters.commit_orders.read(), 1.0);
        let help = "Commits that failed, and probes of a disk that fails.";
        text.counter("ordercast_failed_commits_total", help, counters.failed_commits.get());
        let age = counters.since_commit().map(|age| age.as_secs_f64());
        let help = "Seconds since the data file was last written and synced.";
        text.gauge_if_known("ordercast_last_commit_age_seconds", help, age);
    }

    fn push_connections(&self, text: &mut Exposition) {
        let Counters { accepted, open, rejected_by_server, rejected_by_address, pauses, .. } = &*self.connections;
        let name = |status| if status == 0 { "other".to_owned() } else { u16::to_string(&status) };
        let answers = self.connections.answers().map(|(status, count)| (name(status), count));
        text.counters("ordercast_responses_total", "Responses to requests, by status code.", "code", answers);
        text.gauge("ordercast_connections_open", "Connections that are open.", open.get());
        text.gauge("ordercast_connections_max", "The most connections at a time.", self.max_connections);
        text.counter("ordercast_connections_accepted_total", "Connections that were accepted.", accepted.get());
        let help = "Connections that got 503, by the cap that was reached: of the server, or of one client address.";
        let rejected = [("server", rejected_by_server.get()), ("address", rejected_by_address.get())];
        text.counters("ordercast_connections_rejected_total", help, "cap", rejected);
        let help = "Pauses of accepting, because no descriptor, memory or thread was left.";
        text.counter("ordercast_accept_pauses_total", help, pauses.get());
    }

    fn push_feeds(&self, text: &mut Exposition) {
        let (fanout, slow) = (self.fanout.counters(), self.slow_sockets.counters());
        let name = |format| match format {
            Format::Plain => "websocket",
            Format::Positioned => "websocket_positions",
            Format::Events => "events",
        };
        let subscribers = fanout.subscribers().map(|(format, count)| (name(format), count));
        text.gauges("ordercast_subscribers", "Subscribers, by the format of their feed.", "format", subscribers);
        let help = "Totals and notices that were sent to a subscriber, or queued for one.";
        text.counter("ordercast_deliveries_total", help, fanout.messages.get());
        let help = "Bytes of totals and notices that subscribers' sockets have taken.";
        text.counter("ordercast_sent_bytes_total", help, fanout.bytes.get() + slow.bytes.get());
        let help = "Totals that were skipped for a slow subscriber, because it gets a later one.";
        text.counter("ordercast_skipped_total", help, fanout.skipped.get());
        text.gauge("ordercast_slow_sockets", "Subscribers whose socket is full.", slow.full.get());
        let help = "Subscribers that were closed because their socket had taken nothing for 10 s.";
        text.counter("ordercast_slow_sockets_closed_total", help, slow.closed.get());
    }
}

fn push_store(text: &mut Exposition, figures: &Figures) {
    text.gauge_if_known("ordercast_log_rows", "Entries of the order log.", figures.log_rows);
    let help = "Keys that are stored, with expired ones that are not deleted yet.";
    text.gauge_if_known("ordercast_key_rows", help, figures.key_rows);
    text.gauge_if_known("ordercast_data_file_bytes", "Size of the data file.", figures.data_bytes);
    let help = "Bytes of the data file that are free for new rows.";
    text.gauge_if_known("ordercast_data_file_free_bytes", help, figures.free_bytes);
    text.gauge_if_known("ordercast_wal_bytes", "Size of the data file's write-ahead log.", figures.wal_bytes);
    let help = "Size of the file system of the data folder.";
    text.gauge_if_known("ordercast_disk_bytes", help, figures.disk_bytes);
    let help = "Bytes of that file system which the server may still use.";
    text.gauge_if_known("ordercast_disk_free_bytes", help, figures.disk_free_bytes);
    let age = figures.last_backup.map(|at| (now_ms() / 1_000).saturating_sub(at));
    text.gauge_if_known("ordercast_last_backup_age_seconds", "Seconds since the last backup.", age);
}
