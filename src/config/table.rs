//! The table of commands and options: the one source of the command line, of `--help`, of the man page and of the
//! completions of shells.

use std::ffi::OsStr;

use super::client::{self, AMOUNT};
#[cfg(feature = "postgres")]
use super::database;
use super::values::{
    Values, add_addresses, add_frame, add_host, add_origin, assign, bytes, fanout_threads, folder, format, hours,
    log_format, log_level, positive, report_by, seconds, text, utc_offset, yes_or_no,
};
use crate::store::Reason;

/// What the names of all environment variables begin with.
pub(super) const PREFIX: &str = "ORDERCAST_";

/// One option. The name of its environment variable follows from its flag.
pub(super) struct Setting {
    pub(super) flag: &'static str,
    /// The name of its value: `FILE` and `DIR` are paths, `a|b` is one of these words, and others are other texts. Empty
    /// for a switch.
    pub(super) value: &'static str,
    /// The value without the flag, or a text that says what holds then; empty where nothing is to say.
    pub(super) default: &'static str,
    /// Plain text, without a full stop. Up to the first semicolon it is a line of a shell's completions.
    pub(super) help: &'static str,
    /// The commands that take it. A flag that means different things to two commands has a row for each.
    pub(super) commands: &'static [&'static str],
    pub(super) kind: Kind,
    pub(super) set: Set,
}

/// Stores the value of an option.
pub(super) type Set = fn(&mut Values, &OsStr) -> Result<(), Reason>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    One,
    /// It may be repeated; the environment variable separates the values with commas.
    List,
    /// A flag without a value; the environment variable is 1 or 0.
    Switch,
}

impl Setting {
    pub(super) fn variable(&self) -> String {
        variable_of(self.flag)
    }
}

/// The variable of a flag.
pub(super) fn variable_of(flag: &str) -> String {
    format!("{PREFIX}{}", flag.replace('-', "_").to_ascii_uppercase())
}

/// One command.
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// Its arguments, in the order in which they follow, named as [`Setting::value`] is. An optional one is in brackets.
    pub(super) arguments: &'static [&'static str],
    /// Plain text, without a full stop, of at most 60 letters.
    pub(super) summary: &'static str,
    /// Sentences for the command's own help and for the man page; may be empty.
    pub(super) details: &'static str,
}

impl Entry {
    /// Its options, in the order of the table.
    pub(super) fn settings(&self) -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(|setting| setting.commands.contains(&self.name))
    }

    /// How it is written, without its options.
    pub(super) fn synopsis(&self) -> String {
        [&[self.name][..], self.arguments].concat().join(" ")
    }
}

/// The command that may be left out.
pub(super) const SERVE: &str = "serve";

