//! Arguments and environment.
//!
//! An input is a list of words, separated by NUL as in `/proc/self/cmdline`. A word such as `ORDERCAST_DATA=x` is an
//! environment variable, any other word an argument. Words need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use ordercast::Config;
use ordercast::internal::config::ReportFormat;
use ordercast::internal::config::client::{Access, Orders, Post, Watch};
use ordercast::internal::config::{
    self, Backup, Check, Command, Compact, Export, ExportFormat, LogFormat, LogOptions, Repair, Report, ReportBy,
};
use ordercast::internal::store::retention::Retention;

/// The flags and their environment variables.
const OPTIONS: [(&str, &str); 16] = [
    ("--listen", "ORDERCAST_LISTEN"),
    ("--data", "ORDERCAST_DATA"),
    ("--catalog", "ORDERCAST_CATALOG"),
    ("--static-dir", "ORDERCAST_STATIC_DIR"),
    ("--allow-origin", "ORDERCAST_ALLOW_ORIGIN"),
    ("--allow-host", "ORDERCAST_ALLOW_HOST"),
    ("--token-file", "ORDERCAST_TOKEN_FILE"),
    ("--read-token-file", "ORDERCAST_READ_TOKEN_FILE"),
    ("--keep-keys", "ORDERCAST_KEEP_KEYS"),
    ("--max-keys", "ORDERCAST_MAX_KEYS"),
    ("--keep-orders", "ORDERCAST_KEEP_ORDERS"),
    ("--max-data-bytes", "ORDERCAST_MAX_DATA_BYTES"),
    ("--max-connections", "ORDERCAST_MAX_CONNECTIONS"),
    ("--max-connections-per-ip", "ORDERCAST_MAX_CONNECTIONS_PER_IP"),
    ("--log", "ORDERCAST_LOG"),
    ("--log-level", "ORDERCAST_LOG_LEVEL"),
];

/// The fuzz target `command_line`.
///
/// # Panics
/// When an error names nothing of the input, or when an accepted configuration is out of range, or is not the same after it
/// was written as flags and parsed again.
pub fn check(input: &[u8]) {
    let (mut arguments, mut environment) = (Vec::new(), Vec::new());
    for word in input.split(|byte| *byte == 0).filter(|_| !input.is_empty()) {
        let equals = word.iter().position(|byte| *byte == b'=').filter(|_| word.starts_with(b"ORDERCAST_"));
        match equals {
            Some(at) => environment.push((&word[..at], &word[at + 1..])),
            None => arguments.push(word),
        }
    }
    if may_resolve_names(&arguments, &environment) {
        return;
    }
    match parse(&arguments, &environment) {
        Ok(Command::Help(_) | Command::Version) => {
            let is_word = arguments.first().is_some_and(|word| *word == b"help" || *word == b"version");
            assert!(is_word || arguments.iter().any(|word| word.starts_with(b"-")), "help that was not asked for");
        }
        Ok(Command::Completions(shell)) => assert!(arguments.contains(&shell.name().as_bytes())),
        Ok(Command::Man) => assert_eq!(arguments[0], b"man"),
        Ok(Command::Serve(config, log)) => {
            check_ranges(&config);
            check_round_trip(&config, log);
        }
        Ok(command @ (Command::Post(_) | Command::Watch(_))) => check_client(&command, arguments[0]),
        Ok(command) => check_tool(&command, arguments[0]),
        Err(error) => check_error(&error, &arguments, &environment),
    }
}

/// A command for a data folder is named first, has its paths, and is the same after it was written out and parsed
/// again.
fn check_tool(command: &Command, name: &[u8]) {
    let format = |format| match format {
        ExportFormat::Ndjson => "ndjson",
        ExportFormat::Csv => "csv",
    };
    let kept;
    let (own, mut words): (&[u8], Vec<&[u8]>) = match command {
        Command::Export(Export { format: told, .. }) => (b"export", vec![b"--format", format(*told).as_bytes()]),
        Command::Check(_) => (b"check", Vec::new()),
        Command::Repair(Repair { output, .. }) => (b"repair", vec![b"--output", output.as_os_str().as_bytes()]),
        // After `--` the name of a file may begin with a dash.
        Command::Backup(Backup { file, keep, .. }) => {
            kept = keep.map_or(String::new(), |keep| keep.to_string());
            let flag: &[&[u8]] = if kept.is_empty() { &[] } else { &[b"--keep", kept.as_bytes()] };
            (b"backup", [flag, &[b"--", file.as_os_str().as_bytes()]].concat())
        }
        Command::Compact(_) => (b"compact", Vec::new()),
        Command::Report(Report { by, utc_offset, format, .. }) => {
            let by: &[u8] = match by {
                ReportBy::Period => b"period",
                ReportBy::Day => b"day",
                ReportBy::Hour => b"hour",
            };
            let format: &[&[u8]] = match format {
                ReportFormat::Table => &[],
                ReportFormat::Csv => &[b"--csv"],
                ReportFormat::Json => &[b"--json"],
            };
            kept = utc_offset.to_string();
            (b"report", [&[b"--by", by, b"--utc-offset", kept.as_bytes()][..], format].concat())
        }
        _ => unreachable!("{command:?}"),
    };
    let (Command::Export(Export { data, .. })
    | Command::Check(Check { data })
    | Command::Repair(Repair { data, .. })
    | Command::Compact(Compact { data })
    | Command::Report(Report { data, .. })
    | Command::Backup(Backup { data, .. })) = command
    else {
        unreachable!("{command:?}")
    };
    assert_eq!(name, own);
    let start: [&[u8]; 3] = [own, b"--data", data.as_os_str().as_bytes()];
    words.splice(0..0, start);
    assert!(words.iter().all(|word| !word.is_empty()), "{words:?}");
    assert_eq!(parse(&words, &[]).as_ref(), Ok(command), "{words:?}");
}

