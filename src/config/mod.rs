//! The command line, its environment twins, and the defaults. Owns what can be configured and how it is written down.
//! Imports nothing of ours but what a store is told to keep, and reads neither the real arguments nor the real environment: `main` hands them in.

mod setting;
mod tools;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Parser;

use crate::store::retention::Retention;
use setting::{Setting, put, text};
pub use tools::{Backup, Check, Export, Format, Repair};

/// Connections at a time, unless told otherwise: 10,000.
pub const MAX_CONNECTIONS: usize = 10_000;
/// The longest time that keys can be kept: a year.
const MAX_KEY_HOURS: u64 = 366 * 24;
/// The least that a data file can be limited to: 1 MiB, room for a catalogue and some thousand orders.
const MIN_DATA_BYTES: u64 = 1024 * 1024;
/// The data folder, unless told otherwise.
const DATA: &str = "data";
/// The customary ports of the API and of the web app.
const PORTS: [u16; 2] = [3000, 5050];

/// The catalogue of an empty data folder, unless a file is given.
pub const BUILT_IN_CATALOG: &[u8] = include_bytes!("catalog.json");

/// What `--help` prints.
pub const HELP: &str = "\
Ordercast keeps a durable tally of orders and shows every change, live.

Usage: ordercast [serve] [options]
       ordercast export [--data DIR] [--format ndjson|csv]   Print the log of orders
       ordercast check [--data DIR]                          Tell whether the data file is sound
       ordercast backup FILE [--data DIR]                    Copy the data file, also while a server runs
       ordercast repair [--data DIR] [--output DIR]          Save what is readable of a damaged file into another folder

Options (each with its environment twin):
  --listen ADDR          Address to serve on, such as 127.0.0.1:3000; may be repeated (port 0: any free port)
                         [default: 127.0.0.1:3000 and 127.0.0.1:5050] [ORDERCAST_LISTEN, separated by commas]
  --data DIR             Folder of the data file [default: data] [ORDERCAST_DATA]
  --catalog FILE         Catalogue to start from, as JSON [default: built in] [ORDERCAST_CATALOG]
  --static-dir DIR       Serve the web app from this folder instead of the built-in one [ORDERCAST_STATIC_DIR]
  --allow-origin ORIGIN  Let web pages of this origin in, such as https://shop.example (* for all); may be repeated
                         [ORDERCAST_ALLOW_ORIGIN, separated by commas]
  --allow-host NAME      Answer under this host name too, such as the one a proxy passes on; may be repeated
                         [ORDERCAST_ALLOW_HOST, separated by commas]
  --token-file FILE      Only who presents a token of this file (one a line) may order and add products; read again on
                         SIGHUP [ORDERCAST_TOKEN_FILE]
  --read-token-file FILE
                         Only who presents a token of this file, or of the other one, may see products and totals
                         (needs --token-file) [ORDERCAST_READ_TOKEN_FILE]
  --keep-keys HOURS      How long an order's key is kept after its use, 1 to 8784 [default: 24] [ORDERCAST_KEEP_KEYS]
  --keep-orders N        Orders that the log keeps at least: older ones go as new ones come; totals are not touched
                         [default: all] [ORDERCAST_KEEP_ORDERS]
  --max-data-bytes N     How large the data file may grow, from 1048576 on [default: no cap] [ORDERCAST_MAX_DATA_BYTES]
  --max-connections N    Connections at a time [default: 10000] [ORDERCAST_MAX_CONNECTIONS]
  --max-connections-per-ip N
                         Connections at a time from one client address [default: no cap]
                         [ORDERCAST_MAX_CONNECTIONS_PER_IP]
  --help                 Print this
  --version              Print the version

