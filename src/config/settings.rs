//! Reading options, from flags and environment variables, for every command; and what each value may be.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser};

use super::{Backup, Check, Command, Config, Export, ExportFormat, Repair};
use crate::store::Reason;
use crate::tally::spelling::suggestion;

/// The longest retention time of keys: a year.
const MAX_KEY_HOURS: u64 = 366 * 24;
/// The smallest cap of a data file: 1 MiB, room for a catalogue and some thousand orders.
const MIN_DATA_BYTES: u64 = 1024 * 1024;

/// What the names of all environment variables begin with.
const PREFIX: &str = "ORDERCAST_";

/// The values of all options; each command uses some of them.
#[derive(Default)]
pub(super) struct Values {
    config: Config,
    format: ExportFormat,
    output: Option<PathBuf>,
    /// The argument of `backup`.
    file: Option<PathBuf>,
}

type Set = fn(&mut Values, &OsStr) -> Result<(), Reason>;

/// One option: its flag, and how its value is stored. The name of its environment variable follows from the flag.
pub(super) struct Setting {
    pub(super) flag: &'static str,
    kind: Kind,
    set: Set,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    One,
    /// It may be repeated; the environment variable separates the values with commas.
    List,
    /// A flag without a value; the environment variable is 1 or 0.
    Switch,
}

const fn one(flag: &'static str, set: Set) -> Setting {
    Setting { flag, kind: Kind::One, set }
}

const fn list(flag: &'static str, set: Set) -> Setting {
    Setting { flag, kind: Kind::List, set }
}

const fn switch(flag: &'static str, set: Set) -> Setting {
    Setting { flag, kind: Kind::Switch, set }
}

impl Setting {
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.flag.replace('-', "_").to_ascii_uppercase())
    }
}

pub(super) const SETTINGS: &[Setting] = &[
    list("listen", |to, value| add_addresses(&mut to.config.listen, text(value)?)),
    one("data", |to, value| assign(&mut to.config.data, value.into())),
    one("catalog", |to, value| assign(&mut to.config.catalog, Some(value.into()))),
    one("static-dir", |to, value| assign(&mut to.config.static_dir, Some(value.into()))),
    list("allow-origin", |to, value| add_origin(&mut to.config.allow_origins, text(value)?)),
    list("allow-frame", |to, value| add_frame(&mut to.config.allow_frames, text(value)?)),
    list("allow-host", |to, value| add_host(&mut to.config.allow_hosts, text(value)?)),
    one("token-file", |to, value| assign(&mut to.config.token_file, Some(value.into()))),
    one("read-token-file", |to, value| assign(&mut to.config.read_token_file, Some(value.into()))),
    one("admin-token-file", |to, value| assign(&mut to.config.admin_token_file, Some(value.into()))),
    one("keep-keys", |to, value| assign(&mut to.config.retention.keys, hours(value)?)),
    one("max-keys", |to, value| assign(&mut to.config.retention.max_keys, Some(positive(value)?))),
    one("keep-orders", |to, value| assign(&mut to.config.retention.orders, Some(positive(value)?))),
    one("max-data-bytes", |to, value| assign(&mut to.config.retention.data_bytes, Some(bytes(value)?))),
    switch("check", |to, value| assign(&mut to.config.check, yes_or_no(value)?)),
    one("max-connections", |to, value| assign(&mut to.config.max_connections, positive(value)?)),
    one("max-connections-per-ip", |to, value| assign(&mut to.config.max_connections_per_ip, Some(positive(value)?))),
    one("format", |to, value| assign(&mut to.format, format(value)?)),
    one("output", |to, value| assign(&mut to.output, Some(value.into()))),
];

/// Whether a command takes a flag.
type Takes = fn(&str) -> bool;

/// The commands and the flags that they take. The first one may be left out.
pub(super) const COMMANDS: &[(&str, Takes)] = &[
    ("serve", |flag| !matches!(flag, "format" | "output")),
    ("export", |flag| matches!(flag, "data" | "format")),
    ("check", |flag| flag == "data"),
    ("repair", |flag| matches!(flag, "data" | "output")),
    ("backup", |flag| flag == "data"),
];