/// A command that speaks to a server is named first, has a URL that a client can use, and is the same after it was written
/// out and parsed again.
fn check_client(command: &Command, name: &[u8]) {
    let (Command::Post(Post { access, .. }) | Command::Watch(Watch { access, .. })) = command else {
        unreachable!("{command:?}")
    };
    let Access { server, token_file, timeout } = access;
    let host = server.strip_prefix("http://").expect("a scheme");
    assert!(!host.is_empty() && !host.ends_with('/') && host.bytes().all(|byte| byte.is_ascii_graphic()), "{server}");
    let own: &[u8] = if matches!(command, Command::Post(_)) { b"post" } else { b"watch" };
    assert_eq!(name, own);
    let mut words = vec![own.to_vec(), b"--server".to_vec(), server.clone().into_bytes()];
    if let Some(path) = token_file {
        words.extend([b"--token-file".to_vec(), path.as_os_str().as_bytes().to_vec()]);
    }
    if let Some(time) = timeout {
        assert!(time.as_secs() > 0 && time.subsec_nanos() == 0, "{time:?}");
        words.extend([b"--timeout".to_vec(), time.as_secs().to_string().into_bytes()]);
    }
    let key = match command {
        Command::Post(Post { orders: Orders::One { key, .. }, .. }) => key.as_ref().map(|key| key.as_str().to_owned()),
        Command::Post(Post { orders: Orders::Input { prefix }, .. }) => prefix.clone(),
        _ => None,
    };
    if let Some(key) = key {
        assert!(!key.is_empty() && !key.contains(char::is_control), "{key:?}");
        words.extend([b"--key".to_vec(), key.into_bytes()]);
    }
    match command {
        Command::Post(Post { orders: Orders::One { id, amount, .. }, .. }) => {
            words.extend([id.clone().into_bytes(), amount.get().to_string().into_bytes()]);
        }
        Command::Post(_) => words.push(b"-".to_vec()),
        Command::Watch(Watch { category, .. }) => words.extend(category.clone().map(String::into_bytes)),
        _ => unreachable!("{command:?}"),
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    assert_eq!(parse(&words, &[]).as_ref(), Ok(command), "{words:?}");
}

fn parse(arguments: &[&[u8]], environment: &[(&[u8], &[u8])]) -> Result<Command, String> {
    let words = arguments.iter().map(|word| OsString::from_vec(word.to_vec()));
    let owned = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let environment = environment.iter().map(|(name, value)| (owned(name), owned(value)));
    config::parse(words, environment).map_err(|error| error.to_string())
}

/// Whether parsing could ask a name server, which a fuzzer must not do. Treats more words as addresses than `parse`
/// does.
fn may_resolve_names(arguments: &[&[u8]], environment: &[(&[u8], &[u8])]) -> bool {
    let follows = arguments.windows(2).filter(|pair| pair[0] == b"--listen").map(|pair| pair[1]);
    let joined = arguments.iter().filter_map(|word| word.strip_prefix(b"--listen="));
    let listed = environment.iter().filter(|(name, _)| *name == b"ORDERCAST_LISTEN").map(|(_, value)| *value);
    let listed = listed.filter_map(|value| std::str::from_utf8(value).ok()).flat_map(|value| value.split(','));
    let words = follows.chain(joined).filter_map(|value| std::str::from_utf8(value).ok());
    words.chain(listed.map(str::trim)).any(|value| {
        let plain = value.parse::<SocketAddr>().is_ok();
        let name = value.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        !plain && name.is_some_and(|(host, _)| host != "localhost")
    })
}

fn check_ranges(config: &Config) {
    assert!(!config.listen.is_empty() && config.max_connections >= 1);
    let mut fixed: Vec<_> = config.listen.iter().filter(|address| address.port() != 0).collect();
    let all = fixed.len();
    fixed.sort_unstable();
    fixed.dedup();
    assert_eq!(fixed.len(), all, "an address occurs twice: {:?}", config.listen);
    let Retention { keys, max_keys, orders, data_bytes } = &config.retention;
    let hours = keys.as_secs() / 3_600;
    assert!((1..=366 * 24).contains(&hours) && *keys == Duration::from_secs(hours * 3_600), "keys for {keys:?}");
    assert!(max_keys.is_none_or(|keys| keys >= 1));
    assert!(orders.is_none_or(|orders| orders >= 1) && data_bytes.is_none_or(|bytes| bytes >= 1 << 20));
    assert!(config.max_connections_per_ip.is_none_or(|number| number >= 1));
    assert!(config.read_token_file.is_none() || config.token_file.is_some(), "read tokens without order tokens");
    let Config { data, catalog, static_dir, token_file, read_token_file, .. } = config;
    for path in [catalog, static_dir, token_file, read_token_file].into_iter().flatten().chain([data]) {
        assert!(!path.as_os_str().is_empty(), "a path is empty");
    }
    for host in &config.allow_hosts {
        assert!(!host.is_empty() && !host.contains(['/', '*']), "host {host:?}");
    }
    for origin in &config.allow_origins {
        let host = origin.split_once("://").map(|(_, host)| host.trim_end_matches('/'));
        assert!(origin == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains('/')), "origin {origin:?}");
    }
}

