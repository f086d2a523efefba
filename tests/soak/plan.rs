//! What a soak does and for how long: constants, and what the environment changes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The length of a usual test run: enough for every disturbance once.
const SHORT: Duration = Duration::from_secs(8);
/// The share of the peak rate at which orders are posted.
const SHARE: f64 = 0.5;
/// A keyed order leaves a key in the file for an hour at the least. Without this cap, in orders a second, the file would
/// grow by gigabytes in a run, and each backup would take longer than the one before. Plain orders make up for it.
pub const MAX_KEYED_RATE: f64 = 1_000.0;
/// Orders that the log keeps: more than a slow reader can be behind, and a file that stops growing within a minute.
pub const KEEP_ORDERS: &str = "1000000";
/// Orders in one batch.
pub const BATCH: usize = 25;

/// The lengths and the rate of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Posting as fast as possible, to find the peak rate.
    pub peak: Duration,
    /// Posting at `share` of the peak rate.
    pub steady: Duration,
    /// The part of `steady` whose samples do not count: caches fill, and the log reaches its bound.
    pub warm_up: Duration,
    pub share: f64,
    /// Between two backups.
    pub backup_every: Duration,
    /// Between two closes of periods, and between two reloads of the token files.
    pub close_every: Duration,
    /// Where the plot, the samples and the summary go.
    pub output: PathBuf,
}

impl Plan {
    /// `ORDERCAST_SOAK_MINUTES`, `ORDERCAST_SOAK_SHARE` (of the peak rate) and `ORDERCAST_SOAK_DIR` change the defaults.
    pub fn from_environment() -> Plan {
        let number = |name: &str| {
            let text = env::var(name).ok().filter(|text| !text.is_empty())?;
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
            Some(number.unwrap_or_else(|| panic!("{name} must be a number above 0, such as 0.5, not {text:?}")))
        };
        let minutes = number("ORDERCAST_SOAK_MINUTES").map(|minutes| Duration::from_secs_f64(minutes * 60.0));
        let length = minutes.unwrap_or(SHORT);
        let share = number("ORDERCAST_SOAK_SHARE").unwrap_or(SHARE);
        assert!(share <= 1.0, "ORDERCAST_SOAK_SHARE must be at most 1, the peak rate");
        let peak = (length / 6).clamp(Duration::from_secs(1), Duration::from_secs(10)).min(length / 2);
        let steady = length - peak;
        let output = env::var_os("ORDERCAST_SOAK_DIR").filter(|dir| !dir.is_empty());
        Plan {
            peak,
            steady,
            warm_up: (steady / 4).min(Duration::from_secs(600)),
            share,
            backup_every: (length / 4).clamp(Duration::from_secs(2), Duration::from_secs(60)),
            close_every: (length / 20).clamp(Duration::from_millis(500), Duration::from_secs(10)),
            output: output.map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak"), PathBuf::from),
        }
    }

    /// Writes a file into the folder of results.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.output.join(name);
        let written = fs::create_dir_all(&self.output).and_then(|()| fs::write(&path, text));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}
