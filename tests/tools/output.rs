//! Standard output that cannot be written.

use crate::common::server::binary;
use crate::common::{Server, TempDir};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

/// The exit code of a command on a full device, and what it says.
fn run(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let output = Command::new(binary()).args(args).current_dir(folder).stdin(Stdio::null()).stdout(full).output();
    let output = output.expect("the binary can be started");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_result_that_cannot_be_written_is_an_error_that_names_standard_output() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let mut server = Server::start();
    server.client().order("A1", 1);
    server.terminate();
    for args in [&["check", "--data", "."][..], &["export", "--data", "."], &["report", "--data", "."], &["--help"]] {
        let (code, said) = run(&server.data(), args);
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(said.contains("cannot write to standard output: No space left"), "{args:?}: {said}");
    }
    // What is done stays done.
    let temp = TempDir::new();
    let copy = temp.path().join("copy");
    let (code, said) = run(&server.data(), &["backup", &copy.display().to_string(), "--data", "."]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("done, but cannot write to standard output"), "{said}");
    assert!(fs::metadata(copy).expect("a backup").len() > 0);
}
