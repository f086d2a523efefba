//! The command line, its environment variables, and the defaults. Owns the options and how each is written. Reads
//! neither the real arguments nor the real environment: `main` passes them in.

mod settings;

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::store::Reason;
use crate::store::retention::Retention;

/// The default of connections at a time.
pub const MAX_CONNECTIONS: usize = 10_000;
/// The default data folder.
const DATA: &str = "data";
/// The default ports of the API and of the web app.
const PORTS: [u16; 2] = [3000, 5050];

/// The catalogue of an empty data folder, unless a file is given.
pub const BUILT_IN_CATALOG: &[u8] = include_bytes!("catalog.json");

/// What `--help` prints.
pub const HELP: &str = "\
Ordercast keeps a durable tally of orders and shows every change, live.

Usage: ordercast [serve] [options]
       ordercast export [--data DIR] [--format ndjson|csv]   Print the order log
       ordercast check [--data DIR]                          Check whether the data file is sound
       ordercast backup FILE [--data DIR]                    Copy the data file, also while a server runs
       ordercast repair [--data DIR] [--output DIR]          Save what is readable of a damaged file to another folder

Options (each with its environment variable):
  --listen ADDR          Address to serve on, such as 127.0.0.1:3000, or a port of this machine; may be repeated
                         (port 0: any free port)
                         [default: 127.0.0.1:3000 and 127.0.0.1:5050] [ORDERCAST_LISTEN, separated by commas]
  --data DIR             Folder of the data file [default: data] [ORDERCAST_DATA]
  --check                Check the whole data file before serving; without it that is done beside serving, after a stop
                         that was not in order [ORDERCAST_CHECK=1]
  --catalog FILE         Catalogue (JSON) whose new categories and products are added [default: built in]
                         [ORDERCAST_CATALOG]
  --static-dir DIR       Serve the web app from this folder instead of the built-in one [ORDERCAST_STATIC_DIR]
  --allow-origin ORIGIN  Accept web pages of this origin, such as https://shop.example (* for all); may be repeated
                         [ORDERCAST_ALLOW_ORIGIN, separated by commas]
  --allow-frame ORIGIN   Let pages of this origin show the web app in a frame (* for all); may be repeated
                         [ORDERCAST_ALLOW_FRAME, separated by commas]
  --allow-host NAME      Accept this host name too, such as the one that a proxy passes on; may be repeated
                         [ORDERCAST_ALLOW_HOST, separated by commas]
  --token-file FILE      Ordering needs a token of this file (one a line), and so does changing products unless there is
                         an --admin-token-file; read again on SIGHUP [ORDERCAST_TOKEN_FILE]
  --read-token-file FILE
                         Reading products and totals needs a token of this file or of --token-file, which must be given
                         too [ORDERCAST_READ_TOKEN_FILE]
  --admin-token-file FILE
                         Changing products and categories and closing periods needs a token of this file, which may
                         order and read too; without it, those who may order may do so [ORDERCAST_ADMIN_TOKEN_FILE]
  --keep-keys HOURS      Retention time of keys after their use, 1 to 8784 [default: 24] [ORDERCAST_KEEP_KEYS]
  --max-keys N           Cap on keys at a time: orders with new keys are rejected when it is reached [default: no cap]
                         [ORDERCAST_MAX_KEYS]
  --keep-orders N        Orders that the order log keeps at least: older ones are deleted as new ones are added; totals
                         are not touched [default: all] [ORDERCAST_KEEP_ORDERS]
  --max-data-bytes N     Cap on the data file's size, from 1048576 on [default: no cap] [ORDERCAST_MAX_DATA_BYTES]
  --max-connections N    Connections at a time [default: 10000] [ORDERCAST_MAX_CONNECTIONS]
  --max-connections-per-ip N
                         Connections at a time from one client address [default: no cap]
                         [ORDERCAST_MAX_CONNECTIONS_PER_IP]
  --help                 Print this, as ordercast help does
  --version              Print the version, as ordercast version does

