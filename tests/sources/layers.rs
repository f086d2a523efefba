//! The layers of `src/`: a folder imports only from the folders below it, and no two files import each other. The paths
//! are read as text, in code, tests and doc links alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::rust_files;

/// The folders of `src/`, from the highest to the lowest. `main.rs` and `lib.rs` stand above all of them; `log.rs`
/// stands below all of them.
const LAYERS: [&str; 12] =
    ["server", "edge", "api", "ledger", "live", "tools", "client", "config", "json", "store", "http", "tally"];

/// The commands beside the server: only `main.rs` and `lib.rs` may use them. `edge` is another server's client, as those in
/// `client` are.
const COMMANDS: [&str; 2] = ["tools", "client"];

/// The commands that speak to a server, and the folders that they may use: a server is another program to them.
const CLIENT: (&str, [&str; 3]) = ("client", ["config", "json", "tally"]);

/// Reads the path at the beginning of `text`, such as `crate::a::{b, c::d}`, into its names: `a b`, `a c d`.
fn expand(text: &mut &str, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    loop {
        *text = text.trim_start();
        let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
        if end > 0 {
            path.push(text[..end].to_owned());
            *text = &text[end..];
        } else if let Some(rest) = text.strip_prefix('{') {
            *text = rest;
            while !text.trim_start().starts_with('}') && !text.is_empty() {
                expand(text, &path, found);
                // What stands between an item and the comma behind it, such as `as x`.
                let end = text.find([',', '}']).unwrap_or(text.len());
                *text = text[end..].strip_prefix(',').unwrap_or(&text[end..]);
            }
            *text = text.trim_start().strip_prefix('}').unwrap_or(text);
            return;
        }
        match text.strip_prefix("::") {
            Some(rest) => *text = rest,
            None => {
                found.push(path);
                return;
            }
        }
    }
}

/// Every path of the text that begins with `root`, which is `crate` or `super`.
fn paths(text: &str, root: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(&format!("{root}::")) {
        let is_within = text[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':');
        if !is_within {
            expand(&mut &text[at..], &[], &mut found);
        }
    }
    found
}

/// The file of the deepest module that the names lead to, from the crate's root.
fn file_of(names: &[String], sources: &BTreeMap<PathBuf, String>) -> Option<PathBuf> {
    (1..=names.len()).rev().find_map(|length| {
        let module: PathBuf = names[..length].iter().collect();
        [module.with_extension("rs"), module.join("mod.rs")].into_iter().find(|file| sources.contains_key(file))
    })
}

/// The names of a file's module, from the crate's root.
fn module_of(file: &Path) -> Vec<String> {
    let module = if file.ends_with("mod.rs") { file.parent().unwrap().to_owned() } else { file.with_extension("") };
    module.iter().map(|name| name.to_str().unwrap().to_owned()).collect()
}

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == name)
}

/// A sentence for each path that leads upwards.
fn upward_paths(sources: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in sources.iter().filter(|(file, _)| file.components().count() > 1) {
        let own = file.iter().next().unwrap().to_str().unwrap();
        let own_layer = layer_of(own).unwrap_or_else(|| panic!("src/{own} is a folder without a layer"));
        for names in paths(text, "crate").iter().map(|names| &names[1..]) {
            let Some(layer) = names.first().and_then(|name| layer_of(name)) else { continue };
            let is_client_of_another = own == "edge" && names[0] == "client";
            let is_foreign_tool = COMMANDS.contains(&names[0].as_str()) && own != names[0] && !is_client_of_another;
            let is_server_inside = own == CLIENT.0 && own != names[0] && !CLIENT.1.contains(&names[0].as_str());
            if layer < own_layer || is_foreign_tool || is_server_inside {
                let other = file_of(names, sources).unwrap_or_else(|| names[0].clone().into());
                found.push(format!(
                    "src/{} names src/{} (crate::{}), and {own} stands below {} or must not know it",
                    file.display(),
                    other.display(),
                    names.join("::"),
                    names[0]
                ));
            }
        }
    }
    found
}

