//! The tools beside the running server, and the close of a period.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use super::time;
use crate::figures::{Better, Figure, Measurement, figure, megabytes, milliseconds};
use crate::requests::Client;
use crate::server::{Contender, Server};

const DATA: Figure = figure("data file", "MB", Better::Lower);
const CLOSE: Figure = figure("close of a period", "ms", Better::Lower);
const BACKUP: Figure = figure("backup", "s", Better::Lower);
const CHECK: Figure = figure("check", "s", Better::Lower);
const EXPORT: Figure = figure("export", "lines/s", Better::Higher);

pub fn measure(server: &Server, contender: &Contender) -> Result<(String, Measurement), String> {
    let mut measurement = Measurement::default();
    let room = server.room_path().ok_or("the server has no folder")?;
    let program = contender.program().ok_or("the server has no tools")?;
    let data = room.join("data");
    let size = fs::metadata(data.join("ordercast.sqlite3")).map_or(0, |metadata| metadata.len());
    measurement.push(&DATA, megabytes(size));

    let mut client = Client::connect(server.address)?;
    let report: serde_json::Value =
        serde_json::from_slice(client.get("/periods/current")?).map_err(|error| error.to_string())?;
    let amounts = report["products"].as_array().into_iter().flatten().filter_map(|product| product["amount"].as_u64());
    if report["number"] == 1 && amounts.sum::<u64>() != server.totals.iter().sum::<u64>() {
        measurement.faults.push("the sums of the period are not the totals".into());
    }
    let body = format!(r#"{{"number":{}}}"#, report["number"]);
    let (_, close) = time(|| client.post("/periods", "application/json", &body).map(drop))?;
    measurement.push(&CLOSE, milliseconds(close));

    let copy = room.join("backup.sqlite3");
    let (_, backup) = time(|| run(&program, &data, &["backup".as_ref(), copy.as_os_str()]))?;
    measurement.push(&BACKUP, backup.as_secs_f64());
    fs::remove_file(&copy).map_err(|error| format!("{}: {error}", copy.display()))?;
    let (_, check) = time(|| run(&program, &data, &["check".as_ref()]))?;
    measurement.push(&CHECK, check.as_secs_f64());
    let (lines, export) = time(|| run(&program, &data, &["export".as_ref()]))?;
    measurement.push(&EXPORT, lines as f64 / export.as_secs_f64());
    if lines as u64 != server.totals.iter().sum::<u64>() {
        measurement.faults.push(format!("{lines} lines were exported"));
    }
    Ok(("tools".into(), measurement))
}

/// Runs a tool on this data folder, which must succeed; returns the number of lines that it prints.
fn run(program: &Path, data: &Path, words: &[&std::ffi::OsStr]) -> Result<usize, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", program.display());
    let mut command = Command::new(program);
    command.args(words).arg("--data").arg(data).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(fail)?;
    let (mut lines, mut buffer) = (0, vec![0; 64 * 1024]);
    if let Some(mut output) = child.stdout.take() {
        loop {
            match output.read(&mut buffer).map_err(fail)? {
                0 => break,
                count => lines += buffer[..count].iter().filter(|byte| **byte == b'\n').count(),
            }
        }
    }
    let status = child.wait().map_err(fail)?;
    if status.success() { Ok(lines) } else { Err(format!("{} {words:?}: {status}", program.display())) }
}