Options of single commands:
  --format FORMAT        How export writes the log: ndjson or csv [default: ndjson] [ORDERCAST_FORMAT]
  --output DIR           Folder that repair writes [default: the data folder's name with -repaired] [ORDERCAST_OUTPUT]

Post an order:  curl -X POST -H 'Content-Type: application/json' -d '{\"amount\": 10}' http://localhost:3000/orders/A1
See the board:  http://localhost:5050
";

/// Everything that a server is started with.
///
/// It begins with [`Config::default`]; the fields that differ are set one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// The folder of the data file; made if it is not there.
    pub data: PathBuf,
    /// What the data folder keeps.
    pub retention: Retention,
    /// The catalogue file; `None` for the built-in one.
    pub catalog: Option<PathBuf>,
    /// The web app's folder; `None` for the built-in one.
    pub static_dir: Option<PathBuf>,
    /// Origins of web pages that may use the server although they come from another host.
    pub allow_origins: Vec<String>,
    /// Host names under which the server answers although it listens on loopback only.
    pub allow_hosts: Vec<String>,
    /// The tokens that may write; `None` lets everybody write.
    pub token_file: Option<PathBuf>,
    /// The tokens that may read; `None` lets everybody read.
    pub read_token_file: Option<PathBuf>,
    /// Connections at a time; lowered at start to what the system allows.
    pub max_connections: usize,
    /// Connections at a time from one client address; `None` for as many as there are. Behind a proxy all connections
    /// come from one.
    pub max_connections_per_ip: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).to_vec(),
            data: PathBuf::from(DATA),
            retention: Retention::default(),
            catalog: None,
            static_dir: None,
            allow_origins: Vec::new(),
            allow_hosts: Vec::new(),
            token_file: None,
            read_token_file: None,
            max_connections: MAX_CONNECTIONS,
            max_connections_per_ip: None,
        }
    }
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run a server.
    Serve(Box<Config>),
    /// Print the log of orders.
    Export(Export),
    /// Tell whether the data file is sound.
    Check(Check),
    /// Save what is readable of a damaged data file.
    Repair(Repair),
    /// Copy the data file.
    Backup(Backup),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// What is wrong with the command line or the environment; the text says how to write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

const SETTINGS: &[Setting<Config>] = &[
    Setting { flag: "listen", many: true, set: |config, value| add_addresses(&mut config.listen, text(value)?) },
    Setting { flag: "data", many: false, set: |config, value| put(&mut config.data, value.into()) },
    Setting { flag: "catalog", many: false, set: |config, value| put(&mut config.catalog, Some(value.into())) },
    Setting { flag: "static-dir", many: false, set: |config, value| put(&mut config.static_dir, Some(value.into())) },
    Setting { flag: "allow-origin", many: true, set: |config, value| add_origin(config, text(value)?) },
    Setting { flag: "allow-host", many: true, set: |config, value| add_host(config, text(value)?) },
    Setting { flag: "token-file", many: false, set: |config, value| put(&mut config.token_file, Some(value.into())) },
    Setting {
        flag: "read-token-file",
        many: false,
        set: |config, value| put(&mut config.read_token_file, Some(value.into())),
    },
    Setting { flag: "keep-keys", many: false, set: |config, value| set_key_hours(config, text(value)?) },
    Setting {
        flag: "keep-orders",
        many: false,
        set: |config, value| put(&mut config.retention.orders, Some(number(text(value)?)? as u64)),
    },
    Setting { flag: "max-data-bytes", many: false, set: |config, value| set_data_bytes(config, text(value)?) },
    Setting {
        flag: "max-connections",
        many: false,
        set: |config, value| put(&mut config.max_connections, number(text(value)?)?),
    },
    Setting {
        flag: "max-connections-per-ip",
        many: false,
        set: |config, value| put(&mut config.max_connections_per_ip, Some(number(text(value)?)?)),
    },
];