/// The commands. The first one may be left out.
pub(super) const COMMANDS: &[Entry] = &[
    Entry {
        name: SERVE,
        arguments: &[],
        summary: "Serve orders and the board; may be left out",
        details: "Prints a line with its URL to standard output for each address, once it accepts connections. SIGTERM \
                  or SIGINT (Ctrl-C) stops it in order, a second one at once; SIGHUP reads the token files again.",
    },
    Entry {
        name: "export",
        arguments: &[],
        summary: "Print the order log",
        details: "Works also while a server runs.",
    },
    Entry {
        name: "check",
        arguments: &[],
        summary: "Check whether the data file is sound",
        details: "Reads the whole file, also while a server runs, and compares totals, log and periods. The exit code is \
                  1 if the file is damaged.",
    },
    Entry {
        name: "report",
        arguments: &[],
        summary: "Print orders and sums per product of each day",
        details: "Works also while a server runs. Reads the order log; sums of closed periods come from their stored \
                  reports. Starting totals of products are no orders and belong to no report.",
    },
    Entry {
        name: "backup",
        arguments: &["FILE|DIR"],
        summary: "Copy the data file, also while a server runs",
        details: "The copy is complete, checked and synced before it gets its name, and has no free pages. In an \
                  existing folder, or with --keep, its name has the time and a number. To restore a backup, stop the \
                  server and put it into an empty data folder under the name ordercast.sqlite3.",
    },
    Entry {
        name: "compact",
        arguments: &[],
        summary: "Give the free pages of the data file back",
        details: "Needs the server to be stopped, and room for the new file beside the old one.",
    },
    Entry {
        name: "repair",
        arguments: &[],
        summary: "Save what is readable of a damaged file to another folder",
        details: "The damaged folder stays as it is. No server may use it.",
    },
    #[cfg(feature = "postgres")]
    Entry {
        name: "migrate",
        arguments: &[],
        summary: "Make the tables of a database, or copy to or from one",
        details: "With --store it makes the tables and sets what they keep; tables of an older version are updated. With \
                  --from and --to it copies everything from a data folder into a database or back, whole or not at all, \
                  and compares both. It needs the rights of the owner; what a server needs is less, see docs/scaling.md.",
    },
    Entry {
        name: "post",
        arguments: &["ID", AMOUNT],
        summary: "Post an order to a server, again until it is answered",
        details: "With a dash instead of ID and AMOUNT it posts the orders of standard input, one JSON object a line, such \
                  as {\"id\":\"A1\",\"amount\":10}. Every order has a key, so that it counts once. The exit code is 1 if \
                  an order is refused, and 3 if the server does not answer.",
    },
    Entry {
        name: "watch",
        arguments: &["[CATEGORY]"],
        summary: "Show the totals of a server, live",
        details: "On a terminal it shows a table, until Ctrl-C; otherwise it prints one line a change, beginning with the \
                  current totals. The exit code is 1 if the server refuses, and 3 if it does not answer.",
    },
    Entry {
        name: "completions",
        arguments: &["bash|zsh|fish"],
        summary: "Print the completions for a shell",
        details: "For bash, for example: ordercast completions bash > \
                  ~/.local/share/bash-completion/completions/ordercast",
    },
    Entry {
        name: "man",
        arguments: &[],
        summary: "Print the man page",
        details: "To read it: ordercast man | man -l -",
    },
];

const SERVER: &[&str] = &[SERVE];
#[cfg(feature = "postgres")]
const MIGRATE: &[&str] = &["migrate"];
/// The commands that speak to a server.
const CLIENT: &[&str] = &["post", "watch"];

