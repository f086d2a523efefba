//! The values of all options, and how each is read from a text: what it may be, and what the error says.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;

#[cfg(feature = "postgres")]
use super::Place;
use super::client::Access;
use super::{Config, ExportFormat, LogFormat, LogOptions, MAX_FANOUT_THREADS, ReportBy, ReportFormat};
use crate::store::Reason;
#[cfg(feature = "postgres")]
use crate::store::postgres::migrate::Keep;
use crate::tally::rfc3339::UtcOffset;

/// The longest retention time of keys: a year.
const MAX_KEY_HOURS: u64 = 366 * 24;
/// The longest time for which a command tries to reach a server: a year.
const MAX_TIMEOUT_SECONDS: u64 = 366 * 24 * 60 * 60;
/// The smallest cap of a data file: 1 MiB, room for a catalogue and some thousand orders.
const MIN_DATA_BYTES: u64 = 1024 * 1024;

/// The values of all options; each command uses some of them.
#[derive(Default)]
pub(super) struct Values {
    pub(super) config: Config,
    pub(super) log: LogOptions,
    pub(super) format: ExportFormat,
    pub(super) output: Option<PathBuf>,
    /// The server that a command speaks to.
    pub(super) access: Access,
    pub(super) key: Option<String>,
    pub(super) keep: Option<usize>,
    pub(super) by: ReportBy,
    pub(super) utc_offset: UtcOffset,
    pub(super) csv: bool,
    pub(super) json: bool,
    #[cfg(feature = "postgres")]
    pub(super) kept: Keep,
    #[cfg(feature = "postgres")]
    pub(super) from: Option<Place>,
    #[cfg(feature = "postgres")]
    pub(super) to: Option<Place>,
    /// The words that are no options, in their order.
    pub(super) arguments: Vec<OsString>,
}

#[expect(clippy::unnecessary_wraps, reason = "a setter may fail, so all have the same type")]
pub(super) fn assign<T>(place: &mut T, value: T) -> Result<(), Reason> {
    *place = value;
    Ok(())
}

pub(super) fn text(value: &OsStr) -> Result<&str, Reason> {
    value.to_str().ok_or_else(|| "must be UTF-8 text".into())
}

/// A data folder; an address in its place would be made as a folder, and shown with its password.
pub(super) fn folder(value: &OsStr) -> Result<PathBuf, Reason> {
    if value.to_string_lossy().contains("://") {
        return Err("must be a folder; --store names a database, and --follow another server".into());
    }
    Ok(value.into())
}

pub(super) fn number<T: FromStr + PartialOrd>(
    value: &OsStr,
    valid: impl RangeBounds<T>,
    kind: &str,
) -> Result<T, Reason> {
    let number = text(value)?.parse().ok().filter(|number| valid.contains(number));
    number.ok_or_else(|| format!("must be a number {kind}").into())
}

pub(super) fn positive<T: FromStr + PartialOrd + From<u8>>(value: &OsStr) -> Result<T, Reason> {
    number(value, T::from(1).., "from 1 on")
}

pub(super) fn fanout_threads(value: &OsStr) -> Result<usize, Reason> {
    number(value, 1..=MAX_FANOUT_THREADS, &format!("of threads from 1 to {MAX_FANOUT_THREADS}"))
}

pub(super) fn yes_or_no(value: &OsStr) -> Result<bool, Reason> {
    match text(value)? {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err("must be 1 or 0".into()),
    }
}

pub(super) fn hours(value: &OsStr) -> Result<Duration, Reason> {
    let hours = number(value, 1..=MAX_KEY_HOURS, &format!("of hours from 1 to {MAX_KEY_HOURS}"))?;
    Ok(Duration::from_secs(hours * 60 * 60))
}

pub(super) fn seconds(value: &OsStr) -> Result<Duration, Reason> {
    let seconds = number(value, 1..=MAX_TIMEOUT_SECONDS, &format!("of seconds from 1 to {MAX_TIMEOUT_SECONDS}"))?;
    Ok(Duration::from_secs(seconds))
}

