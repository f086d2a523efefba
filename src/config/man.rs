//! The man page, made from the table of options (man(7), section 1).

use std::fmt::Write;

use super::help::variable_note;
use super::table::{COMMANDS, SERVE, SETTINGS, Setting};

// Without hyphens of the formatter's in the names of options and variables.
const BEGIN: &str = r".ad l
.nh
.SH NAME
ordercast \- durable tally of orders per product, shown live
.SH SYNOPSIS
";

const DESCRIPTION: &str = r".SH DESCRIPTION
Ordercast keeps a durable tally of orders per product and shows every change, live, to everyone who is watching.
One server owns a data folder, takes orders over HTTP and WebSocket, and serves a web app, the board.
An order that was answered is on disk and counted once.
.PP
Without a command it serves.
The other commands work on a data folder or print something.
";

const END: &str = r#".SH ENVIRONMENT
Every option can be given as a variable, whose name is in brackets above.
An option overrides its variable, and an empty variable counts as unset.
Another variable whose name begins with
.B ORDERCAST_
is an error, unless its name contains
.B _PORT
or
.BR _SERVICE_ ,
as those that Kubernetes sets.
.SH FILES
.TP
.I data/ordercast.sqlite3
The data file, in SQLite's format.
While a server runs, and after one that was killed, its newest orders are in the file beside it whose name ends with
.BR \-wal .
.TP
.I data/ordercast.lock
The lock of the data folder, with the process id of its last server.
.TP
.I data/last\-backup
The time of the last backup, in seconds since 1970 (UTC).
.TP
.IR /var/lib/ordercast ", " /etc/default/ordercast ", " /var/backups/ordercast
The data folder, the settings and the backups of the service that a package installs.
.SH EXIT STATUS
.TP
.B 0
The command is done, or the server was stopped in order.
.TP
.B 1
The command failed, or
.B check
has found damage.
.TP
.B 2
An option, an argument or a variable is wrong.
.TP
.B 3
The server gave
.BR post " or " watch
no answer in time.
.TP
.B 129
The terminal of the server is gone.
.TP
.BR 130 ", " 143
A second SIGINT or SIGTERM ended the server at once, or the first one ended
.BR "post \-" .
.SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
The server stops in order, within 5 seconds; the second one ends it at once.
.TP
.B SIGHUP
The server reads its token files again.
.SH EXAMPLES
Serve a shop's own products to the network:
.PP
.nf
.RS
ordercast \-\-listen 0.0.0.0:3000 \-\-catalog shop.json \-\-data shop
.RE
.fi
.PP
Post an order:
.PP
.nf
.RS
curl \-X POST \-H \(aqContent\-Type: application/json\(aq \-d \(aq{"amount": 10}\(aq \e
    http://localhost:3000/orders/A1
.RE
.fi
"#;

/// The man page, `ordercast.1`.
#[must_use]
pub fn man_page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page =
        format!(".\\\" Made by: ordercast man\n.TH ORDERCAST 1 \"\" \"ordercast {version}\" \"Ordercast\"\n{BEGIN}");
    for entry in COMMANDS {
        let name = if entry.name == SERVE { "[serve]".into() } else { format!("\\fB{}\\fR", entry.name) };
        let mut arguments = String::new();
        for argument in entry.arguments {
            let _ = write!(arguments, " \\fI{}\\fR", escaped(argument));
        }
        let options = if entry.settings().next().is_some() { " [\\fIoptions\\fR]" } else { "" };
        let _ = write!(page, ".B ordercast\n{name}{arguments}{options}\n.br\n");
    }
    page.push_str(".B ordercast\n\\fBhelp\\fR [\\fIcommand\\fR]\n.br\n.B ordercast\n\\fBversion\\fR\n");
    page.push_str(DESCRIPTION);
    page.push_str(".SH COMMANDS\n");
    for entry in COMMANDS {
        let _ = write!(page, ".TP\n.B {}\n{}.\n", escaped(&entry.synopsis()), escaped(entry.summary));
        if !entry.details.is_empty() {
            let _ = writeln!(page, "{}", sentences(entry.details));
        }
    }
    page.push_str(".TP\n.B help [COMMAND]\nPrint help, as \\fB\\-\\-help\\fR does.\n");
    page.push_str(".TP\n.B version\nPrint the version, as \\fB\\-\\-version\\fR does.\n");
    page.push_str(".SH OPTIONS OF THE SERVER\n");
    let of_server = |setting: &&Setting| setting.commands.contains(&SERVE);
    SETTINGS.iter().filter(of_server).for_each(|setting| push_setting(&mut page, setting));
    page.push_str(".SH OPTIONS OF THE OTHER COMMANDS\n");
    SETTINGS.iter().filter(|setting| !of_server(setting)).for_each(|setting| push_setting(&mut page, setting));
    page + END
}

fn push_setting(page: &mut String, setting: &Setting) {
    let value = if setting.value.is_empty() { String::new() } else { format!(" \\fI{}\\fR", escaped(setting.value)) };
    let _ = writeln!(page, ".TP\n\\fB{}\\fR{value}", escaped(&format!("--{}", setting.flag)));
    let _ = writeln!(page, "{}.", escaped(setting.help));
    if !setting.default.is_empty() {
        let _ = writeln!(page, "Default: {}.", escaped(setting.default));
    }
    if setting.commands != [SERVE] {
        let _ = writeln!(page, "Taken by {}.", setting.commands.join(", "));
    }
    let _ = writeln!(page, "[{}]", escaped(&variable_note(setting)));
}

/// A line for each sentence, as man(7) asks for.
fn sentences(text: &str) -> String {
    escaped(text).replace(". ", ".\n")
}

/// The text with its backslashes and hyphens as such; it must not begin with a dot or an apostrophe.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_option_and_no_line_is_a_request_by_accident() {
        let page = man_page();
        for setting in SETTINGS {
            assert!(
                page.contains(&format!("\n\\fB{}\\fR", escaped(&format!("--{}", setting.flag)))),
                "{}",
                setting.flag
            );
            assert!(page.contains(&setting.variable()), "{}", setting.flag);
        }
        for entry in COMMANDS {
            assert!(page.contains(&format!(".TP\n.B {}", escaped(entry.name))), "{}", entry.name);
        }
        let requests = [
            ".\\\"", ".TH", ".ad", ".nh", ".SH", ".TP", ".PP", ".B", ".BR", ".I", ".IR", ".br", ".nf", ".fi", ".RS",
            ".RE",
        ];
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(requests.contains(&line.split(' ').next().unwrap()), "{line}");
        }
    }
}