/// Reads the arguments (without the program's name) and, for what they leave open, the environment.
///
/// # Errors
/// [`UsageError`] names the option and says how it is written.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    let mut arguments = arguments.into_iter().peekable();
    let first = arguments.next_if(|word| word == "serve" || tools::COMMANDS.iter().any(|(name, _)| word == name));
    let mut parser = Parser::from_args(arguments);
    if let Some((name, settings)) = first.and_then(|first| tools::COMMANDS.iter().find(|(name, _)| first == *name)) {
        return tools::parse(name, settings, &mut parser, environment);
    }
    let mut config = Config { listen: Vec::new(), ..Config::default() };
    if let Some(command) = setting::read(&mut parser, environment, SETTINGS, &mut config, |_, _| false)? {
        return Ok(command);
    }
    if config.listen.is_empty() {
        config.listen = Config::default().listen;
    }
    if config.read_token_file.is_some() && config.token_file.is_none() {
        return Err(UsageError(
            "--read-token-file needs --token-file too: without it, everybody could write".to_owned(),
        ));
    }
    Ok(Command::Serve(Box::new(config)))
}

/// A name such as `localhost` may stand for several addresses: all are listened on.
fn add_addresses(listen: &mut Vec<SocketAddr>, value: &str) -> Result<(), String> {
    let addresses = value
        .to_socket_addrs()
        .map_err(|error| format!("must be an address with a port, such as 127.0.0.1:3000 or 0.0.0.0:3000 ({error})"))?;
    for address in addresses {
        if address.port() == 0 || !listen.contains(&address) {
            listen.push(address);
        }
    }
    Ok(())
}

fn add_origin(config: &mut Config, value: &str) -> Result<(), String> {
    let host = value.split_once("://").map_or("", |(_, rest)| rest.trim_end_matches('/'));
    if value != "*" && (host.is_empty() || host.contains('/')) {
        return Err("must be a scheme and a host, such as https://shop.example, or *".to_owned());
    }
    config.allow_origins.push(value.to_owned());
    Ok(())
}

fn add_host(config: &mut Config, value: &str) -> Result<(), String> {
    if value.contains(['/', '*']) {
        return Err("must be one host name, such as shop.example".to_owned());
    }
    config.allow_hosts.push(value.to_owned());
    Ok(())
}

fn set_key_hours(config: &mut Config, value: &str) -> Result<(), String> {
    let hours = value.parse().ok().filter(|hours| (1..=MAX_KEY_HOURS).contains(hours));
    let hours: u64 = hours.ok_or_else(|| format!("must be a number of hours from 1 to {MAX_KEY_HOURS}"))?;
    put(&mut config.retention.keys, Duration::from_secs(hours * 60 * 60))
}

fn set_data_bytes(config: &mut Config, value: &str) -> Result<(), String> {
    let bytes = value.parse().ok().filter(|bytes| *bytes >= MIN_DATA_BYTES);
    let bytes = bytes.ok_or_else(|| format!("must be a number of bytes from {MIN_DATA_BYTES} on"))?;
    put(&mut config.retention.data_bytes, Some(bytes))
}

