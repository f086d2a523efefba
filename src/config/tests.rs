//! How arguments and variables are read, and that the table of options is true.

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
    let environment =
        [("ORDERCAST_LISTEN", "127.0.0.1:1, [::1]:2"), ("ORDERCAST_DATA", "env"), ("ORDERCAST_MAX_CONNECTIONS", "7")];
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
fn a_server_that_follows_another_one_has_no_options_of_data_and_tokens() {
    let follow = ["--follow", "http://box.lan:3000/"];
    let config = config(&[&follow[..], &["--follow-token-file", "f", "--max-connections", "9"]].concat(), &[]);
    assert_eq!((config.follow.as_deref(), config.max_connections), (Some("http://box.lan:3000"), 9));
    for other in ["--check", "--catalog=c", "--token-file=t", "--admin-token-file=t", "--keep-orders=9"] {
        let error = parse_words(&[&follow[..], &[other]].concat(), &[]).unwrap_err();
        let flag = other.split('=').next().unwrap();
        assert!(error.contains(flag) && error.contains("--follow names"), "{error}");
    }
    for (words, part) in [
        (&["--follow-token-file", "f"][..], "needs --follow URL"),
        (&["--follow", "https://box.lan"], "https is not supported"),
        (&["--follow", "box.lan"], "must be a URL"),
    ] {
        let error = parse_words(words, &[]).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_flag_that_says_where_the_data_are_counts_more_than_every_variable_that_says_so() {
    let environment = [("ORDERCAST_DATA", "d"), ("ORDERCAST_FOLLOW", "http://env")];
    assert_eq!(config(&[], &environment).follow.as_deref(), Some("http://env"), "an image may say where data would be");
    assert_eq!(config(&["--data=f"], &environment), config(&["--data=f"], &[]));
    let error = parse_words(&["--data=f", "--follow=http://h"], &[]).unwrap_err();
    assert!(error.contains("--data and --follow exclude each other"), "{error}");
}

#[cfg(feature = "postgres")]
#[test]
fn a_folder_and_a_database_exclude_each_other_and_flags_count_more_than_variables() {
    const URL: &str = "postgres://u@h/d";
    let store = format!("--store={URL}");
    let environment = [("ORDERCAST_DATA", "d"), ("ORDERCAST_STORE", URL), ("ORDERCAST_KEEP_ORDERS", "")];
    for command in ["serve", "export", "report"] {
        let parsed = |words: &[&str], environment| parse_words(&[&[command], words].concat(), environment);
        let (folder, database) = (parsed(&["--data=f"], &[]), parsed(&[&store], &[]));
        assert!(folder.is_ok() && database.is_ok() && folder != database);
        assert_eq!(parsed(&["--data=f"], &environment), folder, "{command}");
        assert_eq!(parsed(&[&store], &environment[..1]), database, "{command}");
        let error = parsed(&["--data=f", &store], &[]).unwrap_err();
        assert!(error.contains("--data and --store exclude each other"), "{error}");
        // A variable that names a database is there for the purpose, one that names a folder perhaps for an image.
        assert!(parsed(&[], &environment) != parsed(&[], &environment[..1]), "{command}");
    }
    assert_eq!(config(&["--follow=http://h"], &environment[1..]), config(&["--follow=http://h"], &[]));
    let copy = ["migrate", "--from=a", &format!("--to={URL}")];
    assert_eq!(parse_words(&copy, &environment), parse_words(&copy, &[]));
    let variables = [("ORDERCAST_FROM", "a"), ("ORDERCAST_TO", URL)];
    assert_eq!(parse_words(&["migrate", &store], &variables), parse_words(&["migrate", &store], &[]));
    assert!(parse_words(&["migrate"], &variables).is_ok());
    for words in [&["check"][..], &["backup", "f"], &["compact"], &["repair"]] {
        let error = parse_words(words, &environment).unwrap_err();
        assert!(
            error.contains("ORDERCAST_STORE") && error.contains("--data") && error.contains("for a database "),
            "{error}"
        );
        let with_flag = [words, &["--data=f"]].concat();
        assert_eq!(parse_words(&with_flag, &environment), parse_words(&with_flag, &[]), "the flag is plain");
    }
    for (option, part) in [
        ("--check", "--check (ORDERCAST_CHECK) is for a data folder"),
        ("--max-data-bytes=2000000", "--max-data-bytes (ORDERCAST_MAX_DATA_BYTES) is for a data folder"),
        ("--keep-keys=7", "--keep-keys (ORDERCAST_KEEP_KEYS): with --store the database says"),
        ("--max-keys=7", "`ordercast migrate --store URL`"),
        ("--keep-orders=7", "--keep-orders (ORDERCAST_KEEP_ORDERS)"),
    ] {
        let error = parse_words(&[&store, option], &[]).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let error = parse_words(&["migrate", &store, "--keep-orders=all"], &[]).unwrap_err();
    assert!(error.contains("from 1 on, or none"), "{error}");
}

#[cfg(not(feature = "postgres"))]
#[test]
fn a_build_without_postgresql_says_so() {
    for (words, environment) in [
        (&["--store=postgres://u@h/d"][..], &[][..]),
        (&["export", "--store=x"], &[]),
        (&["migrate", "--store=x"], &[]),
        (&["check"], &[("ORDERCAST_STORE", "x")]),
    ] {
        let error = parse_words(words, environment).unwrap_err();
        assert!(error.contains("--features postgres"), "{words:?}: {error}");
    }
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
            "" | "built in" | "no cap" | "all" | "by the cores" | "20 million" => continue,
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
    assert_eq!(config(&[], &[("ORDERCAST_LISTEN", "0, 7")]).listen, config(&["--listen=0", "--listen=7"], &[]).listen);
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
    let exports = |data, format| Export {
        data,
        #[cfg(feature = "postgres")]
        store: None,
        format,
    };
    assert_eq!(command(&["export"]), Ok(Command::Export(exports(data(), ExportFormat::Csv))));
    let export = exports("e".into(), ExportFormat::Ndjson);
    assert_eq!(command(&["export", "--format=ndjson", "--data", "e"]), Ok(Command::Export(export)));
    assert_eq!(command(&["check"]), Ok(Command::Check(Check { data: data() })));
    assert_eq!(command(&["repair"]), Ok(Command::Repair(Repair { data: data(), output: "d-repaired".into() })));
    let backup = Backup { data: data(), file: "f".into(), keep: None };
    assert_eq!(command(&["backup", "f"]), Ok(Command::Backup(backup.clone())));
    let backup = Backup { keep: Some(7), ..backup };
    assert_eq!(command(&["backup", "--keep", "7", "f"]), Ok(Command::Backup(backup)));
    assert_eq!(command(&["compact"]), Ok(Command::Compact(Compact { data: data() })));
    let utc_offset = UtcOffset::parse("-03:30").unwrap();
    let report = Report {
        data: data(),
        #[cfg(feature = "postgres")]
        store: None,
        by: ReportBy::Hour,
        utc_offset,
        format: ReportFormat::Csv,
    };
    let words = ["report", "--by", "hour", "--utc-offset", "-03:30", "--csv"];
    assert_eq!(command(&words), Ok(Command::Report(report)));
    assert_eq!(command(&["report", "--by=day", "--utc-offset=Z"]), command(&["report"]));
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
        (&["--fanout-threads", "0"], "threads from 1 to 64"),
        (&["--fanout-threads", "65"], "threads from 1 to 64"),
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
        (&["backup", "d", "--keep", "0"], "from 1 on"),
        (&["report", "--by", "week"], "period, day or hour"),
        (&["report", "--utc-offset", "2"], "--utc-offset 2: must be hours and minutes"),
        (&["report", "--utc-offset", "+24:00"], "--utc-offset +24:00"),
        (&["report", "--csv", "--json"], "exclude each other"),
        (&["compact", "x"], "unknown argument \"x\""),
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
fn no_error_shows_an_address_which_may_have_a_password() {
    let addresses = ["postgres://u:hush@h/d?foo=1", "postgres://u:hush@h:x/d", "postgres://u:hush"];
    let commands: [(&str, &[&str]); 5] = [
        ("serve", &["store", "follow"]),
        ("export", &["store"]),
        ("check", &["data"]),
        ("migrate", &["store", "from", "to"]),
        ("post", &["server"]),
    ];
    for (command, flags) in commands {
        for address in addresses {
            let error = parse_words(&[command, address], &[]).unwrap_err();
            assert!(!error.contains("hush"), "{command}: {error}");
            for flag in flags {
                let setting = table::SETTINGS.iter().find(|setting| setting.flag == *flag);
                // It belongs to a feature.
                let Some(setting) = setting else { continue };
                let error = parse_words(&[command, &format!("--{flag}"), address], &[]).unwrap_err();
                assert!(error.contains(&format!("--{flag}")) && !error.contains("hush"), "{error}");
                let variable = setting.variable();
                let error = parse_words(&[command], &[(&variable, address)]).unwrap_err();
                assert!(!error.contains("hush"), "{error}");
            }
        }
    }
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
