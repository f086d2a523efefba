//! The programs of examples/, each run as its documentation says. examples/page is in `tests/browser`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{DEADLINE, Server, TempDir, wait_until};
use crate::program::{Program, has};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// Cargo tells the path of the binary; the examples in Rust are in a folder beside it.
fn built_example(name: &str) -> PathBuf {
    let product = Path::new(env!("CARGO_BIN_EXE_ordercast"));
    product.with_file_name("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

fn till(server: &Server, outbox: &Path) -> Program {
    let mut command = Command::new("python3");
    command.arg(example("till.py")).arg("--server").arg(format!("http://{}", server.addr()));
    Program::start(command.arg("--outbox").arg(outbox))
}

/// The lines of the log as (id, amount).
fn counted(server: &Server) -> Vec<(String, i64)> {
    let log = server.client().get("/log");
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        (line["id"].as_str().expect("an id").to_owned(), line["amount"].as_i64().expect("an amount"))
    };
    log.text().lines().map(line).collect()
}

fn orders(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(id, amount)| ((*id).to_owned(), *amount)).collect()
}

#[test]
fn the_till_keeps_orders_over_its_own_end_and_the_servers_and_each_counts_once() {
    if !has(&["python3"]) {
        return;
    }
    let (mut server, folder) = (Server::start(), TempDir::new());
    let outbox = folder.path().join("till.ndjson");
    let mut first = till(&server, &outbox);
    first.write("A1 2\n");
    assert_eq!(first.line(), "counted A1 2");
    server.kill();
    first.write("B1\nA1 -1\n");
    wait_until(DEADLINE, "both are in the file", || {
        std::fs::read_to_string(&outbox).is_ok_and(|text| text.lines().count() == 2)
    });
    assert!(first.error().contains(" waiting: "));
    first.kill();
    server.restart_on_the_same_ports();
    let mut second = till(&server, &outbox);
    second.write("ZZ 1\nA2 5\nnot an order\n");
    let mut lines = second.succeed();
    lines.sort();
    assert_eq!(lines, ["counted A1 -1", "counted A2 5", "counted B1 1"]);
    let said = second.errors().join("\n");
    assert!(
        said.contains("rejected ZZ 1: there is no product") && said.contains("not an order: not an order"),
        "{said}"
    );
    assert_eq!(counted(&server), orders(&[("A1", 2), ("B1", 1), ("A1", -1), ("A2", 5)]));
    assert_eq!(std::fs::read_to_string(&outbox).expect("the file is there"), "");
}

#[test]
fn the_till_whose_answer_was_lost_sends_the_order_under_its_key_again() {
    if !has(&["python3"]) {
        return;
    }
    let (server, folder) = (Server::start(), TempDir::new());
    let outbox = folder.write("till.ndjson", "");
    // As the file is when the till ends between the order and its answer.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970").as_secs();
    let line = |key: &str, made: u64| format!("{{\"id\":\"A1\",\"amount\":4,\"key\":\"{key}\",\"made\":{made}}}\n");
    let lines = line("answered", now) + &line("too-old", now - 24 * 3600) + "{\"id\":\"A1\",\"am";
    std::fs::write(&outbox, lines).expect("the file can be written");
    server.client().post("/orders/A1", "{\"amount\":4,\"key\":\"answered\"}");
    let mut till = till(&server, &outbox);
    assert_eq!(till.succeed(), ["counted A1 4"]);
    assert!(till.errors().join("\n").contains("expired A1 4"));
    assert_eq!(counted(&server), orders(&[("A1", 4)]));
}

#[test]
fn the_microcontroller_shows_totals_resumes_and_counts_each_press_once() {
    if !has(&["cc"]) {
        return;
    }
    let (mut server, folder) = (Server::start(), TempDir::new());
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-o", "meter"]).arg(example("meter.c"));
    Program::start(compiler.current_dir(folder.path())).succeed();
    let port = server.addr().port().to_string();
    let meter = || Command::new(folder.path().join("meter"));
    let mut running = Program::start(meter().args(["127.0.0.1", &port, "electronics", "A1"]));
    assert_eq!([running.line(), running.line()], ["A1 3", "A2 7"]);
    running.write("\n");
    assert_eq!(running.line(), "A1 4");
    server.client().order("A2", 10);
    assert_eq!(running.line(), "A2 17");
    server.kill();
    running.write("\n\n");
    server.restart_on_the_same_ports();
    // The stream goes on where it was: no total comes twice.
    assert_eq!([running.line(), running.line()], ["A1 5", "A1 6"]);
    running.succeed();
    assert_eq!(counted(&server), orders(&[("A1", 1), ("A2", 10), ("A1", 1), ("A1", 1)]));

    let mut wrong = Program::start(meter().args(["127.0.0.1", &port, "electronics", "ZZ"]));
    wrong.write("\n");
    assert!(wrong.error().contains("rejects order 0 with 404"));
    assert!(!Program::start(&mut meter()).wait(DEADLINE).0.success());
}

#[test]
fn the_shells_lines_order_and_follow() {
    if !has(&["sh", "curl", "sed"]) {
        return;
    }
    let server = Server::start();
    let sh = |name: &str, args: &[&str]| {
        let mut shell = Command::new("sh");
        Program::start(shell.arg(example(name)).args(args).env("SERVER", format!("http://{}", server.addr())))
    };
    let totals = sh("totals.sh", &[]);
    assert_eq!([totals.line(), totals.line(), totals.line()], ["A1 3", "A2 7", "B1 101"]);
    assert_eq!(sh("order.sh", &["A1", "2"]).succeed(), [r#"{"ok":true}"#]);
    assert_eq!(sh("order.sh", &["B1"]).succeed(), [r#"{"ok":true}"#]);
    assert_eq!([totals.line(), totals.line()], ["A1 5", "B1 102"]);
    assert!(!sh("order.sh", &["ZZ"]).wait(DEADLINE).0.success());
}

#[test]
fn the_program_in_rust_follows_without_a_gap() {
    let mut server = Server::start();
    let follow =
        Program::start(Command::new(built_example("follow")).args([&server.addr().to_string(), "electronics"]));
    assert_eq!([follow.line(), follow.line()], ["A1 3", "A2 7"]);
    server.client().order("A1", 1);
    assert_eq!(follow.line(), "A1 4");
    server.kill();
    server.restart_on_the_same_ports();
    let mut client = server.client();
    for _ in 0..3 {
        client.order("A1", 1);
    }
    client.order("A2", 1);
    assert_eq!([(); 4].map(|()| follow.line()), ["A1 5", "A1 6", "A1 7", "A2 8"]);
}

#[test]
fn the_program_that_embeds_a_server_runs() {
    let lines = Program::start(&mut Command::new(built_example("embed"))).succeed();
    assert_eq!(lines, ["A1: 15", "A2: 7"]);
}