fn number(value: &str) -> Result<usize, String> {
    value.parse().ok().filter(|number| *number > 0).ok_or_else(|| "must be a number from 1 on".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn parse_words(words: &[&str], environment: &[(&str, &str)]) -> Result<Command, UsageError> {
        let find =
            |name: &str| environment.iter().find(|(own, _)| *own == name).map(|(_, value)| OsString::from(value));
        parse(words.iter().map(OsString::from), find)
    }

    fn config(words: &[&str], environment: &[(&str, &str)]) -> Config {
        match parse_words(words, environment) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_anything_the_defaults_hold() {
        assert_eq!(config(&[], &[]), Config::default());
        assert_eq!(config(&["serve"], &[("ORDERCAST_LISTEN", "")]), Config::default());
    }

    #[test]
    fn flags_win_over_the_environment_and_lists_are_read() {
        let environment = [
            ("ORDERCAST_LISTEN", "127.0.0.1:1, [::1]:2"),
            ("ORDERCAST_DATA", "env"),
            ("ORDERCAST_MAX_CONNECTIONS", "7"),
        ];
        let config = config(&["--data", "flag", "--allow-host", "a", "--allow-host=b"], &environment);
        assert_eq!(config.listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert_eq!((config.data, config.max_connections), (PathBuf::from("flag"), 7));
        assert_eq!(config.allow_hosts, ["a", "b"]);
    }

    #[test]
    fn help_and_version_win_over_everything() {
        assert_eq!(parse_words(&["--help"], &[]), Ok(Command::Help));
        assert_eq!(parse_words(&["serve", "-V"], &[("ORDERCAST_LISTEN", "x")]), Ok(Command::Version));
    }

    #[test]
    fn each_command_takes_its_own_options() {
        let environment = [("ORDERCAST_DATA", "d/"), ("ORDERCAST_FORMAT", "csv"), ("ORDERCAST_LISTEN", "nonsense")];
        let command = |words: &[&str]| parse_words(words, &environment);
        let data = || PathBuf::from("d/");
        assert_eq!(command(&["export"]), Ok(Command::Export(Export { data: data(), format: Format::Csv })));
        let export = Export { data: "e".into(), format: Format::Ndjson };
        assert_eq!(command(&["export", "--format=ndjson", "--data", "e"]), Ok(Command::Export(export)));
        assert_eq!(command(&["check"]), Ok(Command::Check(Check { data: data() })));
        assert_eq!(command(&["repair"]), Ok(Command::Repair(Repair { data: data(), output: "d-repaired".into() })));
        let backup = Backup { data: data(), file: "f".into() };
        assert_eq!(command(&["backup", "f"]), Ok(Command::Backup(backup)));
        assert_eq!(parse_words(&["check"], &[]), Ok(Command::Check(Check { data: "data".into() })));
        assert_eq!(command(&["backup", "--help"]), Ok(Command::Help));
    }

    #[test]
    fn each_mistake_names_its_option() {
        for (words, told) in [
            (&["--lisen", "x"][..], "--lisen"),
            (&["--listen", "localhost"], "--listen localhost"),
            (&["--listen"], "--listen"),
            (&["--data", "a", "--data", "b"], "--data is given twice"),
            (&["--data", ""], "--data needs a value"),
            (&["--allow-host", "*"], "one host name"),
            (&["--max-connections", "0"], "from 1 on"),
            (&["--max-connections-per-ip", "-1"], "from 1 on"),
            (&["--keep-keys", "0"], "hours from 1"),
            (&["--keep-orders", "0"], "from 1 on"),
            (&["--max-data-bytes", "1000"], "from 1048576 on"),
            (&["--read-token-file", "a"], "--token-file too"),
            (&["--allow-origin", "shop.example"], "scheme"),
            (&["start"], "start"),
            (&["export", "--format", "xml"], "ndjson or csv"),
            (&["export", "--output", "x"], "--output"),
            (&["check", "x"], "unknown argument \"x\""),
            (&["repair", "--data", ""], "--data needs a value"),
            (&["repair", "--data", "."], "repair needs --output"),
            (&["backup"], "backup needs a file"),
            (&["backup", ""], "unknown argument"),
            (&["backup", "a", "b"], "unknown argument \"b\""),
            (&["--data", "a", "serve"], "serve"),
            (&["-x"], "-x"),
        ] {
            let error = parse_words(words, &[]).unwrap_err().to_string();
            assert!(error.contains(told), "{words:?}: {error}");
        }
        let error = parse([OsString::from_vec(b"x\xff".to_vec())], |_| None).unwrap_err().to_string();
        assert!(error.contains('x'), "{error}");
        let error = parse_words(&[], &[("ORDERCAST_MAX_CONNECTIONS", "many")]).unwrap_err().to_string();
        assert!(error.contains("ORDERCAST_MAX_CONNECTIONS=many"), "{error}");
    }

    #[test]
    fn the_help_names_every_option_and_twin() {
        let served = SETTINGS.iter().map(|setting| (setting.flag, setting.twin()));
        let tools = tools::COMMANDS.iter().flat_map(|(_, settings)| *settings);
        for (flag, twin) in served.chain(tools.map(|setting| (setting.flag, setting.twin()))) {
            assert!(HELP.contains(&format!("--{flag} ")) && HELP.contains(&twin), "{flag}");
        }
        for (name, _) in tools::COMMANDS {
            assert!(HELP.contains(&format!("ordercast {name} ")), "{name}");
        }
    }
}