pub(super) const SETTINGS: &[Setting] = &[
    list(
        ("listen", "ADDR", "127.0.0.1:3000 and 127.0.0.1:5050"),
        "Address to serve on, such as 127.0.0.1:3000, or a port of this machine; may be repeated (port 0: any free port)",
        SERVER,
        |to, value| add_addresses(&mut to.config.listen, text(value)?),
    ),
    list(
        ("metrics-listen", "ADDR", ""),
        "Address that serves /metrics, /healthz and /readyz only; /metrics is at no other address then, and at every one \
         without this; may be repeated",
        SERVER,
        |to, value| add_addresses(&mut to.config.metrics_listen, text(value)?),
    ),
    one(
        ("data", "DIR", "data"),
        "Folder of the data file",
        &[SERVE, "export", "report", "check", "backup", "compact", "repair"],
        |to, value| assign(&mut to.config.data, folder(value)?),
    ),
    #[cfg(feature = "postgres")]
    one(
        ("store", "URL", ""),
        "PostgreSQL database that is shared with other servers, such as postgres://ordercast@db.example/ordercast; there \
         is no data folder then",
        &[SERVE, "export", "report", "migrate"],
        |to, value| assign(&mut to.config.store, Some(database::database(value)?)),
    ),
    switch(
        "check",
        "Check the whole data file before serving; without it that is done beside serving, after a stop that was not in \
         order",
        SERVER,
        |to, value| assign(&mut to.config.check, yes_or_no(value)?),
    ),
    one(
        ("catalog", "FILE", "built in"),
        "Catalogue (JSON) whose new categories and products are added",
        SERVER,
        |to, value| assign(&mut to.config.catalog, Some(value.into())),
    ),
    one(("static-dir", "DIR", "built in"), "Serve the web app from this folder", SERVER, |to, value| {
        assign(&mut to.config.static_dir, Some(value.into()))
    }),
    list(
        ("allow-origin", "ORIGIN", ""),
        "Accept web pages of this origin, such as https://shop.example (* for all); may be repeated",
        SERVER,
        |to, value| add_origin(&mut to.config.allow_origins, text(value)?),
    ),
    list(
        ("allow-frame", "ORIGIN", ""),
        "Let pages of this origin show the web app in a frame (* for all); may be repeated",
        SERVER,
        |to, value| add_frame(&mut to.config.allow_frames, text(value)?),
    ),
    list(
        ("allow-host", "NAME", ""),
        "Accept this host name too, such as the one that a proxy passes on; may be repeated",
        SERVER,
        |to, value| add_host(&mut to.config.allow_hosts, text(value)?),
    ),
    one(
        ("token-file", "FILE", ""),
        "Ordering needs a token of this file (one a line); so does changing products unless there is an \
         --admin-token-file; read again on SIGHUP",
        SERVER,
        |to, value| assign(&mut to.config.token_file, Some(value.into())),
    ),
    one(
        ("read-token-file", "FILE", ""),
        "Reading products and totals needs a token of this file, of --token-file, which must be given too, or of \
         --admin-token-file",
        SERVER,
        |to, value| assign(&mut to.config.read_token_file, Some(value.into())),
    ),
    one(
        ("admin-token-file", "FILE", ""),
        "Changing products and categories and closing periods needs a token of this file; it may order and read too; \
         without the file, those who may order may do so",
        SERVER,
        |to, value| assign(&mut to.config.admin_token_file, Some(value.into())),
    ),
    one(
        ("follow", "URL", ""),
        "Follow this other server, such as http://box.lan:3000, instead of keeping data; its feeds are served here, and other \
         requests are passed on to it",
        SERVER,
        |to, value| assign(&mut to.config.follow, Some(client::server(text(value)?)?)),
    ),
    one(
        ("follow-token-file", "FILE", ""),
        "File with the token that --follow sends to the other server",
        SERVER,
        |to, value| assign(&mut to.config.follow_token_file, Some(value.into())),
    ),
    one(("keep-keys", "HOURS", "24"), "Retention time of keys after their use; 1 to 8784", SERVER, |to, value| {
        assign(&mut to.config.retention.keys, hours(value)?)
    }),
    one(
        ("max-keys", "N", "20 million"),
        "Cap on keys at a time; orders with new keys are rejected when it is reached",
        SERVER,
        |to, value| assign(&mut to.config.retention.max_keys, Some(positive(value)?)),
    ),
    one(
        ("keep-orders", "N", "all"),
        "Orders that the order log keeps at least; older ones are deleted as new ones are added; totals are not touched",
        SERVER,
        |to, value| assign(&mut to.config.retention.orders, Some(positive(value)?)),
    ),
    one(("max-data-bytes", "N", "no cap"), "Cap on the data file's size; from 1048576 on", SERVER, |to, value| {
        assign(&mut to.config.retention.data_bytes, Some(bytes(value)?))
    }),
    one(("max-connections", "N", "10000"), "Connections at a time", SERVER, |to, value| {
        assign(&mut to.config.max_connections, positive(value)?)
    }),
    one(
        ("max-connections-per-ip", "N", "no cap"),
        "Connections at a time from one client address",
        SERVER,
        |to, value| assign(&mut to.config.max_connections_per_ip, Some(positive(value)?)),
    ),
    one(
        ("fanout-threads", "N", "by the cores"),
        "Threads that send totals to subscribers, each to its share of them; 1 to 64",
        SERVER,
        |to, value| assign(&mut to.config.fanout_threads, Some(fanout_threads(value)?)),
    ),
    one(
        ("log", "text|json", "text"),
        "Form of the log lines on standard error; json is one object a line",
        SERVER,
        |to, value| assign(&mut to.log.format, log_format(value)?),
    ),
    one(("log-level", "error|warn|info", "info"), "The least important lines that are logged", SERVER, |to, value| {
        assign(&mut to.log.level, log_level(value)?)
    }),
    one(("format", "ndjson|csv", "ndjson"), "Format of the output", &["export"], |to, value| {
        assign(&mut to.format, format(value)?)
    }),
    one(
        ("by", "period|day|hour", "day"),
        "What each part of the report covers; days and hours begin as --utc-offset says",
        &["report"],
        |to, value| assign(&mut to.by, report_by(value)?),
    ),
    one(
        ("utc-offset", "OFFSET", "+00:00"),
        "Difference of local time from UTC, such as +02:00 or -03:30; it is the same all year",
        &["report"],
        |to, value| assign(&mut to.utc_offset, utc_offset(value)?),
    ),
    switch("csv", "Print the report as CSV; without --csv and --json it is a table", &["report"], |to, value| {
        assign(&mut to.csv, yes_or_no(value)?)
    }),
    switch("json", "Print the report as one JSON object", &["report"], |to, value| {
        assign(&mut to.json, yes_or_no(value)?)
    }),
    one(
        ("keep", "N", "all"),
        "Backups that are left in the folder; the oldest beyond them are removed",
        &["backup"],
        |to, value| assign(&mut to.keep, Some(positive(value)?)),
    ),
    one(
        ("output", "DIR", "the data folder's name with -repaired"),
        "Folder that is written",
        &["repair"],
        |to, value| assign(&mut to.output, Some(value.into())),
    ),
    #[cfg(feature = "postgres")]
    one(
        ("from", "DIR|URL", ""),
        "Data folder or database from which everything is copied; no server may use the folder",
        MIGRATE,
        |to, value| assign(&mut to.from, Some(database::place(value)?)),
    ),
    #[cfg(feature = "postgres")]
    one(
        ("to", "DIR|URL", ""),
        "Empty data folder or database into which it is copied; a missing folder and missing tables are made",
        MIGRATE,
        |to, value| assign(&mut to.to, Some(database::place(value)?)),
    ),
    #[cfg(feature = "postgres")]
    one(("keep-keys", "HOURS", "as it is, 24 at first"), "Retention time of keys; 1 to 8784", MIGRATE, |to, value| {
        assign(&mut to.kept.keys, database::keep_time(value)?)
    }),
    #[cfg(feature = "postgres")]
    one(("max-keys", "N|none", "as it is, none at first"), "Cap on keys at a time", MIGRATE, |to, value| {
        assign(&mut to.kept.max_keys, Some(database::cap(value)?))
    }),
    #[cfg(feature = "postgres")]
    one(
        ("keep-orders", "N|none", "as it is, all at first"),
        "Orders that the order log keeps at least",
        MIGRATE,
        |to, value| assign(&mut to.kept.orders, Some(database::cap(value)?)),
    ),
    one(
        ("server", "URL", "http://127.0.0.1:3000"),
        "The server, or a proxy in front of it; http only",
        CLIENT,
        |to, value| assign(&mut to.access.server, client::server(text(value)?)?),
    ),
    one(("token-file", "FILE", ""), "The first token of this file is sent", CLIENT, |to, value| {
        assign(&mut to.access.token_file, Some(value.into()))
    }),
    one(
        ("timeout", "SECONDS", "30 for one order, else no end"),
        "How long it tries while the server does not answer",
        CLIENT,
        |to, value| assign(&mut to.access.timeout, Some(seconds(value)?)),
    ),
    one(
        ("key", "KEY", "random"),
        "Key of the order; with a dash, what the keys of the orders begin with",
        &["post"],
        |to, value| assign(&mut to.key, Some(client::key(text(value)?)?)),
    ),
];

type Commands = &'static [&'static str];

/// An option with a value: its flag, the name of its value, and the default.
const fn one(words: (&'static str, &'static str, &'static str), help: &'static str, of: Commands, set: Set) -> Setting {
    let (flag, value, default) = words;
    Setting { flag, value, default, help, commands: of, kind: Kind::One, set }
}

/// As [`one`], but it may be repeated.
const fn list(
    words: (&'static str, &'static str, &'static str),
    help: &'static str,
    of: Commands,
    set: Set,
) -> Setting {
    Setting { kind: Kind::List, ..one(words, help, of, set) }
}

const fn switch(flag: &'static str, help: &'static str, of: Commands, set: Set) -> Setting {
    Setting { kind: Kind::Switch, ..one((flag, "", ""), help, of, set) }
}
