//! The shells' completions, made from the table of options.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Shell;
use super::table::{COMMANDS, Entry, Kind, SERVE, SETTINGS, Setting};

/// What the shell offers for a value.
#[derive(PartialEq, Eq)]
enum Offer {
    Files,
    Folders,
    Words(Vec<&'static str>),
    Nothing,
}

/// `name` is that of a value or an argument, as in the table.
fn offer(name: &'static str) -> Offer {
    match name {
        "FILE" => Offer::Files,
        "DIR" | "DIR|URL" => Offer::Folders,
        words if words.contains('|') && words.starts_with(|letter: char| letter.is_ascii_lowercase()) => {
            Offer::Words(words.split('|').collect())
        }
        paths if paths.contains("FILE") => Offer::Files,
        _ => Offer::Nothing,
    }
}

/// The words that are no entries of the table, and what they do.
const HELP_WORDS: [(&str, &str); 2] = [("help", "Print help"), ("version", "Print the version")];

/// A script for the shell that completes commands, options and their values.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let name = shell.name();
    let head = format!("# Completions of ordercast for {name}, made by: ordercast completions {name}\n\n");
    match shell {
        Shell::Bash => head + &bash(),
        Shell::Zsh => format!("#compdef ordercast\n{head}{}", zsh()),
        Shell::Fish => head + &fish(),
    }
}

fn words() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMANDS.iter().map(|entry| (entry.name, entry.summary)).chain(HELP_WORDS)
}

fn names(separator: &str) -> String {
    COMMANDS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(separator)
}

/// The text of an option up to the first semicolon.
fn summary(setting: &Setting) -> &'static str {
    setting.help.split(';').next().unwrap_or_default()
}

// bash splits `--data=DIR` into three words, because `=` is one of its word breaks.
const BASH_BEGIN: &str = r#"_ordercast() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=serve offer=
    COMPREPLY=()
    if [[ $word == "=" ]]; then
        word=
    elif [[ $before == "=" ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if ((COMP_CWORD == 1)) && [[ $word != -* ]]; then
        command=
    fi
    case ${COMP_WORDS[1]} in
"#;
const BASH_END: &str = r#"    esac
    case $offer in
    none) ;;
    files)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        ;;
    folders)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$offer" -- "$word") ;;
    esac
}

complete -F _ordercast ordercast
"#;

fn bash() -> String {
    let quoted = |offer: &Offer| match offer {
        Offer::Files => "files".into(),
        Offer::Folders => "folders".into(),
        Offer::Words(words) => format!("\"{}\"", words.join(" ")),
        Offer::Nothing => "none".into(),
    };
    let mut text = String::from(BASH_BEGIN);
    let all: Vec<_> = words().map(|(word, _)| word).collect();
    let _ = writeln!(text, "    {}) [[ -z $command ]] || command=${{COMP_WORDS[1]}} ;;\n    esac", all.join(" | "));
    text.push_str("    case $before in\n");
    let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for setting in SETTINGS.iter().filter(|setting| setting.kind != Kind::Switch) {
        let flag = format!("--{}", setting.flag);
        let flags = flags.entry(quoted(&offer(setting.value))).or_default();
        if !flags.contains(&flag) {
            flags.push(flag);
        }
    }
    for (offer, flags) in flags {
        let _ = writeln!(text, "    {}) offer={offer} ;;", flags.join(" | "));
    }
    text.push_str("    esac\n    [[ -n $offer ]] || case $command in\n");
    let _ = writeln!(text, "    \"\") offer=\"{}\" ;;", all.join(" "));
    for entry in COMMANDS {
        let flags: Vec<_> = entry.settings().map(|setting| format!("--{}", setting.flag)).collect();
        let options = [&flags[..], &["--help".into()]].concat().join(" ");
        // Where the command takes no argument that can be completed, its options are offered at once.
        let _ = match entry.arguments.first().map_or(Offer::Nothing, |argument| offer(argument)) {
            Offer::Nothing => writeln!(text, "    {}) offer=\"{options}\" ;;", entry.name),
            arguments => writeln!(
                text,
                "    {}) if [[ $word == -* ]]; then offer=\"{options}\"; else offer={}; fi ;;",
                entry.name,
                quoted(&arguments)
            ),
        };
    }
    let _ = writeln!(text, "    help) offer=\"{}\" ;;", names(" "));
    text.push_str("    *) offer=none ;;\n");
    text + BASH_END
}

const ZSH_END: &str = r#"    esac
}

