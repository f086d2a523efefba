//! Reading options, from flags and environment variables, for every command.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};

#[cfg(feature = "postgres")]
use super::database::{self, Migrate};
use super::table::{COMMANDS, Entry, Kind, PREFIX, SERVE, SETTINGS, Setting, variable_of};
use super::values::{Values, text};
use super::{Backup, Check, Command, Compact, Config, Export, Repair, Report, Shell, client};
use crate::store::Reason;
use crate::store::retention::Retention;
use crate::tally::spelling::suggestion;

pub(super) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &[(OsString, OsString)],
) -> Result<Command, Reason> {
    let mut arguments = arguments.into_iter().peekable();
    match arguments.peek() {
        Some(word) if word == "help" => return help(arguments.nth(1).as_deref()),
        Some(word) if word == "version" => return Ok(Command::Version),
        _ => {}
    }
    let named = arguments.peek().and_then(|word| COMMANDS.iter().find(|entry| word == entry.name));
    let entry = named.unwrap_or(&COMMANDS[0]);
    let arguments = arguments.skip(usize::from(named.is_some()));
    let mut values = Values::default();
    let default_listen = std::mem::take(&mut values.config.listen);
    match read(entry, Parser::from_args(arguments), environment, &mut values)? {
        // Without the name of a command, all of them are of interest.
        Some(Command::Help(_)) if named.is_none() => return Ok(Command::Help(None)),
        Some(command) => return Ok(command),
        None => {}
    }
    let report_format = values.report_format();
    #[cfg(feature = "postgres")]
    let (kept, from, to) = (values.kept, values.from.take(), values.to.take());
    #[cfg(feature = "postgres")]
    let store = values.config.store.clone();
    let Values { mut config, log, format, output, keep, by, utc_offset, access, key, arguments, .. } = values;
    let data = config.data.clone();
    let mut arguments = arguments.into_iter();
    Ok(match entry.name {
        "export" => Command::Export(Export {
            data,
            #[cfg(feature = "postgres")]
            store,
            format,
        }),
        "report" => {
            let format = report_format.ok_or("report: --csv and --json exclude each other; leave one out")?;
            Command::Report(Report {
                data,
                #[cfg(feature = "postgres")]
                store,
                by,
                utc_offset,
                format,
            })
        }
        "compact" => Command::Compact(Compact { data }),
        "check" => Command::Check(Check { data }),
        "repair" => {
            let output = output.or_else(|| default_output(&data));
            let output = output.ok_or("repair needs --output DIR, a folder for the new file")?;
            Command::Repair(Repair { data, output })
        }
        "backup" => {
            let file =
                arguments.next().ok_or("backup needs a file to write, such as ordercast backup orders.backup")?;
            Command::Backup(Backup { data, file: file.into(), keep })
        }
        #[cfg(feature = "postgres")]
        "migrate" => Command::Migrate(Migrate::new(store, kept, from, to)?),
        "post" => Command::Post(client::post(access, key, arguments.as_slice())?),
        "watch" => Command::Watch(client::watch(access, arguments.as_slice())?),
        "completions" => {
            let word = arguments.next().ok_or("completions needs the name of a shell: bash, zsh or fish")?;
            let shell = Shell::ALL.into_iter().find(|shell| word == shell.name());
            let unknown = || format!("completions {}: must be bash, zsh or fish", word.to_string_lossy());
            Command::Completions(shell.ok_or_else(unknown)?)
        }
        "man" => Command::Man,
        _ => {
            if config.listen.is_empty() {
                config.listen = default_listen;
            }
            if config.read_token_file.is_some() && config.token_file.is_none() {
                return Err("--read-token-file needs --token-file too: without it, everybody could write".into());
            }
            check_place(&config)?;
            Command::Serve(Box::new(config), log)
        }
    })
}