Options of single commands:
  --format FORMAT        Format of export: ndjson or csv [default: ndjson] [ORDERCAST_FORMAT]
  --output DIR           Folder that repair writes [default: the data folder's name with -repaired] [ORDERCAST_OUTPUT]

Post an order:  curl -X POST -H 'Content-Type: application/json' -d '{\"amount\": 10}' http://localhost:3000/orders/A1
See the board:  http://localhost:5050
";

/// The options of a server.
///
/// Start from [`Config::default`] and set the fields that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Listen addresses.
    pub listen: Vec<SocketAddr>,
    /// The folder of the data file; made if it does not exist.
    pub data: PathBuf,
    /// What the data folder keeps.
    pub retention: Retention,
    /// Whether all pages of the data file are checked before serving, not only after a stop that was not in order, beside
    /// serving.
    pub check: bool,
    /// The catalogue file; `None` for the built-in one.
    pub catalog: Option<PathBuf>,
    /// The web app's folder; `None` for the built-in one.
    pub static_dir: Option<PathBuf>,
    /// Origins of web pages of other hosts that may use the server.
    pub allow_origins: Vec<String>,
    /// Origins whose pages may show the web app in a frame, such as that of a signage player; `*` for all.
    pub allow_frames: Vec<String>,
    /// Further host names that the server answers to when it listens on loopback.
    pub allow_hosts: Vec<String>,
    /// The file of tokens that may write; `None` lets everybody write.
    pub token_file: Option<PathBuf>,
    /// The file of tokens that may read; `None` lets everybody read.
    pub read_token_file: Option<PathBuf>,
    /// The file of tokens that may change products and categories; `None` lets everybody do so who may order.
    pub admin_token_file: Option<PathBuf>,
    /// Connections at a time; lowered at start to what the system allows.
    pub max_connections: usize,
    /// Connections at a time from one IPv4 address or IPv6 /64; `None` for no cap. Behind a proxy all connections come
    /// from one address.
    pub max_connections_per_ip: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).to_vec(),
            data: PathBuf::from(DATA),
            retention: Retention::default(),
            check: false,
            catalog: None,
            static_dir: None,
            allow_origins: Vec::new(),
            allow_frames: Vec::new(),
            allow_hosts: Vec::new(),
            token_file: None,
            read_token_file: None,
            admin_token_file: None,
            max_connections: MAX_CONNECTIONS,
            max_connections_per_ip: None,
        }
    }
}

/// The format of an exported order log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExportFormat {
    /// One JSON object a line, as in `GET /log`.
    #[default]
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
}

/// The options of `ordercast export`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The data folder.
    pub data: PathBuf,
    /// The output's format.
    pub format: ExportFormat,
}

/// The options of `ordercast check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The data folder.
    pub data: PathBuf,
}

/// The options of `ordercast repair`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The damaged data folder.
    pub data: PathBuf,
    /// The folder of the new file; made if it does not exist.
    pub output: PathBuf,
}

/// The options of `ordercast backup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The data folder.
    pub data: PathBuf,
    /// The path of the copy.
    pub file: PathBuf,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run a server.
    Serve(Box<Config>),
    /// Print the order log.
    Export(Export),
    /// Check a data file.
    Check(Check),
    /// Save what is readable of a damaged data file.
    Repair(Repair),
    /// Copy a data file.
    Backup(Backup),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// A mistake in the command line or the environment; the text names the option and says how it is written.
#[derive(Debug)]
#[non_exhaustive]
pub struct UsageError(Reason);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for UsageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause()
    }
}