pub(super) fn bytes(value: &OsStr) -> Result<u64, Reason> {
    number(value, MIN_DATA_BYTES.., &format!("of bytes from {MIN_DATA_BYTES} on"))
}

pub(super) fn format(value: &OsStr) -> Result<ExportFormat, Reason> {
    match text(value)? {
        "ndjson" => Ok(ExportFormat::Ndjson),
        "csv" => Ok(ExportFormat::Csv),
        _ => Err("must be ndjson or csv".into()),
    }
}

pub(super) fn log_format(value: &OsStr) -> Result<LogFormat, Reason> {
    match text(value)? {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".into()),
    }
}

pub(super) fn log_level(value: &OsStr) -> Result<LevelFilter, Reason> {
    match text(value)? {
        "error" => Ok(LevelFilter::Error),
        "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        _ => Err("must be error, warn or info".into()),
    }
}

pub(super) fn report_by(value: &OsStr) -> Result<ReportBy, Reason> {
    match text(value)? {
        "period" => Ok(ReportBy::Period),
        "day" => Ok(ReportBy::Day),
        "hour" => Ok(ReportBy::Hour),
        _ => Err("must be period, day or hour".into()),
    }
}

pub(super) fn utc_offset(value: &OsStr) -> Result<UtcOffset, Reason> {
    let offset = UtcOffset::parse(text(value)?);
    offset.ok_or_else(|| "must be hours and minutes from UTC, such as +02:00 or -03:30, or Z for UTC itself".into())
}

impl Values {
    /// The format of a report; `None` if two are asked for.
    pub(super) fn report_format(&self) -> Option<ReportFormat> {
        match (self.csv, self.json) {
            (false, false) => Some(ReportFormat::Table),
            (true, false) => Some(ReportFormat::Csv),
            (false, true) => Some(ReportFormat::Json),
            (true, true) => None,
        }
    }
}

/// Adds every address of a name such as `localhost`. A port alone is one of loopback. `:PORT` is rejected: to other
/// programs it means all addresses, which nobody should open by a short form.
pub(super) fn add_addresses(listen: &mut Vec<SocketAddr>, value: &str) -> Result<(), Reason> {
    if let Some(port) = value.strip_prefix(':') {
        return Err(
            format!("must name the host: 127.0.0.1:{port} for this machine, 0.0.0.0:{port} for the network").into()
        );
    }
    let port: Result<u16, _> = value.parse();
    let value =
        port.map_or_else(|_| value.to_owned(), |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string());
    let addresses = value.to_socket_addrs().map_err(|error| {
        Reason::new(
            "must be an address with a port, such as 127.0.0.1:3000 or 0.0.0.0:3000, or a port of this machine",
            error,
        )
    })?;
    for address in addresses {
        if address.port() == 0 || !listen.contains(&address) {
            listen.push(address);
        }
    }
    Ok(())
}

pub(super) fn add_origin(origins: &mut Vec<String>, value: &str) -> Result<(), Reason> {
    let host = value.split_once("://").map_or("", |(_, rest)| rest.trim_end_matches('/'));
    if value != "*" && (host.is_empty() || host.contains('/')) {
        return Err("must be a scheme and a host, such as https://shop.example, or *".into());
    }
    origins.push(value.to_owned());
    Ok(())
}

pub(super) fn add_frame(origins: &mut Vec<String>, value: &str) -> Result<(), Reason> {
    let host = value.split_once("://").map_or("", |(_, rest)| rest.trim_end_matches('/'));
    // It becomes part of a header line whose parts end with spaces and semicolons.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_[]*".contains(&byte);
    if value != "*" && (host.is_empty() || host.contains('/') || !value.bytes().all(is_plain)) {
        return Err("must be a scheme and a host, such as https://signage.example, or *".into());
    }
    origins.push(value.trim_end_matches('/').to_owned());
    Ok(())
}

pub(super) fn add_host(hosts: &mut Vec<String>, value: &str) -> Result<(), Reason> {
    if value.contains(['/', '*']) {
        return Err("must be one host name, such as shop.example".into());
    }
    hosts.push(value.to_owned());
    Ok(())
}
