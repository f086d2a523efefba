//! The load of one run, as the options define it.

use std::time::Duration;

use crate::options::Options;

/// The most connections that post in runs with a rate: with 64, answers that take some 10 ms do not reduce the rate.
const MAX_POSTERS: usize = 64;
/// Orders a second per connection: below `MAX_POSTERS` times this rate, fewer connections post.
const RATE_PER_POSTER: f64 = 10.0;
/// Connections that post as fast as possible while subscribers read.
const UNPACED_POSTERS: usize = 16;
/// Bytes of a subscriber's receive buffer in runs without a rate: the kernel's default would hide megabytes of lag.
const RECEIVE_BUFFER: usize = 16 * 1024;

/// Posters and subscribers of one run.
pub struct Load {
    pub subscribers: usize,
    pub posters: usize,
    /// Orders a second over all posters; `None` for as fast as possible.
    pub rate: Option<f64>,
    /// Posting before orders count, for caches, run-time compilers and TCP windows.
    pub warm_up: Duration,
    /// Posting while orders count.
    pub measured: Duration,
    /// Bytes of each subscriber's receive buffer; `None` for the kernel's default.
    pub receive_buffer: Option<usize>,
    /// The interval of the subscribers' feed (`every`), in milliseconds; `None` for one without.
    pub every: Option<u64>,
    /// Whether each order has a random key of its own.
    pub keys: bool,
    /// Whether the server's metrics are read meanwhile.
    pub scrape: bool,
}

impl Load {
    /// Posters alone, as fast as possible.
    pub fn of_posters(posters: usize, options: &Options) -> Self {
        Self {
            subscribers: 0,
            posters,
            rate: None,
            warm_up: Duration::from_millis(if options.quick { 300 } else { 1_000 }),
            measured: options.seconds.unwrap_or(Duration::from_secs(if options.quick { 1 } else { 4 })),
            receive_buffer: None,
            every: None,
            keys: false,
            scrape: options.scrape,
        }
    }

    /// Subscribers, with orders at `rate`; `None` for as fast as possible.
    pub fn with_subscribers(subscribers: usize, rate: Option<f64>, options: &Options) -> Self {
        let given = options.posters.as_ref().and_then(|posters| posters.first());
        let default = match rate {
            Some(rate) => ((rate / RATE_PER_POSTER) as usize).clamp(4, MAX_POSTERS),
            None => UNPACED_POSTERS,
        };
        Self {
            subscribers,
            rate,
            receive_buffer: rate.is_none().then_some(RECEIVE_BUFFER),
            ..Self::of_posters(given.copied().unwrap_or(default), options)
        }
    }

    /// One of the many runs of a drawing, shorter than other runs.
    pub fn of_growth(subscribers: usize, rate: Option<f64>, options: &Options) -> Self {
        Self {
            warm_up: Duration::from_millis(500),
            measured: options.seconds.unwrap_or(Duration::from_secs(if options.quick { 1 } else { 3 })),
            ..Self::with_subscribers(subscribers, rate, options)
        }
    }

    /// One attempt of a search, shorter than other runs.
    pub fn of_search(subscribers: usize, rate: f64, posters: usize, options: &Options) -> Self {
        let (warm_up, measured) = if options.quick { (200, 700) } else { (500, 2_000) };
        Self {
            posters,
            warm_up: Duration::from_millis(warm_up),
            measured: options.seconds.unwrap_or(Duration::from_millis(measured)),
            ..Self::with_subscribers(subscribers, Some(rate), options)
        }
    }
}
