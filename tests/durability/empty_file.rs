//! An empty data file: what was in it is lost, unless a first start was cut short.

#[cfg(target_os = "linux")]
use crate::common::Disk;
#[cfg(target_os = "linux")]
use crate::common::disk::{Call, Fault, MAIN};
use crate::common::folder::files;
use crate::common::{Server, TempDir};
use std::fs;
use std::path::Path;

const DATA_FILE: &str = "ordercast.sqlite3";

#[track_caller]
fn expect_refusal(data: &Path) {
    let before = files(data);
    let said = Server::builder().data(data).try_start().map(drop).expect_err("the file is empty");
    for word in [DATA_FILE, "is empty", "restore a backup", "delete the file"] {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
    assert!(before == files(data), "the folder has changed");
}

#[test]
fn a_data_file_that_was_emptied_is_refused_until_it_is_deleted() {
    let mut server = Server::start();
    server.client().order("A1", 1);
    server.terminate();
    let data = server.data();
    fs::write(data.join(DATA_FILE), "").expect("a file");
    expect_refusal(&data);
    expect_refusal(&data);
    fs::remove_file(data.join(DATA_FILE)).expect("a file");
    server.restart();
    assert_eq!(server.total("A1"), 3);
    server.terminate();

    // A copy that failed, in a folder where no server has run.
    let temp = TempDir::new();
    temp.write(DATA_FILE, "");
    expect_refusal(temp.path());
}

#[test]
fn a_first_start_that_was_cut_short_is_no_loss_and_the_next_one_says_so() {
    let temp = TempDir::new();
    let data = temp.path().join("data");
    fs::create_dir(&data).expect("a folder");
    // The lock file comes first, and has an id once the data file has its tables.
    fs::write(data.join("ordercast.lock"), "").expect("a file");
    fs::write(data.join(DATA_FILE), "").expect("a file");
    let mut server = Server::builder().data(&data).start();
    let log = server.log();
    assert!(log.contains("warn") && log.contains("is empty, as after a first start that was cut short"), "{log}");
    server.client().order("A1", 1);
    server.terminate();
    fs::write(data.join(DATA_FILE), "").expect("a file");
    expect_refusal(&data);
}

#[cfg(target_os = "linux")]
#[test]
fn a_first_start_on_a_disk_that_fails_leaves_a_folder_on_which_the_next_one_succeeds() {
    let Some(disk) = Disk::new() else { return };
    disk.arm(Fault::fails(Call::Write, MAIN, 5));
    disk.builder().try_start().map(drop).expect_err("nothing can be written");
    assert!(disk.hits() > 0);
    assert_eq!(fs::metadata(disk.folder().join(DATA_FILE)).expect("a file").len(), 0);
    disk.lift();
    let mut server = disk.builder().start();
    server.client().order("A1", 1);
    server.terminate();
}
