//! What the documents name exists: tests and bounds (a table of attacks is worth nothing without them), flags, and the
//! pages and headings that links lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::rust_files;

/// The quoted code of a line.
fn codes(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The names of functions in a text.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap_or_default())
}

/// Tests that the page names and that do not exist. `…` stands for the module before, or for the rest of a name.
fn missing_tests(page: &str, tests: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut missing = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let mut file = PathBuf::new();
        for code in codes(line).filter(|code| code.contains("::") && !code.contains(char::is_uppercase)) {
            let (module, name) = code.rsplit_once("::").unwrap();
            if module != "…" {
                file = module.split("::").collect();
            }
            let own = tests.iter().filter(|(path, _)| path.with_extension("").ends_with(&file));
            let wanted = name.trim_end_matches(['…', '*']);
            let mut names = own.flat_map(|(_, text)| functions(text));
            if !names.any(|own| own == name || (wanted != name && own.starts_with(wanted))) {
                missing.push(code.to_owned());
            }
        }
    }
    missing
}

/// Bounds that the page names and that `src/` does not define.
fn missing_bounds<'a>(page: &'a str, sources: &BTreeMap<PathBuf, String>) -> BTreeSet<&'a str> {
    let rows = page.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split('|').nth(2));
    let is_constant =
        |code: &str| code.contains('_') && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let bounds = rows.flat_map(codes).filter(|code| is_constant(code));
    bounds.filter(|bound| !sources.values().any(|text| text.contains(&format!("const {bound}:")))).collect()
}

#[test]
fn the_tests_and_bounds_of_the_security_page_exist() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap();
    let (tests, sources) = (rust_files("tests"), rust_files("src"));
    assert_eq!(missing_tests(&page, &tests), Vec::<String>::new());
    assert_eq!(missing_bounds(&page, &sources), BTreeSet::new());
    // The check finds what is missing.
    let wrong =
        "| x | `NO_BOUND` 1 | `http::lingering::no_such_test`, `…::an_early_answer_…`, `…::no_early_answer_…` | y |";
    assert_eq!(missing_tests(wrong, &tests), ["http::lingering::no_such_test", "…::no_early_answer_…"]);
    assert_eq!(missing_bounds(wrong, &sources), BTreeSet::from(["NO_BOUND"]));
}

#[test]
fn the_page_on_configuration_has_every_flag_and_its_variable() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let help = ordercast::internal::config::help(None);
    let names = help.lines().filter_map(|line| line.strip_prefix("  --")?.split(' ').next());
    let missing: Vec<_> = names
        .flat_map(|name| {
            let variable = format!("ORDERCAST_{}", name.to_uppercase().replace('-', "_"));
            let is_option = !matches!(name, "help" | "version");
            [Some(format!("`--{name}")), is_option.then(|| format!("`{variable}"))].into_iter().flatten()
        })
        .filter(|name| ![" ", "`", "="].iter().any(|end| page.contains(&format!("{name}{end}"))))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
    assert!(help.lines().filter(|line| line.starts_with("  --")).count() > 15, "{help}");
}

/// The targets of the links of a page that lead into this repository.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let keeps = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    headings.map(|text| text.to_lowercase().chars().filter(keeps).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_link_between_the_documents_leads_to_a_file_and_a_heading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["", "docs"].into_iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    let pages: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    let mut count = 0;
    for path in &pages {
        let page = fs::read_to_string(path).unwrap();
        for link in links(&page) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(target.exists(), "{}: {link} is missing", path.display());
            let is_there = anchor.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor);
            assert!(is_there, "{}: {link} leads to no heading", path.display());
            count += 1;
        }
    }
    assert!(count > 50, "{count} links");
    assert_eq!(links("[a](b.md#c), [d](https://e), `f`").collect::<Vec<_>>(), ["b.md#c"]);
    assert_eq!(anchors("# Keys: a, b\n## 1 Install"), ["1-install", "keys-a-b"].map(str::to_owned).into());
}