/// The text without comments, so that only what the compiler reads counts.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Which file imports which other ones. A module and those inside it are one unit, so they do not count.
fn imports(sources: &BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let mut imports = BTreeMap::new();
    for (file, text) in sources {
        let (module, code) = (module_of(file), code(text));
        let absolute = paths(&code, "crate").into_iter().map(|names| names[1..].to_vec());
        let relative = paths(&code, "super").into_iter().filter_map(|names| {
            let ups = names.iter().take_while(|name| *name == "super").count();
            // Tests inside a file are a module of their own, whose `super` is the file itself.
            let base = module.len().checked_sub(ups)?;
            Some([&module[..base], &names[ups..]].concat())
        });
        let others = absolute.chain(relative).filter_map(|names| file_of(&names, sources)).filter(|other| {
            let theirs = module_of(other);
            !module.starts_with(&theirs) && !theirs.starts_with(&module)
        });
        imports.insert(file.clone(), others.collect());
    }
    imports
}

/// The files of one import cycle, if there is one.
fn cycle(imports: &BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> Option<Vec<PathBuf>> {
    fn visit(
        file: &PathBuf,
        imports: &BTreeMap<PathBuf, BTreeSet<PathBuf>>,
        way: &mut Vec<PathBuf>,
        done: &mut BTreeSet<PathBuf>,
    ) -> Option<Vec<PathBuf>> {
        if let Some(at) = way.iter().position(|before| before == file) {
            return Some(way[at..].to_vec());
        }
        if !done.insert(file.clone()) {
            return None;
        }
        way.push(file.clone());
        let found = imports.get(file).into_iter().flatten().find_map(|other| visit(other, imports, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|file| visit(file, imports, &mut Vec::new(), &mut done))
}

#[test]
fn no_folder_names_a_higher_one() {
    let found = upward_paths(&rust_files("src"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_two_files_import_each_other() {
    let found = cycle(&imports(&rust_files("src")));
    assert_eq!(found, None, "these files of src/ import each other in a circle");
}

#[test]
fn an_upward_path_and_a_cycle_are_found_in_every_form() {
    let with = |files: &[(&str, &str)]| -> BTreeMap<PathBuf, String> {
        files.iter().map(|(file, text)| (file.into(), (*text).to_owned())).collect()
    };
    for text in [
        "use crate::api::routes::Plan;",
        "use crate::{\n    log,\n    api::{self, routes::Plan},\n};",
        "//! See [`Plan`](crate::api::routes::Plan).",
        "fn f() -> crate::api::routes::Plan {}",
    ] {
        let found = upward_paths(&with(&[("http/a.rs", text), ("api/routes.rs", "")]));
        assert!(!found.is_empty() && found[0].contains("src/http/a.rs names src/api"), "{text}: {found:?}");
    }
    assert!(upward_paths(&with(&[("api/a.rs", "use crate::http::b::C; use crate::log;")])).is_empty());
    assert_eq!(upward_paths(&with(&[("server/a.rs", "use crate::tools::check;")])).len(), 1);
    assert_eq!(upward_paths(&with(&[("tools/a.rs", "use crate::client::post;")])).len(), 1);
    assert_eq!(upward_paths(&with(&[("client/a.rs", "use crate::store::now_ms;")])).len(), 1);
    assert!(upward_paths(&with(&[("client/a.rs", "use crate::json::OK; use crate::client::b;")])).is_empty());
    let pair = with(&[("live/a.rs", "use super::b::B;"), ("live/b.rs", "use crate::live::a::{self, A};")]);
    assert_eq!(cycle(&imports(&pair)).map(|files| files.len()), Some(2));
    let family = with(&[("live/mod.rs", "use a::A;"), ("live/a.rs", "use super::B;\n// super::c::C")]);
    assert_eq!(cycle(&imports(&family)), None);
}
