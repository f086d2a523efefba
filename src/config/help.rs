//! What `--help` prints, made from the table of options: an overview, and the help of one command.

use std::fmt::Write;

use super::table::{COMMANDS, Entry, SERVE, SETTINGS, Setting};

/// The width of lines: 80 columns, as of a terminal.
const WIDTH: usize = 80;
/// Where the texts of options begin.
const INDENT: usize = 25;
/// Where the summaries of commands begin, behind `       ordercast `.
const SUMMARY_INDENT: usize = 38;

const TITLE: &str = "Ordercast keeps a durable tally of orders and shows every change, live.\n\n";
const EXAMPLES: &str = "
Post an order:
  curl -X POST -H 'Content-Type: application/json' -d '{\"amount\": 10}' \\
    http://localhost:3000/orders/A1
See the board:
  http://localhost:5050
";
const ENVIRONMENT: &str = "each with its environment variable";

/// The help of a command, or the overview of all.
#[must_use]
pub fn help(command: Option<&str>) -> String {
    match COMMANDS.iter().find(|entry| Some(entry.name) == command) {
        Some(entry) => help_of(entry),
        None => overview(),
    }
}

fn overview() -> String {
    let mut text = format!("{TITLE}Usage: ordercast [serve] [options]\n");
    for entry in &COMMANDS[1..] {
        text.push_str("       ordercast ");
        push_with_text(&mut text, &usage(entry), SUMMARY_INDENT - 17, SUMMARY_INDENT, entry.summary);
    }
    text.push_str("       ordercast help COMMAND         Print the help of one command\n");
    let of_server = |setting: &&Setting| setting.commands.contains(&SERVE);
    let _ = writeln!(text, "\nOptions of the server, {ENVIRONMENT}:");
    SETTINGS.iter().filter(of_server).for_each(|setting| push_setting(&mut text, setting, ""));
    push_with_text(&mut text, "  --help", INDENT, INDENT, "Print this");
    push_with_text(&mut text, "  --version", INDENT, INDENT, "Print the version");
    text.push_str("\nOptions of the other commands, in brackets, beside --data:\n");
    for setting in SETTINGS.iter().filter(|setting| !of_server(setting)) {
        push_setting(&mut text, setting, &format!("({}) ", setting.commands.join(", ")));
    }
    text + EXAMPLES
}

fn help_of(entry: &Entry) -> String {
    let mut text = format!("Usage: ordercast {}\n\n", usage(entry));
    push_wrapped(&mut text, 0, 0, &format!("{}.", entry.summary));
    if !entry.details.is_empty() {
        text.push('\n');
        push_wrapped(&mut text, 0, 0, entry.details);
    }
    if entry.settings().next().is_some() {
        let _ = writeln!(text, "\nOptions, {ENVIRONMENT}:");
        entry.settings().for_each(|setting| push_setting(&mut text, setting, ""));
    }
    text
}

fn usage(entry: &Entry) -> String {
    let options = if entry.settings().next().is_some() { " [options]" } else { "" };
    if entry.name == SERVE { "[serve] [options]".into() } else { format!("{}{options}", entry.synopsis()) }
}

fn push_setting(text: &mut String, setting: &Setting, mark: &str) {
    let name = format!("  --{} {}", setting.flag, setting.value);
    push_with_text(text, name.trim_end(), INDENT, INDENT, &format!("{mark}{}", described(setting)));
}

/// The help of an option with its default and its variable.
fn described(setting: &Setting) -> String {
    let default = match setting.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    format!("{}{default} [{}]", setting.help, variable_note(setting))
}

/// The variable of an option and how it is written.
pub(super) fn variable_note(setting: &Setting) -> String {
    use super::table::Kind;
    let note = match setting.kind {
        Kind::One => "",
        Kind::List => ", separated by commas",
        Kind::Switch => "=1",
    };
    setting.variable() + note
}

/// Adds a name and, from column `indent` on, a text. The text begins on a line of its own if the name, for which there
/// are `room` columns, is too long.
fn push_with_text(to: &mut String, name: &str, room: usize, indent: usize, text: &str) {
    to.push_str(name);
    let column = indent - room + name.len();
    if name.len() + 2 > room {
        to.push('\n');
        push_wrapped(to, 0, indent, text);
    } else {
        push_wrapped(to, column, indent, text);
    }
}

/// Adds a text from column `indent` on, in lines of [`WIDTH`]; the first one is in column `column` already.
fn push_wrapped(to: &mut String, mut column: usize, indent: usize, text: &str) {
    let mut is_first = true;
    for word in text.split(' ') {
        if !is_first && column + 1 + word.len() > WIDTH {
            to.push('\n');
            (column, is_first) = (0, true);
        }
        let gap = if is_first { indent.saturating_sub(column) } else { 1 };
        let _ = write!(to, "{:gap$}{word}", "");
        column += gap + word.len();
        is_first = false;
    }
    to.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_a_terminal_and_each_option_has_its_text_variable_and_default() {
        let commands = COMMANDS.iter().map(|entry| Some(entry.name));
        for command in commands.chain([None]) {
            let text = help(command);
            for line in text.lines() {
                assert!(line.len() <= WIDTH && line == line.trim_end(), "{line:?}");
            }
            let entry = COMMANDS.iter().find(|entry| Some(entry.name) == command);
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for setting in SETTINGS {
                let takes = entry.is_none_or(|entry| setting.commands.contains(&entry.name));
                let described = described(setting);
                assert_eq!(words.contains(&described), takes, "{described} of {command:?}");
            }
        }
    }

    #[test]
    fn a_long_name_has_a_line_of_its_own() {
        let mut text = String::new();
        push_with_text(&mut text, "  --long-name-of-a-flag VALUE", INDENT, INDENT, "What it does");
        push_with_text(&mut text, "  --short VALUE", INDENT, INDENT, "What it does");
        let gap = " ".repeat(INDENT);
        assert_eq!(
            text,
            format!("  --long-name-of-a-flag VALUE\n{gap}What it does\n  --short VALUE          What it does\n")
        );
    }
}
