//! `ordercast man`: the page is one that formatters accept.

use crate::common::{TempDir, ordercast, skip};
use std::process::{Command, Stdio};

fn page() -> (TempDir, String) {
    let folder = TempDir::new();
    let run = ordercast(folder.path(), &["man"], &[("ORDERCAST_NONE", "x")]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    folder.write("ordercast.1", &run.stdout);
    (folder, run.stdout)
}

/// What the program prints on both streams; `None`, after a message, where it is missing.
#[track_caller]
fn output(folder: &TempDir, program: &str, arguments: &[&str]) -> Option<(String, String)> {
    let run = Command::new(program)
        .args(arguments)
        .current_dir(folder.path())
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", "80")
        .stdin(Stdio::null())
        .output();
    let Ok(output) = run else {
        skip(&format!("{program} is missing (make deps)"), true);
        return None;
    };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some((text(&output.stdout), text(&output.stderr)))
}

#[test]
fn mandoc_finds_nothing_wrong_with_the_page() {
    let (folder, _) = page();
    let Some((found, stderr)) = output(&folder, "mandoc", &["-T", "lint", "-W", "warning", "ordercast.1"]) else {
        return;
    };
    // Without a date the page is the same in every build of a version.
    let found: Vec<_> = found.lines().filter(|line| !line.contains("missing date")).collect();
    assert_eq!((found, stderr.as_str()), (Vec::<&str>::new(), ""));
}

#[test]
fn man_shows_the_page_without_a_warning() {
    let (folder, page) = page();
    let Some((shown, stderr)) = output(&folder, "man", &["--warnings", "--local-file", "./ordercast.1"]) else {
        return;
    };
    assert_eq!(stderr, "");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in ["ordercast backup FILE", "--max-connections-per-ip N", "[ORDERCAST_LISTEN, separated by commas]"] {
        assert!(words.contains(text), "{text}: {shown}");
    }
    assert!(page.contains("ordercast 0."), "{page}");
}