if [[ $funcstack[1] == _ordercast ]]; then
    _ordercast "$@"
else
    compdef _ordercast ordercast
fi
"#;

fn zsh() -> String {
    let escaped = |text: &str, of: &[char]| {
        let mut escaped = String::new();
        for letter in text.chars() {
            match letter {
                '\'' => escaped.push_str("'\\''"),
                letter if of.contains(&letter) => escaped.extend(['\\', letter]),
                letter => escaped.push(letter),
            }
        }
        escaped
    };
    let action = |name: &'static str| match offer(name) {
        Offer::Files => "_files".into(),
        Offer::Folders => "_files -/".into(),
        Offer::Words(words) => format!("({})", words.join(" ")),
        Offer::Nothing => String::new(),
    };
    let mut text = String::from("_ordercast() {\n    local command=serve\n    local -a commands=(\n");
    for (word, summary) in words() {
        let _ = writeln!(text, "        '{word}:{}'", escaped(summary, &[':', '\\']));
    }
    text.push_str("    )\n    if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then\n");
    text.push_str("        _describe -t commands command commands\n        return\n    fi\n    case $words[2] in\n");
    let all: Vec<_> = words().map(|(word, _)| word).collect();
    let _ = writeln!(text, "    {})\n        command=$words[2]\n        shift words", all.join("|"));
    text.push_str("        ((CURRENT--))\n        ;;\n    esac\n    case $command in\n");
    for entry in COMMANDS {
        let _ = write!(text, "    {})\n        _arguments -S \\\n", entry.name);
        for setting in entry.settings() {
            let repeated = if setting.kind == Kind::List { "*" } else { "" };
            let value = match setting.kind {
                Kind::Switch => String::new(),
                Kind::One | Kind::List => format!(":{}:{}", escaped(setting.value, &[':']), action(setting.value)),
            };
            let equals = if value.is_empty() { "" } else { "=" };
            let what = escaped(summary(setting), &['[', ']', ':', '\\']);
            let _ = writeln!(text, "            '{repeated}--{}{equals}[{what}]{value}' \\", setting.flag);
        }
        for argument in entry.arguments {
            let _ = writeln!(text, "            ':{}:{}' \\", escaped(argument, &[':']), action(argument));
        }
        text.push_str("            '--help[Print help]'\n        ;;\n");
    }
    let _ = writeln!(text, "    help) _arguments ':command:({})' ;;", names(" "));
    text + ZSH_END
}

fn fish() -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let values = |name: &'static str| match offer(name) {
        Offer::Files => "-r -F".into(),
        Offer::Folders => "-x -a '(__fish_complete_directories)'".into(),
        Offer::Words(words) => format!("-x -a '{}'", words.join(" ")),
        Offer::Nothing => "-x".to_owned(),
    };
    let when = |entry: &Entry| match entry.name {
        SERVE => {
            let others: Vec<_> = words().map(|(word, _)| word).filter(|word| *word != SERVE).collect();
            format!("'not __fish_seen_subcommand_from {}'", others.join(" "))
        }
        name => format!("'__fish_seen_subcommand_from {name}'"),
    };
    let mut text = String::from("complete -c ordercast -f\n");
    for (word, summary) in words() {
        let _ = writeln!(text, "complete -c ordercast -n __fish_use_subcommand -a {word} -d {}", quoted(summary));
    }
    let _ = writeln!(text, "complete -c ordercast -n '__fish_seen_subcommand_from help' -a '{}'", names(" "));
    text.push_str("complete -c ordercast -l help -s h -d 'Print help'\n");
    text.push_str("complete -c ordercast -n __fish_use_subcommand -l version -s V -d 'Print the version'\n");
    for entry in COMMANDS {
        let when = when(entry);
        for argument in entry.arguments {
            let offered = match offer(argument) {
                Offer::Files | Offer::Folders => "-F".into(),
                Offer::Words(words) => format!("-a '{}'", words.join(" ")),
                Offer::Nothing => continue,
            };
            let _ = writeln!(text, "complete -c ordercast -n {when} {offered}");
        }
        for setting in entry.settings() {
            let value = match setting.kind {
                Kind::Switch => String::new(),
                Kind::One | Kind::List => values(setting.value) + " ",
            };
            let _ = writeln!(
                text,
                "complete -c ordercast -n {when} -l {} {value}-d {}",
                setting.flag,
                quoted(summary(setting))
            );
        }
    }
    text
}
