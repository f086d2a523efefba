//! schemathesis reads the OpenAPI document, sends requests that follow it and requests that break it, follows its links, and
//! compares every answer with it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::{Server, TempDir, seed, skip};
use crate::program::Program;

/// Requests of each kind for an operation; `make contract` sends more.
const EXAMPLES: u32 = 5;
/// Every test run sends the same requests; `make contract` sends others each time.
const SEED: u64 = 1;
/// With the default number it takes about 20 s on two idle cores.
const DEADLINE: Duration = Duration::from_secs(400);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The tool, which `make deps` installs; `None` without it, after a message.
fn tool() -> Option<PathBuf> {
    let tool = root().join("target/contract/bin/schemathesis");
    if tool.is_file() {
        return Some(tool);
    }
    skip("schemathesis is not installed (make deps)", true);
    None
}

/// A number from the environment, which `make contract` sets.
fn examples() -> u32 {
    match env::var("ORDERCAST_CONTRACT_EXAMPLES") {
        Ok(text) => text.parse().expect("ORDERCAST_CONTRACT_EXAMPLES is a number"),
        Err(_) => EXAMPLES,
    }
}

/// The seed of the requests, which `ORDERCAST_SEED` names too.
fn seed_of_run() -> u64 {
    let is_random =
        ["ORDERCAST_CONTRACT_EXAMPLES", "ORDERCAST_SEED"].into_iter().any(|name| env::var_os(name).is_some());
    if is_random { seed() } else { SEED }
}

/// Runs the tool on a document against a server. Returns whether it found nothing, and what it wrote.
#[track_caller]
fn run(tool: &Path, folder: &TempDir, server: &Server, document: &str, args: &[&str]) -> (bool, String) {
    let document = folder.write("openapi.json", document);
    let mut command = Command::new(tool);
    command
        .arg("--config-file")
        .arg(root().join("tests/interfaces/schemathesis.toml"))
        .arg("run")
        .arg(document)
        .args(["--url", &format!("http://{}/", server.addr())])
        .args(["--workers", "1", "--request-timeout", "10", "--generation-database", "none", "--no-color"])
        .args(["--seed", &seed_of_run().to_string()])
        .args(args)
        .env("SCHEMATHESIS_HOOKS", root().join("tests/interfaces/hooks.py"))
        .current_dir(folder.path());
    let deadline = DEADLINE * (1 + examples() / (4 * EXAMPLES));
    let (status, lines) = Program::start(&mut command).wait(deadline);
    (status.success(), lines.join("\n"))
}

/// The number in front of `behind`, behind `before`.
fn number(text: &str, before: &str, behind: &str) -> Option<u32> {
    let (_, rest) = text.split_once(before)?;
    rest.split(behind).next()?.trim().parse().ok()
}

#[test]
fn schemathesis_finds_no_difference_between_the_document_and_the_server() {
    let Some(tool) = tool() else { return };
    let (server, folder) = (Server::start(), TempDir::new());
    let document = server.client().get("/openapi.json");
    let count = examples().to_string();
    let (is_clean, report) = run(&tool, &folder, &server, document.text(), &["--max-examples", &count]);
    println!("{report}");
    assert!(is_clean, "{report}");
    let operations: usize = document.json()["paths"].as_object().expect("paths").values().map(operations).sum();
    let tested = number(&report, "\n  Tested: ", "\n").expect("a number of operations");
    assert_eq!(tested as usize, operations, "{report}");
    let links = number(&report, "API Links:", "covered").expect("a number of links");
    assert!(links >= 5, "{report}");
    // What it sent has not broken the server.
    assert_eq!(server.client().get("/readyz").text(), "{\"ok\":true}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

fn operations(item: &serde_json::Value) -> usize {
    let names = item.as_object().expect("an object").keys();
    names.filter(|name| ["get", "post", "put", "patch", "delete"].contains(&name.as_str())).count()
}

#[test]
fn schemathesis_finds_every_operation_that_needs_a_token_protected() {
    let Some(tool) = tool() else { return };
    let folder = TempDir::new();
    let tokens = ["token", "read-token", "admin-token"].map(|name| {
        let path = folder.write(name, format!("{name}-0123456789abcdef\n"));
        format!("--{name}-file={}", path.display())
    });
    let protected = tokens.iter().fold(Server::builder(), |builder, argument| builder.arg(argument)).start();
    // Where there are token files, a token is not optional.
    let document = protected.client().get("/openapi.json").text().replace(",{}]", "]");
    let args = [
        "--phases",
        "examples,fuzzing",
        "--mode",
        "positive",
        "--max-examples",
        "1",
        "-H",
        "Authorization: Bearer admin-token-0123456789abcdef",
    ];
    let (is_clean, report) = run(&tool, &folder, &protected, &document, &args);
    assert!(is_clean, "{report}");
    // The check finds what is not protected.
    let (is_clean, report) =
        run(&tool, &folder, &Server::start(), &document, &[&args[..], &["--include-path", "/log"]].concat());
    assert!(!is_clean && report.contains("GET /log"), "{report}");
}
