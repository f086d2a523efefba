//! The alert rules of packaging/, as `promtool` checks them. Needs Debian's prometheus (`make deps`).

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::common::{Server, skip};

pub const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/prometheus-alerts.yml");
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/observability/alerts-test.yml");

/// Runs `promtool`; `None` without it, after a message. Where `CI` is `true` that is a failure.
#[track_caller]
fn promtool(args: &[&str], input: &[u8]) -> Option<Output> {
    let child =
        Command::new("promtool").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        skip("promtool is not installed (make deps)", true);
        return None;
    };
    // It reads all of its input before it writes more than a pipe holds.
    child.stdin.take().expect("it is piped").write_all(input).expect("promtool reads its input");
    Some(child.wait_with_output().expect("promtool ends"))
}

#[track_caller]
fn expect_success(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let server = Server::start();
    server.client().order("A1", 1);
    let text = server.client().get("/metrics").body;
    let Some(output) = promtool(&["check", "metrics"], &text) else { return };
    expect_success(&output);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let broken = String::from_utf8(text).unwrap().replacen("# HELP ordercast_orders_total", "# HELP other", 1);
    let output = promtool(&["check", "metrics"], broken.as_bytes()).expect("it was there before");
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn every_alert_fires_where_it_should_and_not_before() {
    let Some(output) = promtool(&["check", "rules", RULES], b"") else { return };
    expect_success(&output);
    let output = promtool(&["test", "rules", CASES], b"").expect("it was there before");
    expect_success(&output);
    let (rules, cases) = (std::fs::read_to_string(RULES).unwrap(), std::fs::read_to_string(CASES).unwrap());
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        assert!(cases.contains(&format!("alertname=\"{alert}\"")), "no case in which {alert} fires");
    }
}
