//! What docs/security.md names exists: a table of attacks is worth nothing when its tests or bounds are gone.

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
