//! The command line, its environment variables, and the defaults. Owns the options and how each is written. Reads
//! neither the real arguments nor the real environment: `main` passes them in.
//!
//! `table` lists all commands and options; `--help`, the man page and the completions are made from it.

pub mod client;
mod completions;
#[cfg(feature = "postgres")]
pub mod database;
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
#[cfg(feature = "postgres")]
use crate::store::postgres::Target;
use crate::store::retention::Retention;
use crate::tally::rfc3339::UtcOffset;

pub use crate::log::{Format as LogFormat, Options as LogOptions};
pub use completions::completions;
pub use help::help;
pub use man::man_page;

/// The default of connections at a time.
pub const MAX_CONNECTIONS: usize = 10_000;
/// The most threads that send totals to subscribers.
pub const MAX_FANOUT_THREADS: usize = 64;
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
    /// The database that it shares with other servers; then it has no data folder.
    #[cfg(feature = "postgres")]
    pub store: Option<Target>,
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
    /// The file of tokens that may change products and categories, close periods, order and read; `None` lets everybody
    /// change and close who may order.
    pub admin_token_file: Option<PathBuf>,
    /// The URL of another server, which this one follows; then it has no data folder. Needs the feature `client`.
    pub follow: Option<String>,
    /// A file whose first token this server sends to the one that it follows.
    pub follow_token_file: Option<PathBuf>,
    /// Connections at a time; lowered at start to what the system allows.
    pub max_connections: usize,
    /// Connections at a time from one IPv4 address or IPv6 /64; `None` for no cap. Behind a proxy all connections come
    /// from one address.
    pub max_connections_per_ip: Option<usize>,
    /// The threads that send totals to subscribers, up to [`MAX_FANOUT_THREADS`]; `None` for a number that fits the cores.
    pub fanout_threads: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).to_vec(),
            metrics_listen: Vec::new(),
            data: PathBuf::from(DATA),
            #[cfg(feature = "postgres")]
            store: None,
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
            follow: None,
            follow_token_file: None,
            max_connections: MAX_CONNECTIONS,
            max_connections_per_ip: None,
            fanout_threads: None,
        }
    }
}

/// Where orders are kept.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A data folder.
    Folder(PathBuf),
    /// A database.
    Database(Target),
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
    /// The database that is read instead.
    #[cfg(feature = "postgres")]
    pub store: Option<Target>,
    /// The output's format.
    pub format: ExportFormat,
}

/// What each part of a report covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReportBy {
    /// A period between two closes.
    Period,
    /// A calendar day.
    #[default]
    Day,
    /// An hour.
    Hour,
}

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// Aligned text.
    Table,
    /// RFC 4180 with a header.
    Csv,
    /// One JSON object.
    Json,
}

/// The options of `ordercast report`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The data folder.
    pub data: PathBuf,
    /// The database that is read instead.
    #[cfg(feature = "postgres")]
    pub store: Option<Target>,
    /// What each part covers.
    pub by: ReportBy,
    /// Where days and hours begin.
    pub utc_offset: UtcOffset,
    /// The output's format.
    pub format: ReportFormat,
}

/// The options of `ordercast compact`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compact {
    /// The data folder.
    pub data: PathBuf,
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
    /// The path of the copy, or the folder for copies that are named by their times.
    pub file: PathBuf,
    /// The copies that are left in the folder; `None` removes none.
    pub keep: Option<usize>,
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
    /// Print orders and sums.
    Report(Report),
    /// Copy a data file.
    Backup(Backup),
    /// Give the free pages of a data file back.
    Compact(Compact),
    /// Make the tables of a database, or copy orders to or from one.
    #[cfg(feature = "postgres")]
    Migrate(database::Migrate),
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
mod tests;