pub(super) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &[(OsString, OsString)],
) -> Result<Command, Reason> {
    let mut arguments = arguments.into_iter().peekable();
    match arguments.peek() {
        Some(word) if word == "help" => return Ok(Command::Help),
        Some(word) if word == "version" => return Ok(Command::Version),
        _ => {}
    }
    let named = arguments.peek().and_then(|word| COMMANDS.iter().find(|(name, _)| word == name));
    let (name, takes) = named.unwrap_or(&COMMANDS[0]);
    let arguments = arguments.skip(usize::from(named.is_some()));
    let settings: Vec<_> = SETTINGS.iter().filter(|setting| takes(setting.flag)).collect();
    let mut values = Values::default();
    let default_listen = std::mem::take(&mut values.config.listen);
    if let Some(command) = read(name, &settings, Parser::from_args(arguments), environment, &mut values)? {
        return Ok(command);
    }
    let Values { mut config, format, output, file } = values;
    let data = config.data.clone();
    Ok(match *name {
        "export" => Command::Export(Export { data, format }),
        "check" => Command::Check(Check { data }),
        "repair" => {
            let output = output.or_else(|| default_output(&data));
            let output = output.ok_or("repair needs --output DIR, a folder for the new file")?;
            Command::Repair(Repair { data, output })
        }
        "backup" => {
            let file = file.ok_or("backup needs a file to write, such as ordercast backup orders.backup")?;
            Command::Backup(Backup { data, file })
        }
        _ => {
            if config.listen.is_empty() {
                config.listen = default_listen;
            }
            if config.read_token_file.is_some() && config.token_file.is_none() {
                return Err("--read-token-file needs --token-file too: without it, everybody could write".into());
            }
            Command::Serve(Box::new(config))
        }
    })
}

/// Reads the arguments, and the environment for the options that they leave out. Returns [`Command::Help`] or
/// [`Command::Version`] if an argument asks for it, whatever follows.
fn read(
    command: &str,
    settings: &[&Setting],
    mut parser: Parser,
    environment: &[(OsString, OsString)],
    values: &mut Values,
) -> Result<Option<Command>, Reason> {
    let mut seen = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Some(Command::Help)),
            Arg::Long("version") | Arg::Short('V') => return Ok(Some(Command::Version)),
            Arg::Long(name) => {
                let Some(setting) = settings.iter().find(|setting| setting.flag == name) else {
                    let meant = suggestion("--", name, settings.iter().map(|setting| setting.flag));
                    return Err(format!("unknown option --{name} here{meant}; see ordercast --help").into());
                };
                let flag = setting.flag;
                if setting.kind != Kind::List && seen.contains(&flag) {
                    return Err(format!("--{flag} is given twice").into());
                }
                seen.push(flag);
                let value = match setting.kind {
                    Kind::Switch => OsString::from("1"),
                    Kind::One | Kind::List => parser.value().map_err(|error| error.to_string())?,
                };
                if value.is_empty() {
                    return Err(format!("--{flag} needs a value; see ordercast --help").into());
                }
                (setting.set)(values, &value)
                    .map_err(|error| error.prefixed(format!("--{flag} {}", value.to_string_lossy())))?;
            }
            Arg::Short(letter) => return Err(format!("unknown option -{letter}; see ordercast --help").into()),
            Arg::Value(word) if command == "backup" && values.file.is_none() && !word.is_empty() => {
                values.file = Some(word.into());
            }
            Arg::Value(word) => {
                return Err(format!("unknown argument {:?}; see ordercast --help", word.to_string_lossy()).into());
            }
        }
    }
    check_names(environment)?;
    for setting in settings.iter().filter(|setting| !seen.contains(&setting.flag)) {
        let variable = setting.variable();
        let Some((_, value)) = environment.iter().find(|(name, value)| *name == *variable && !value.is_empty()) else {
            continue;
        };
        set_from_variable(setting, values, value)
            .map_err(|error| error.prefixed(format!("{variable}={}", value.to_string_lossy())))?;
    }
    Ok(None)
}

/// Rejects a variable that looks like an option and is none. For the services of a namespace Kubernetes sets variables
/// such as `ORDERCAST_PORT`, `ORDERCAST_SERVICE_HOST` and `ORDERCAST_BOARD_PORT_80_TCP`, which are passed over.
fn check_names(environment: &[(OsString, OsString)]) -> Result<(), Reason> {
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    for (name, _) in environment.iter().filter(|(_, value)| !value.is_empty()) {
        let name = name.to_string_lossy();
        let is_service_link = name.contains("_PORT") || name.contains("_SERVICE_");
        let Some(own) = name.strip_prefix(PREFIX) else { continue };
        if !is_service_link && !known.iter().any(|known| *known == name) {
            let meant = suggestion(PREFIX, own, known.iter().map(|known| &known[PREFIX.len()..]));
            // Without the value, which may be a secret.
            return Err(format!("unknown variable {name}{meant}; see ordercast --help").into());
        }
    }
    Ok(())
}