/// A configuration is the same after it was written as flags or, where commas allow it, as environment, and parsed
/// again.
fn check_round_trip(config: &Config, log: LogOptions) {
    let path = |path: &Option<PathBuf>| path.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
    let texts = |texts: &[String]| texts.iter().map(|text| text.clone().into_bytes()).collect();
    let number = |number: Option<u64>| number.iter().map(|number| number.to_string().into_bytes()).collect();
    // In the order of OPTIONS.
    let lists: [Vec<Vec<u8>>; OPTIONS.len()] = [
        config.listen.iter().map(|address| address.to_string().into_bytes()).collect(),
        path(&Some(config.data.clone())),
        path(&config.catalog),
        path(&config.static_dir),
        texts(&config.allow_origins),
        texts(&config.allow_hosts),
        path(&config.token_file),
        path(&config.read_token_file),
        number(Some(config.retention.keys.as_secs() / 3_600)),
        number(config.retention.max_keys),
        number(config.retention.orders),
        number(config.retention.data_bytes),
        number(Some(config.max_connections as u64)),
        number(config.max_connections_per_ip.map(|number| number as u64)),
        vec![if log.format == LogFormat::Json { b"json".to_vec() } else { b"text".to_vec() }],
        vec![log.level.to_string().to_lowercase().into_bytes()],
    ];
    let (mut joined, mut apart, mut twins) = (vec![b"serve".to_vec()], Vec::new(), Vec::new());
    for ((flag, twin), values) in OPTIONS.into_iter().zip(&lists) {
        for value in values {
            joined.push([flag.as_bytes(), b"=", value].concat());
            apart.extend([flag.as_bytes().to_vec(), value.clone()]);
        }
        twins.push((twin.as_bytes(), values.join(&b','), values));
    }
    for arguments in [joined, apart] {
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        assert_eq!(parse(&arguments, &[]), Ok(Command::Serve(Box::new(config.clone()), log)), "{arguments:?}");
    }
    // Lists are split at commas, paths are not.
    let is_list =
        |name: &[u8]| [&b"ORDERCAST_LISTEN"[..], b"ORDERCAST_ALLOW_ORIGIN", b"ORDERCAST_ALLOW_HOST"].contains(&name);
    let fits =
        |value: &Vec<u8>| std::str::from_utf8(value).is_ok_and(|text| text.trim() == text && !text.contains(','));
    if twins.iter().all(|(name, _, values)| !is_list(name) || values.iter().all(fits)) {
        let environment: Vec<(&[u8], &[u8])> = twins.iter().map(|(name, value, _)| (*name, value.as_slice())).collect();
        assert_eq!(parse(&[], &environment), Ok(Command::Serve(Box::new(config.clone()), log)), "{environment:?}");
    }
}

/// An error names the word or the variable that it is about.
fn check_error(error: &str, arguments: &[&[u8]], environment: &[(&[u8], &[u8])]) {
    let option = OPTIONS.iter().any(|(flag, _)| error.contains(flag));
    let twin = environment.iter().any(|(name, _)| error.contains(&*String::from_utf8_lossy(name)));
    let word = arguments.iter().any(|word| {
        let word = String::from_utf8_lossy(word);
        // A word may be shown as it is or quoted, a flag without its value, short flags one by one.
        let name = word.split('=').next().unwrap_or_default();
        let letter = word.chars().skip(1).any(|letter| error.contains(&format!("-{letter}")));
        (!name.is_empty() && error.contains(name)) || error.contains(&format!("{word:?}")) || letter
    });
    assert!(option || twin || word, "{error}");
}