/// Reads the arguments (without the program's name) and, for the options that they leave out, the environment.
///
/// # Errors
/// [`UsageError`] names the option and says how it is written.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Command, UsageError> {
    let environment: Vec<_> = environment.into_iter().collect();
    settings::parse(arguments, &environment).map_err(UsageError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn parse_words(words: &[&str], environment: &[(&str, &str)]) -> Result<Command, String> {
        let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        parse(words.iter().map(OsString::from), environment).map_err(|error| error.to_string())
    }

    fn config(words: &[&str], environment: &[(&str, &str)]) -> Config {
        match parse_words(words, environment) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_options_the_defaults_hold() {
        assert_eq!(config(&[], &[]), Config::default());
        assert_eq!(config(&["serve"], &[("ORDERCAST_LISTEN", "")]), Config::default());
    }

    #[test]
    fn flags_take_precedence_over_the_environment_and_lists_are_read() {
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
    fn a_switch_has_no_value_and_its_variable_is_1_or_0() {
        assert!(config(&["--check"], &[]).check);
        assert!(config(&[], &[("ORDERCAST_CHECK", "1")]).check);
        assert!(!config(&[], &[("ORDERCAST_CHECK", "0")]).check);
        let error = parse_words(&["--check=1"], &[]).unwrap_err();
        assert!(error.contains("--check"), "{error}");
        let error = parse_words(&[], &[("ORDERCAST_CHECK", "yes")]).unwrap_err();
        assert!(error.contains("must be 1 or 0"), "{error}");
    }

    #[test]
    fn help_and_version_take_precedence_over_everything() {
        assert_eq!(parse_words(&["--help"], &[]), Ok(Command::Help));
        assert_eq!(parse_words(&["serve", "-V"], &[("ORDERCAST_LISTEN", "x")]), Ok(Command::Version));
        assert_eq!(parse_words(&["help"], &[("ORDERCAST_LISTEN", "x")]), Ok(Command::Help));
        assert_eq!(parse_words(&["version"], &[("ORDERCAST_LISTN", "x")]), Ok(Command::Version));
        assert!(parse_words(&["serve", "help"], &[]).is_err());
    }

    #[test]
    fn a_port_alone_is_one_of_loopback_and_a_missing_host_is_asked_for() {
        assert_eq!(config(&["--listen", "4201"], &[]).listen, ["127.0.0.1:4201".parse().unwrap()]);
        assert_eq!(
            config(&[], &[("ORDERCAST_LISTEN", "0, 7")]).listen,
            config(&["--listen=0", "--listen=7"], &[]).listen
        );
        let error = parse_words(&["--listen", ":4201"], &[]).unwrap_err();
        assert!(error.contains("127.0.0.1:4201") && error.contains("0.0.0.0:4201"), "{error}");
        assert!(parse_words(&["--listen", "70000"], &[]).unwrap_err().contains("127.0.0.1:3000"));
    }

    #[test]
    fn an_unknown_variable_is_rejected_by_every_command_unless_kubernetes_sets_it() {
        for words in [&[][..], &["export"], &["check"], &["backup", "f"]] {
            let error = parse_words(words, &[("ORDERCAST_LISTN", "127.0.0.1:1")]).unwrap_err();
            assert!(error.contains("ORDERCAST_LISTN (did you mean ORDERCAST_LISTEN?)"), "{error}");
        }
        let error = parse_words(&[], &[("ORDERCAST_SECRET", "7a1f")]).unwrap_err();
        assert!(!error.contains("did you mean") && !error.contains("7a1f"), "{error}");
        for name in [
            "ORDERCAST_PORT",
            "ORDERCAST_PORT_3000_TCP_ADDR",
            "ORDERCAST_SERVICE_HOST",
            "ORDERCAST_SERVICE_PORT_HTTP",
            "ORDERCAST_BOARD_SERVICE_PORT",
            "ORDERCAST_BOARD_PORT_80_TCP",
            "XORDERCAST_LISTN",
            "ORDERCAST",
        ] {
            assert_eq!(config(&[], &[(name, "tcp://10.0.0.1:3000")]), Config::default(), "{name}");
        }
        // An empty variable counts as unset.
        assert_eq!(config(&[], &[("ORDERCAST_LISTN", "")]), Config::default());
    }

    #[test]
    fn each_command_takes_its_own_options() {
        let environment = [("ORDERCAST_DATA", "d/"), ("ORDERCAST_FORMAT", "csv"), ("ORDERCAST_LISTEN", "nonsense")];
        let command = |words: &[&str]| parse_words(words, &environment);
        let data = || PathBuf::from("d/");
        assert_eq!(command(&["export"]), Ok(Command::Export(Export { data: data(), format: ExportFormat::Csv })));
        let export = Export { data: "e".into(), format: ExportFormat::Ndjson };
        assert_eq!(command(&["export", "--format=ndjson", "--data", "e"]), Ok(Command::Export(export)));
        assert_eq!(command(&["check"]), Ok(Command::Check(Check { data: data() })));
        assert_eq!(command(&["repair"]), Ok(Command::Repair(Repair { data: data(), output: "d-repaired".into() })));
        let backup = Backup { data: data(), file: "f".into() };
        assert_eq!(command(&["backup", "f"]), Ok(Command::Backup(backup)));
        assert_eq!(parse_words(&["check"], &[]), Ok(Command::Check(Check { data: "data".into() })));
        assert_eq!(command(&["backup", "--help"]), Ok(Command::Help));
    }

    #[test]
    fn each_error_names_its_option() {
        for (words, expected) in [
            (&["--lisen", "x"][..], "--lisen here (did you mean --listen?)"),
            (&["--listen", "localhost"], "--listen localhost"),
            (&["--listen"], "--listen"),
            (&["--data", "a", "--data", "b"], "--data is given twice"),
            (&["--data", ""], "--data needs a value"),
            (&["--allow-host", "*"], "one host name"),
            (&["--max-connections", "0"], "from 1 on"),
            (&["--max-connections-per-ip", "-1"], "from 1 on"),
            (&["--keep-keys", "0"], "hours from 1"),
            (&["--max-keys", "0"], "from 1 on"),
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
            let error = parse_words(words, &[]).unwrap_err();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
        let error = parse([OsString::from_vec(b"x\xff".to_vec())], []).unwrap_err().to_string();
        assert!(error.contains('x'), "{error}");
        let error = parse_words(&[], &[("ORDERCAST_MAX_CONNECTIONS", "many")]).unwrap_err();
        assert!(error.contains("ORDERCAST_MAX_CONNECTIONS=many"), "{error}");
    }

    #[test]
    fn the_help_names_every_command_option_and_variable() {
        for setting in settings::SETTINGS {
            let (flag, variable) = (setting.flag, setting.variable());
            assert!(HELP.contains(&format!("--{flag} ")) && HELP.contains(&variable), "{flag}");
        }
        for (name, _) in &settings::COMMANDS[1..] {
            assert!(HELP.contains(&format!("ordercast {name} ")), "{name}");
        }
    }

    #[test]
    fn an_error_keeps_its_cause() {
        let error = parse(["--listen=localhost".into()], []).unwrap_err();
        assert!(error.source().unwrap().is::<std::io::Error>(), "{error:?}");
    }
}