fn set_from_variable(setting: &Setting, values: &mut Values, value: &OsStr) -> Result<(), Reason> {
    if setting.kind != Kind::List {
        return (setting.set)(values, value);
    }
    let mut items = text(value)?.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.try_for_each(|item| (setting.set)(values, OsStr::new(item)))
}

#[expect(clippy::unnecessary_wraps, reason = "a setter may fail, so all have the same type")]
fn assign<T>(place: &mut T, value: T) -> Result<(), Reason> {
    *place = value;
    Ok(())
}

fn text(value: &OsStr) -> Result<&str, Reason> {
    value.to_str().ok_or_else(|| "must be UTF-8 text".into())
}

fn number<T: FromStr + PartialOrd>(value: &OsStr, valid: impl RangeBounds<T>, kind: &str) -> Result<T, Reason> {
    let number = text(value)?.parse().ok().filter(|number| valid.contains(number));
    number.ok_or_else(|| format!("must be a number {kind}").into())
}

fn positive<T: FromStr + PartialOrd + From<u8>>(value: &OsStr) -> Result<T, Reason> {
    number(value, T::from(1).., "from 1 on")
}

fn yes_or_no(value: &OsStr) -> Result<bool, Reason> {
    match text(value)? {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err("must be 1 or 0".into()),
    }
}

fn hours(value: &OsStr) -> Result<Duration, Reason> {
    let hours = number(value, 1..=MAX_KEY_HOURS, &format!("of hours from 1 to {MAX_KEY_HOURS}"))?;
    Ok(Duration::from_secs(hours * 60 * 60))
}

fn bytes(value: &OsStr) -> Result<u64, Reason> {
    number(value, MIN_DATA_BYTES.., &format!("of bytes from {MIN_DATA_BYTES} on"))
}

fn format(value: &OsStr) -> Result<ExportFormat, Reason> {
    match text(value)? {
        "ndjson" => Ok(ExportFormat::Ndjson),
        "csv" => Ok(ExportFormat::Csv),
        _ => Err("must be ndjson or csv".into()),
    }
}

/// Adds every address of a name such as `localhost`. A port alone is one of loopback. `:PORT` is rejected: to other
/// programs it means all addresses, which nobody should open by a short form.
fn add_addresses(listen: &mut Vec<SocketAddr>, value: &str) -> Result<(), Reason> {
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

fn add_origin(origins: &mut Vec<String>, value: &str) -> Result<(), Reason> {
    let host = value.split_once("://").map_or("", |(_, rest)| rest.trim_end_matches('/'));
    if value != "*" && (host.is_empty() || host.contains('/')) {
        return Err("must be a scheme and a host, such as https://shop.example, or *".into());
    }
    origins.push(value.to_owned());
    Ok(())
}

fn add_frame(origins: &mut Vec<String>, value: &str) -> Result<(), Reason> {
    let host = value.split_once("://").map_or("", |(_, rest)| rest.trim_end_matches('/'));
    // It becomes part of a header line whose parts end with spaces and semicolons.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_[]*".contains(&byte);
    if value != "*" && (host.is_empty() || host.contains('/') || !value.bytes().all(is_plain)) {
        return Err("must be a scheme and a host, such as https://signage.example, or *".into());
    }
    origins.push(value.trim_end_matches('/').to_owned());
    Ok(())
}

fn add_host(hosts: &mut Vec<String>, value: &str) -> Result<(), Reason> {
    if value.contains(['/', '*']) {
        return Err("must be one host name, such as shop.example".into());
    }
    hosts.push(value.to_owned());
    Ok(())
}

/// The default of `repair --output`: `data-repaired` for `data`. `None` for a path without a name, such as `.`.
fn default_output(data: &Path) -> Option<PathBuf> {
    let mut name = data.file_name()?.to_owned();
    name.push("-repaired");
    Some(data.with_file_name(name))
}
