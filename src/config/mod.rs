//! The command line, its environment variables, and the defaults. Owns the options and how each is written. Reads
//! neither the real arguments nor the real environment: `main` passes them in.
//!
//! `table` lists all commands and options; `--help`, the man page and the completions are made from it.

pub mod client;
mod completions;
mod help;
mod man;
mod settings;
mod table;
mod values;

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::store::Reason;
use crate::store::retention::Retention;

pub use crate::log::{Format as LogFormat, Options as LogOptions};
pub use completions::completions;
pub use help::help;
pub use man::man_page;

/// The default of connections at a time.
pub const MAX_CONNECTIONS: usize = 10_000;
/// The default data folder.
const DATA: &str = "data";
/// The default ports of the API and of the web app.
const PORTS: [u16; 2] = [3000, 5050];

/// The catalogue of an empty data folder, unless a file is given.
pub const BUILT_IN_CATALOG: &[u8] = include_bytes!("catalog.json");

/// The options of a server.
///
/// Start from [`Config::default`] and set the fields that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Listen addresses.
    pub listen: Vec<SocketAddr>,
    /// Listen addresses that serve metrics and health checks only; the others serve no metrics then.
    pub metrics_listen: Vec<SocketAddr>,
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
            metrics_listen: Vec::new(),
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

/// A shell whose completions are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// The GNU Bourne-Again Shell, from 4.4 on.
    Bash,
    /// The Z shell, with its completion system.
    Zsh,
    /// The friendly interactive shell, from 3.0 on.
    Fish,
}

impl Shell {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bash, Self::Zsh, Self::Fish];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run a server, and write its log like this.
    Serve(Box<Config>, LogOptions),
    /// Print the order log.
    Export(Export),
    /// Check a data file.
    Check(Check),
    /// Save what is readable of a damaged data file.
    Repair(Repair),
    /// Copy a data file.
    Backup(Backup),
    /// Post orders to a server.
    Post(client::Post),
    /// Show the totals of a server.
    Watch(client::Watch),
    /// Print the completions for a shell.
    Completions(Shell),
    /// Print the man page.
    Man,
    /// Print the [`help()`] of this command, or the overview.
    Help(Option<&'static str>),
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
            Ok(Command::Serve(config, _)) => *config,
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
    fn the_log_has_a_form_and_a_level() {
        let log = |words: &[&str], environment: &[(&str, &str)]| match parse_words(words, environment) {
            Ok(Command::Serve(_, log)) => (log.format, log.level.to_string().to_lowercase()),
            other => panic!("{other:?}"),
        };
        assert_eq!(log(&[], &[]), (LogFormat::Text, "info".to_owned()));
        let environment = [("ORDERCAST_LOG", "json"), ("ORDERCAST_LOG_LEVEL", "error")];
        assert_eq!(log(&[], &environment), (LogFormat::Json, "error".to_owned()));
        assert_eq!(log(&["--log=text", "--log-level", "warn"], &environment), (LogFormat::Text, "warn".to_owned()));
    }

    #[test]
    fn help_and_version_take_precedence_over_everything() {
        assert_eq!(parse_words(&["--help"], &[]), Ok(Command::Help(None)));
        assert_eq!(parse_words(&["serve", "-V"], &[("ORDERCAST_LISTEN", "x")]), Ok(Command::Version));
        assert_eq!(parse_words(&["help"], &[("ORDERCAST_LISTEN", "x")]), Ok(Command::Help(None)));
        assert_eq!(parse_words(&["version"], &[("ORDERCAST_LISTN", "x")]), Ok(Command::Version));
        assert!(parse_words(&["serve", "help"], &[]).is_err());
    }

    #[test]
    fn the_help_of_one_command_is_asked_for_in_two_ways() {
        assert_eq!(parse_words(&["help", "backup"], &[]), parse_words(&["backup", "--help"], &[]));
        assert_eq!(parse_words(&["help", "serve"], &[]), Ok(Command::Help(Some("serve"))));
        assert_eq!(parse_words(&["--listen", "7", "--help"], &[]), Ok(Command::Help(None)));
        assert_eq!(parse_words(&["help", "--all"], &[]), Ok(Command::Help(None)));
        let error = parse_words(&["help", "bakup"], &[]).unwrap_err();
        assert!(error.contains("\"bakup\" (did you mean backup?)"), "{error}");
        assert!(parse_words(&["exprt"], &[]).unwrap_err().contains("did you mean export?"));
    }

    #[test]
    fn a_command_without_options_reads_no_variable() {
        let environment = [("ORDERCAST_LISTN", "x"), ("ORDERCAST_LISTEN", "nonsense")];
        assert_eq!(parse_words(&["man"], &environment), Ok(Command::Man));
        for shell in Shell::ALL {
            let command = parse_words(&["completions", shell.name()], &environment);
            assert_eq!(command, Ok(Command::Completions(shell)));
        }
    }

    #[test]
    fn each_default_that_the_help_tells_is_the_default() {
        for setting in table::SETTINGS.iter().filter(|setting| setting.commands.contains(&"serve")) {
            let values = match setting.default {
                "" | "built in" | "no cap" | "all" => continue,
                values => values.split(" and "),
            };
            let words: Vec<String> = values.map(|value| format!("--{}={value}", setting.flag)).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(config(&words, &[]), Config::default(), "{words:?}");
        }
        assert_eq!(parse_words(&["export", "--format=ndjson"], &[]), parse_words(&["export"], &[]));
    }

    #[test]
    fn a_command_has_no_flag_twice_and_each_option_has_commands() {
        for entry in table::COMMANDS {
            let mut flags: Vec<_> = entry.settings().map(|setting| setting.flag).collect();
            flags.sort_unstable();
            assert!(flags.windows(2).all(|pair| pair[0] != pair[1]), "{}: {flags:?}", entry.name);
        }
        for setting in table::SETTINGS {
            let are_known = setting.commands.iter().all(|name| table::COMMANDS.iter().any(|entry| entry.name == *name));
            assert!(are_known && !setting.commands.is_empty(), "{}", setting.flag);
        }
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
        assert_eq!(command(&["backup", "--help"]), Ok(Command::Help(Some("backup"))));
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
            (&["--log", "xml"], "text or json"),
            (&["--log-level", "debug"], "error, warn or info"),
            (&["export", "--log", "json"], "--log here"),
            (&["start"], "start"),
            (&["export", "--format", "xml"], "ndjson or csv"),
            (&["export", "--output", "x"], "--output"),
            (&["check", "x"], "unknown argument \"x\""),
            (&["repair", "--data", ""], "--data needs a value"),
            (&["repair", "--data", "."], "repair needs --output"),
            (&["backup"], "backup needs a file"),
            (&["backup", ""], "unknown argument"),
            (&["backup", "a", "b"], "unknown argument \"b\"; see ordercast backup --help"),
            (&["completions"], "bash, zsh or fish"),
            (&["completions", "tcsh"], "completions tcsh"),
            (&["man", "--data", "x"], "--data here; see ordercast man --help"),
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
        let overview = help(None);
        for setting in table::SETTINGS {
            let (flag, variable) = (setting.flag, setting.variable());
            assert!(overview.contains(&format!("--{flag} ")) && overview.contains(&variable), "{flag}");
        }
        for entry in &table::COMMANDS[1..] {
            assert!(overview.contains(&format!("ordercast {} ", entry.name)), "{}", entry.name);
        }
    }

    #[test]
    fn an_error_keeps_its_cause() {
        let error = parse(["--listen=localhost".into()], []).unwrap_err();
        assert!(error.source().unwrap().is::<std::io::Error>(), "{error:?}");
    }
}