/// Rejects options of a data folder on a server without one, and those of tokens on one that follows another.
fn check_place(config: &Config) -> Result<(), Reason> {
    let default = Config::default();
    let Retention { keys, max_keys, orders, data_bytes } = config.retention;
    let of_folder = [
        ("check", config.check),
        ("max-data-bytes", data_bytes.is_some()),
        ("keep-keys", keys != default.retention.keys),
        ("max-keys", max_keys.is_some()),
        ("keep-orders", orders.is_some()),
    ];
    let of_followed = [
        ("catalog", config.catalog.is_some()),
        ("token-file", config.token_file.is_some()),
        ("read-token-file", config.read_token_file.is_some()),
        ("admin-token-file", config.admin_token_file.is_some()),
    ];
    let first = |options: &[(&'static str, bool)]| Some(options.iter().find(|(_, is_given)| *is_given)?.0);
    let named = |flag| format!("--{flag} ({})", variable_of(flag));
    if config.follow.is_none() && config.follow_token_file.is_some() {
        return Err("--follow-token-file needs --follow URL".into());
    }
    #[cfg(feature = "postgres")]
    if config.store.is_some() {
        return match first(&of_folder) {
            _ if config.follow.is_some() => Err("--store and --follow exclude each other; leave one out".into()),
            None => Ok(()),
            Some(flag @ ("check" | "max-data-bytes")) => {
                Err(format!("{} is for a data folder; leave it out with --store", named(flag)).into())
            }
            Some(flag) => Err(format!(
                "{}: with --store the database says what is kept, for all its servers; leave it out here, and set it with \
                 `ordercast migrate --store URL`",
                named(flag)
            )
            .into()),
        };
    }
    match first(&of_folder).or_else(|| first(&of_followed)) {
        Some(flag) if config.follow.is_some() => {
            let option = named(flag);
            Err(format!("{option} is for the server that --follow names; this one keeps nothing, so leave it out")
                .into())
        }
        _ => Ok(()),
    }
}

/// `ordercast help`, perhaps with the name of a command.
fn help(topic: Option<&OsStr>) -> Result<Command, Reason> {
    let Some(topic) = topic.filter(|topic| !topic.as_encoded_bytes().starts_with(b"-")) else {
        return Ok(Command::Help(None));
    };
    match COMMANDS.iter().find(|entry| topic == entry.name) {
        Some(entry) => Ok(Command::Help(Some(entry.name))),
        None => Err(unknown_command(&topic.to_string_lossy())),
    }
}

/// What a build without the feature says of what needs it.
const NO_POSTGRES: &str = "this build has no PostgreSQL; build it with --features postgres";

fn unknown_command(word: &str) -> Reason {
    if !cfg!(feature = "postgres") && word == "migrate" {
        return format!("migrate: {NO_POSTGRES}").into();
    }
    let meant = suggestion("", word, COMMANDS.iter().map(|entry| entry.name));
    format!("unknown argument {word:?}{meant}; see ordercast --help").into()
}

/// Reads the arguments, and the environment for the options that they leave out. Returns [`Command::Help`] or
/// [`Command::Version`] if an argument asks for it, whatever follows.
fn read(
    entry: &Entry,
    mut parser: Parser,
    environment: &[(OsString, OsString)],
    values: &mut Values,
) -> Result<Option<Command>, Reason> {
    let see = if entry.name == SERVE { String::new() } else { format!("{} ", entry.name) };
    let see = format!("see ordercast {see}--help");
    let mut seen = Vec::new();
    loop {
        // Without this, lexopt would read a negative amount as short options.
        if entry.arguments.contains(&client::AMOUNT)
            && let Some(mut raw) = parser.try_raw_args()
            && let Some(number) = raw.next_if(client::is_negative)
        {
            values.arguments.push(number);
            continue;
        }
        let Some(argument) = parser.next().map_err(|error| error.to_string())? else { break };
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Some(Command::Help(Some(entry.name)))),
            Arg::Long("version") | Arg::Short('V') => return Ok(Some(Command::Version)),
            Arg::Long(name) => {
                let Some(setting) = entry.settings().find(|setting| setting.flag == name) else {
                    #[cfg(feature = "postgres")]
                    if let Some(instead) = database::instead_of(entry.name).filter(|_| name == "store") {
                        return Err(format!("{} is for a data folder; for a database {instead}", entry.name).into());
                    }
                    if !cfg!(feature = "postgres") && name == "store" {
                        return Err(format!("--store: {NO_POSTGRES}").into());
                    }
                    let meant = suggestion("--", name, entry.settings().map(|setting| setting.flag));
                    return Err(format!("unknown option --{name} here{meant}; {see}").into());
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
                    return Err(format!("--{flag} needs a value; {see}").into());
                }
                (setting.set)(values, &value)
                    .map_err(|error| error.prefixed(format!("--{flag}{}", shown(setting, " ", &value))))?;
            }
            Arg::Short(letter) => return Err(format!("unknown option -{letter}; {see}").into()),
            Arg::Value(word) if values.arguments.len() < entry.arguments.len() && !word.is_empty() => {
                values.arguments.push(word);
            }
            Arg::Value(word) => {
                let word = word.to_string_lossy();
                // An address may have a password.
                let word = word.split_once("://").map_or(word.clone(), |(scheme, _)| format!("{scheme}://…").into());
                if entry.name == SERVE {
                    return Err(unknown_command(&word));
                }
                return Err(format!("unknown argument {word:?}; {see}").into());
            }
        }
    }
    // A command without options reads no variables, so wrong ones do not matter to it.
    if entry.settings().next().is_some() {
        check_names(environment)?;
    }
    let is_excluded = |flag: &str| seen.iter().find(|other| exclude_each_other(flag, other));
    if let Some((flag, other)) = seen.iter().find_map(|flag| Some((flag, is_excluded(flag)?))) {
        return Err(format!("--{flag} and --{other} exclude each other; leave one out").into());
    }
    let variable = |name: &str| environment.iter().find(|(known, value)| *known == *name && !value.is_empty());
    #[cfg(feature = "postgres")]
    if let Some(instead) = database::instead_of(entry.name)
        && !seen.contains(&"data")
        && variable("ORDERCAST_STORE").is_some()
    {
        let name = entry.name;
        return Err(format!("ORDERCAST_STORE names a database. {name} is for a data folder, which --data names; for a database {instead}").into());
    }
    for setting in entry.settings().filter(|setting| !seen.contains(&setting.flag)) {
        // A flag counts more than the variables of what it excludes, as it does more than its own.
        let name = setting.variable();
        let Some((_, value)) = variable(&name).filter(|_| is_excluded(setting.flag).is_none()) else { continue };
        set_from_variable(setting, values, value)
            .map_err(|error| error.prefixed(format!("{name}{}", shown(setting, "=", value))))?;
    }
    Ok(None)
}

/// The options that say where the data are, those of one line together. Each line stands instead of the others.
const PLACES: [&[&str]; 4] = [&["data"], &["store"], &["follow"], &["from", "to"]];

/// Whether one of these options is given instead of the other.
fn exclude_each_other(one: &str, other: &str) -> bool {
    let line = |flag| PLACES.iter().position(|line| line.contains(&flag));
    line(one).is_some() && line(other).is_some() && line(one) != line(other)
}

/// The value of an option in an error, behind what separates them; nothing of an address, which may have a password.
fn shown(setting: &Setting, separator: &str, value: &OsStr) -> String {
    let text = value.to_string_lossy();
    if setting.value.contains("URL") || text.starts_with("postgres") {
        return String::new();
    }
    format!("{separator}{text}")
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
            if !cfg!(feature = "postgres") && own == "STORE" {
                return Err(format!("{name}: {NO_POSTGRES}").into());
            }
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

/// The default of `repair --output`: `data-repaired` for `data`. `None` for a path without a name, such as `.`.
fn default_output(data: &Path) -> Option<PathBuf> {
    let mut name = data.file_name()?.to_owned();
    name.push("-repaired");
    Some(data.with_file_name(name))
}
