//! The tables of signals, exit codes and statuses in docs/service.md list what the source has, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::rust_files;

/// Statuses in the registry of IANA. Other numbers of three digits in the source are lengths or times.
const REGISTERED: [RangeInclusive<u16>; 10] =
    [100..=103, 200..=208, 226..=226, 300..=308, 400..=417, 421..=426, 428..=429, 431..=431, 451..=451, 500..=511];

/// The first cells of the rows of a table, which begins with a header whose first cell is `name`.
fn first_cells<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let header = format!("| {name} |");
    let rows = page.lines().skip_while(|line| !line.starts_with(&header)).skip(2);
    rows.map_while(|line| line.strip_prefix("| ")?.split('|').next()).collect()
}

/// The numbers in some text.
fn numbers(text: &str) -> BTreeSet<u16> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// What the compiler reads of a file, without its tests at the end and without comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().map(|line| line.split("// ").next().unwrap_or_default()).map(|line| line.to_owned() + "\n").collect()
}

/// The registered statuses that stand in the code as words of their own.
fn statuses(code: &str) -> BTreeSet<u16> {
    let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let three_digits = words.filter(|word| word.len() == 3).filter_map(|word| word.parse().ok());
    three_digits.filter(|number| REGISTERED.iter().any(|range| range.contains(number))).collect()
}

/// Names such as SIGTERM.
fn signals(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words
        .filter(|word| word.len() > 3 && word.starts_with("SIG") && word.bytes().all(|byte| byte.is_ascii_uppercase()))
        .collect()
}

/// The exit codes of main.rs and the commands of `client/`: `ExitCode::from(2)`, `SUCCESS`, `FAILURE`, and `128 + SIGHUP` or `128 + signal`, where that
/// is one of the signals which end the process at once.
fn exit_codes(code: &str) -> BTreeSet<u16> {
    let literals = ["ExitCode::from(", "process::exit("].into_iter().flat_map(|call| code.split(call).skip(1));
    let mut codes: BTreeSet<u16> = literals.filter_map(|rest| rest.split(')').next()?.trim().parse().ok()).collect();
    let mut add = |text: &str, added: &[u16]| {
        if code.contains(text) {
            codes.extend(added);
        }
    };
    add("ExitCode::SUCCESS", &[0]);
    add("ExitCode::FAILURE", &[1]);
    add("128 + SIGHUP", &[129]);
    add("128 + signal", &[130, 143]);
    add("Self::NoAnswer(_) => 3", &[3]);
    codes
}

#[test]
fn the_table_of_statuses_lists_what_the_server_can_answer() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/service.md")).unwrap();
    let listed: BTreeSet<u16> = first_cells(&page, "status").into_iter().flat_map(numbers).collect();
    let answers = |file: &PathBuf| file.starts_with("api") || file.starts_with("http") || file.ends_with("accept.rs");
    let sources = rust_files("src");
    let files = sources.iter().filter(|(file, _)| answers(file) && !file.ends_with("tests.rs"));
    let answered: BTreeSet<u16> = files.flat_map(|(_, text)| statuses(&code(text))).collect();
    assert_eq!(listed, answered, "the table of docs/service.md, and the source");
    // The scan finds every form, and nothing in tests, comments and longer numbers.
    let text = "Problem::new(404, x); Rejection::Hidden => (410, false), // 418 is not used\n if a { 304 } else { 200 }\n\
                b\"HTTP/1.1 100 Continue\" 4040 255 3_408 x418\n#[cfg(test)] mod tests { 505 }";
    assert_eq!(statuses(&code(text)), BTreeSet::from([100, 200, 304, 404, 410]));
    assert_eq!(first_cells("| a | b |\n|---|---|\n| 1, 2 | x |\n| 3 | y |\n\n| 4 | z |", "a"), ["1, 2 ", "3 "]);
}

#[test]
fn the_tables_of_signals_and_exit_codes_list_what_the_command_handles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/service.md")).unwrap();
    let main = code(&fs::read_to_string(root.join("src/main.rs")).unwrap());
    let client = code(&fs::read_to_string(root.join("src/client/mod.rs")).unwrap());
    let listed: BTreeSet<u16> = first_cells(&page, "exit code").into_iter().flat_map(numbers).collect();
    let codes = exit_codes(&(main.clone() + &client));
    assert_eq!(listed, codes, "the table of docs/service.md, src/main.rs and src/client/mod.rs");
    let rows = first_cells(&page, "signal").join(" ");
    let missing: Vec<&str> = signals(&main).into_iter().filter(|name| !signals(&rows).contains(name)).collect();
    assert!(missing.is_empty(), "not in the table of docs/service.md: {missing:?}");
    assert_eq!(exit_codes("ExitCode::from(7) std::process::exit(9) ExitCode::FAILURE"), BTreeSet::from([1, 7, 9]));
}
