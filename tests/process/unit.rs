//! The units in packaging/: systemd understands them, and lets the service do little.

use crate::common::server::BINARY;
use crate::common::{TempDir, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The highest exposure that the service may have, in tenths (`systemd-analyze security`).
const MOST_EXPOSURE: &str = "12";
/// Keys of the service that systemd before version 254 does not know and ignores.
const LATER_KEYS: [&str; 2] = ["RestartSteps", "RestartMaxDelaySec"];

fn unit(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)).expect("the unit is there")
}

/// Runs `systemd-analyze`; returns whether it succeeded, and what it wrote. `None`, after a message, where it is
/// missing.
fn analyze(arguments: &[&str], units: &[PathBuf]) -> Option<(bool, String)> {
    let Ok(output) = Command::new("systemd-analyze").args(arguments).args(units).output() else {
        skip("systemd-analyze (systemd) is missing", true);
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// The units in a folder of their own, where the service starts the built binary.
fn units(folder: &TempDir) -> Vec<PathBuf> {
    let service = unit("ordercast.service");
    assert!(service.contains("ExecStart=/usr/bin/ordercast\n"), "{service}");
    vec![
        folder.write("ordercast.service", service.replace("/usr/bin/ordercast", BINARY)),
        folder.write("ordercast.socket", unit("ordercast.socket")),
    ]
}

#[test]
fn systemd_understands_the_units() {
    let folder = TempDir::new();
    let Some((succeeded, said)) = analyze(&["verify", "--man=no"], &units(&folder)) else { return };
    let is_about = |line: &str| {
        let names_unit = line.contains("ordercast");
        names_unit && !LATER_KEYS.iter().any(|key| line.contains(&format!("'{key}'")) && line.contains("ignoring"))
    };
    let complaints: Vec<_> = said.lines().filter(|line| is_about(line)).collect();
    assert!(succeeded && complaints.is_empty(), "{said}");
    // The check finds what is wrong.
    let wrong = folder.write("wrong-ordercast.service", unit("ordercast.service").replace("Type=notify", "Typ=notify"));
    let (_, said) = analyze(&["verify", "--man=no"], &[wrong]).expect("it was there");
    assert!(said.lines().any(|line| line.contains("'Typ'") && is_about(line)), "{said}");
}

#[test]
fn what_the_units_start_has_no_flag_that_a_setting_would_lose_against() {
    for name in ["ordercast.service", "ordercast-backup.service"] {
        let unit = unit(name);
        let start = unit.lines().find(|line| line.starts_with("ExecStart=")).expect("it starts something");
        assert!(!start.contains("--"), "{start}");
        let place = |begin| unit.lines().position(|line| line.starts_with(begin));
        assert!(place("Environment=ORDERCAST_DATA=") < place("EnvironmentFile="), "{unit}");
    }
}

#[test]
fn the_service_may_do_little() {
    let folder = TempDir::new();
    let arguments = |most: &str| {
        ["security", "--offline=true", "--no-pager"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("--threshold={most}")])
            .collect::<Vec<_>>()
    };
    let security = |most: &str| {
        let arguments = arguments(most);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        analyze(&arguments, &units(&folder)[..1])
    };
    let Some((succeeded, said)) = security(MOST_EXPOSURE) else { return };
    let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default().to_owned();
    println!("{line}");
    assert!(succeeded && !line.is_empty(), "{said}");
    // The threshold is heeded.
    assert_eq!(security("5").map(|(succeeded, _)| succeeded), Some(false));
    // What it keeps has its reason in the unit.
    let service = unit("ordercast.service");
    for kept in said.lines().filter_map(|line| line.strip_prefix('✗')) {
        let name = kept.split_whitespace().next().unwrap_or_default();
        let name = name.trim_start_matches("RestrictAddressFamilies=~").trim_matches(['=', '/']);
        let name = name.split(['=', '(', '|']).next().unwrap_or_default();
        let reasons = service.lines().filter(|line| line.starts_with("#   0."));
        assert!(!name.is_empty() && reasons.into_iter().any(|line| line.contains(name)), "{kept} has no reason");
    }
}
