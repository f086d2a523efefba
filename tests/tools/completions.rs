//! `ordercast completions`: each shell reads its script, and offers commands, options and their values.

use crate::common::{TempDir, ordercast, skip};
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes the script for this shell into the folder. `false`, after a message, where the shell is missing.
#[track_caller]
fn write_script(folder: &TempDir, shell: &str) -> bool {
    if Command::new(shell).arg("--version").stdout(Stdio::null()).status().is_err() {
        skip(&format!("{shell} is missing (make deps)"), true);
        return false;
    }
    // A wrong variable of the environment is of no concern to a build that installs the script.
    let run = ordercast(folder.path(), &["completions", shell], &[("ORDERCAST_NONE", "x")]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    folder.write("script", &run.stdout);
    true
}

/// The lines that the shell prints for this program.
#[track_caller]
fn lines(folder: &Path, shell: &str, arguments: &[&str]) -> Vec<String> {
    let output =
        Command::new(shell).args(arguments).current_dir(folder).stdin(Stdio::null()).output().expect("the shell runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{shell} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// The options of a command, as its help lists them.
fn options(folder: &Path, command: &str) -> Vec<String> {
    let help = ordercast(folder, &["help", command], &[]).stdout;
    let flags = help.lines().filter_map(|line| line.strip_prefix("  --"));
    let mut flags: Vec<_> = flags
        .map(|flag| format!("--{}", flag.split(' ').next().unwrap_or_default()))
        .chain(["--help".into()])
        .collect();
    flags.sort();
    flags
}

/// The commands, as `help` knows them.
fn commands(folder: &Path) -> Vec<String> {
    let help = ordercast(folder, &["help"], &[]).stdout;
    let lines = help.lines().filter_map(|line| line.strip_prefix("       ordercast "));
    let names = lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned());
    let mut names: Vec<_> = names.filter(|name| name != "help").chain(["serve".into()]).collect();
    names.sort();
    names
}

fn folder_with_files() -> TempDir {
    let folder = TempDir::new();
    folder.write("a shop.json", "");
    std::fs::create_dir(folder.path().join("a folder")).expect("a folder can be made");
    folder
}

fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words
}

#[test]
fn bash_completes_commands_options_and_values() {
    let folder = folder_with_files();
    if !write_script(&folder, "bash") {
        return;
    }
    lines(folder.path(), "bash", &["-n", "script"]);
    // The last word is the one under the cursor.
    let offered = |words: &[&str]| {
        let program = "source ./script; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _ordercast
            ((${#COMPREPLY[@]} == 0)) || printf '%s\\n' \"${COMPREPLY[@]}\"";
        let arguments = [&["--norc", "-c", program, "bash", "ordercast"], words].concat();
        sorted(lines(folder.path(), "bash", &arguments))
    };
    assert_eq!(offered(&["ex"]), ["export"]);
    let words = ["help".into(), "version".into()];
    assert_eq!(offered(&[""]), sorted([&commands(folder.path())[..], &words].concat()));
    assert_eq!(offered(&["help", ""]), commands(folder.path()));
    for command in commands(folder.path()) {
        assert_eq!(offered(&[&command, "--"]), options(folder.path(), &command), "{command}");
    }
    assert_eq!(offered(&["--"]), options(folder.path(), "serve"));
    assert_eq!(offered(&["export", "--format", ""]), ["csv", "ndjson"]);
    assert_eq!(offered(&["export", "--format", "=", "c"]), ["csv"]);
    assert_eq!(offered(&["export", "--format", "="]), ["csv", "ndjson"]);
    assert_eq!(offered(&["--data", "a"]), ["a folder"]);
    assert_eq!(offered(&["--catalog", "a"]), ["a folder", "a shop.json"]);
    assert_eq!(offered(&["backup", "--data", "x", "a"]), ["a folder", "a shop.json"]);
    assert_eq!(offered(&["completions", ""]), ["bash", "fish", "zsh"]);
    assert_eq!(offered(&["--listen", ""]), [""; 0]);
    assert_eq!(offered(&["version", ""]), [""; 0]);
}

/// What is offered for these words and those of each command behind `COMMAND --`.
#[track_caller]
fn expect_offers(folder: &Path, offered: impl Fn(&[String]) -> Vec<Vec<String>>, others: &[(&str, &[&str])]) {
    let commands = commands(folder);
    let help_words = ["help".into(), "version".into()];
    let mut expected = vec![(String::new(), sorted([&commands[..], &help_words].concat()))];
    expected.extend(commands.iter().map(|command| (format!("{command} --"), options(folder, command))));
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    expected.extend(others.iter().map(|&(words, offers)| (words.to_owned(), owned(offers))));
    let (typed, expected): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
    let found = offered(&typed);
    assert_eq!(found.len(), typed.len(), "{found:?}");
    for ((words, found), expected) in typed.iter().zip(found).zip(expected) {
        let mut found = sorted(found);
        found.dedup();
        assert_eq!(found, expected, "{words:?}");
    }
}

/// The lines before each `==`.
fn sections(lines: &[String]) -> Vec<Vec<String>> {
    let mut sections: Vec<_> = lines.split(|line| line == "==").map(<[_]>::to_vec).collect();
    assert_eq!(sections.pop().map_or(0, |rest| rest.len()), 0, "{lines:?}");
    sections
}

#[test]
fn fish_completes_commands_options_and_values() {
    let folder = folder_with_files();
    if !write_script(&folder, "fish") {
        return;
    }
    lines(folder.path(), "fish", &["--no-execute", "script"]);
    let offered = |typed: &[String]| {
        let ask = |words: &String| format!("complete -C 'ordercast {words}' | string split --fields 1 \\t; echo ==\n");
        let program: String = typed.iter().map(ask).collect();
        sections(&lines(folder.path(), "fish", &["--no-config", "--command", &format!("source ./script\n{program}")]))
    };
    expect_offers(
        folder.path(),
        offered,
        &[
            ("export --format ", &["csv", "ndjson"]),
            ("completions ", &["bash", "fish", "zsh"]),
            ("check --data a", &["a folder/"]),
            ("backup a", &["a folder/", "a shop.json"]),
        ],
    );
}

/// zsh completes in an interactive shell only, so this one starts another in a terminal of its own, types the words, and
/// presses a key whose function writes what it would offer into a file.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh --no-rcs --interactive
feed() { zpty -w shell "$1" }
feed 'PS1=; autoload -Uz compinit; compinit -D -u; source ./script'
feed 'list() {
    compadd() { local -a offered; builtin compadd -O offered "$@"; print -rl -- $offered >> offered; builtin compadd "$@" }
    _main_complete; unfunction compadd; touch done }'
feed 'zle -C list complete-word list; zle -N clear; clear() { BUFFER= }
    bindkey "^X" list; bindkey "^G" clear; touch ready'
wait_for() { repeat 1500 { [[ -e $1 ]] && return; sleep 0.01 }; print "no file $1"; exit 1 }
wait_for ready
for words {
    : > offered
    zpty -n -w shell $'\C-g'"ordercast $words"$'\C-x'
    wait_for done
    rm --force done
    cat offered
    print '=='
}
zpty -d shell
"#;

#[test]
fn zsh_completes_commands_options_and_values() {
    let folder = folder_with_files();
    if !write_script(&folder, "zsh") {
        return;
    }
    // zsh offers a name with a space quoted and unquoted.
    folder.write("shop.json", "");
    std::fs::create_dir(folder.path().join("shops")).expect("a folder can be made");
    lines(folder.path(), "zsh", &["--no-rcs", "--no-exec", "script"]);
    let offered = |typed: &[String]| {
        let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
        let found = lines(folder.path(), "zsh", &[&["--no-rcs", "-c", ZSH, "zsh"], &typed[..]].concat());
        sections(&found.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>())
    };
    expect_offers(
        folder.path(),
        offered,
        &[
            ("export --format ", &["csv", "ndjson"]),
            ("completions ", &["bash", "fish", "zsh"]),
            ("check --data s", &["shops"]),
            ("backup s", &["script", "shop.json", "shops"]),
        ],
    );
}
