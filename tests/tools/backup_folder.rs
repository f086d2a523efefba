//! `ordercast backup DIR --keep N`: backups that are named by their times, of which the newest stay.

use crate::common::folder::fill;
use crate::common::{Finished, Server, SmallDisk, TempDir, ordercast};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn backup(data: &Path, folder: &Path, keep: Option<u32>) -> Finished {
    let (data, folder) = (data.display().to_string(), folder.display().to_string());
    let keep = keep.map(|keep| format!("--keep={keep}"));
    let args: Vec<&str> = ["backup", &folder, "--data", &data].into_iter().chain(keep.as_deref()).collect();
    ordercast(Path::new("/"), &args, &[])
}

#[track_caller]
fn expect_backup(data: &Path, folder: &Path, keep: Option<u32>) {
    let run = backup(data, folder, keep);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The numbers of the backups in the folder, whose other files are left out.
fn numbers(folder: &Path) -> Vec<u64> {
    let number = |name: &String| name.strip_suffix(".db")?.rsplit_once("Z-")?.1.parse().ok();
    let mut numbers: Vec<_> = names(folder).iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn path_of(folder: &Path, number: u64) -> std::path::PathBuf {
    let end = format!("Z-{number}.db");
    let name = names(folder).into_iter().rfind(|name| name.ends_with(&end)).expect("a backup of this number");
    folder.join(name)
}

#[test]
fn the_newest_backups_stay_and_nothing_else_is_removed() {
    let server = Server::start();
    let temp = TempDir::new();
    let folder = temp.path().join("backups");
    // With --keep the folder is made, for its owner alone.
    expect_backup(&server.data(), &folder, Some(2));
    assert_eq!(fs::metadata(&folder).expect("a folder").permissions().mode() & 0o777, 0o700);
    let foreign = [
        "orders-20200101T000000Z.db",
        "orders-20200101T000000Z-0.db",
        "orders-20200101T000000Z-1.db",
        "orders-2020.db",
        "notes",
    ];
    for name in foreign {
        fs::write(folder.join(name), "mine").expect("a file");
    }
    symlink(server.data().join("ordercast.sqlite3"), folder.join("orders-20200101T000000Z-2.db")).expect("a link");
    fs::create_dir(folder.join("orders-20200101T000000Z-3.db")).expect("a folder");
    for number in 2..=5 {
        server.client().order("A1", 1);
        expect_backup(&server.data(), &folder, Some(2));
        assert!(path_of(&folder, number).is_file());
    }
    let mut expected: Vec<_> = foreign.iter().map(|name| (*name).to_owned()).collect();
    expected.extend([2, 3].map(|number| format!("orders-20200101T000000Z-{number}.db")));
    expected.extend([4, 5].map(|number| path_of(&folder, number).file_name().unwrap().to_string_lossy().into_owned()));
    expected.sort();
    assert_eq!(names(&folder), expected);
    for name in foreign {
        assert_eq!(fs::read(folder.join(name)).expect("a file"), b"mine", "{name}");
    }
    // Without --keep nothing is removed.
    expect_backup(&server.data(), &folder, None);
    assert_eq!(names(&folder).len(), expected.len() + 1);
    // The newest one has everything.
    let data = temp.path().join("restored");
    fs::create_dir(&data).expect("a folder");
    fs::copy(path_of(&folder, 6), data.join("ordercast.sqlite3")).expect("a copy");
    assert_eq!(Server::builder().data(&data).start().totals(), server.totals());
}

#[test]
fn a_clock_that_was_set_back_makes_no_backup_older() {
    let server = Server::start();
    let temp = TempDir::new();
    for _ in 0..3 {
        expect_backup(&server.data(), temp.path(), Some(3));
    }
    // As if they had been made in 2037.
    for number in 1..=3 {
        let later = temp.path().join(format!("orders-20370101T00000{number}Z-{number}.db"));
        fs::rename(path_of(temp.path(), number), later).expect("another name");
    }
    for newest in 4..=7 {
        expect_backup(&server.data(), temp.path(), Some(3));
        assert_eq!(numbers(temp.path()), [newest - 2, newest - 1, newest]);
    }
}

#[test]
fn an_older_backup_stays_until_the_new_one_is_complete() {
    let mut server = Server::start();
    // One backup fits, and two do not.
    fill(&server, 8_000);
    server.terminate();
    let Some(disk) = SmallDisk::of_megabytes(1) else { return };
    expect_backup(&server.data(), disk.path(), Some(1));
    let before = names(disk.path());
    let run = backup(&server.data(), disk.path(), Some(1));
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    assert!(run.stderr.contains("no space left") && run.stderr.contains("room for 2"), "{run:?}");
    assert_eq!(names(disk.path()), before);
}

#[test]
fn a_killed_backup_leaves_whole_ones_and_the_next_removes_what_it_left() {
    let mut server = Server::start();
    fill(&server, 3_000);
    server.terminate();
    let temp = TempDir::new();
    expect_backup(&server.data(), temp.path(), Some(2));
    for round in 0..12 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ordercast"))
            .args(["backup", "--keep", "2", "--data"])
            .args([&server.data(), temp.path()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary can be started");
        std::thread::sleep(Duration::from_millis(round * 4));
        let _ = child.kill();
        child.wait().expect("its end");
        assert!(!numbers(temp.path()).is_empty());
        for number in numbers(temp.path()) {
            let data = TempDir::new();
            fs::copy(path_of(temp.path(), number), data.path().join("ordercast.sqlite3")).expect("a copy");
            let check = ordercast(data.path(), &["check", "--data", "."], &[]);
            assert_eq!(check.code, Some(0), "{check:?}");
        }
    }
    expect_backup(&server.data(), temp.path(), Some(2));
    assert_eq!((numbers(temp.path()).len(), names(temp.path()).len()), (2, 2));
}

#[test]
fn behind_the_last_number_there_is_no_backup_under_a_number_that_is_not_known_again() {
    let (server, temp) = (Server::start(), TempDir::new());
    let folder = temp.path().join("backups");
    expect_backup(&server.data(), &folder, Some(9));
    let own = path_of(&folder, 1);
    for (number, code) in [("999999999999998", 0), ("999999999999999", 1), ("1000000000000000", 1)] {
        fs::copy(&own, folder.join(format!("orders-20260131T120000Z-{number}.db"))).expect("a copy");
        let run = backup(&server.data(), &folder, Some(9));
        assert_eq!(run.code, Some(code), "{number}: {run:?}");
        assert!(code == 0 || run.stderr.contains("the last number"), "{run:?}");
    }
}

#[test]
fn the_data_folder_is_no_folder_for_backups() {
    let server = Server::start();
    let run = backup(&server.data(), &server.data(), Some(1));
    assert!(run.code == Some(1) && run.stderr.contains("is the data folder"), "{run:?}");
    let run = backup(&server.data(), &server.data().join("ordercast.sqlite3"), Some(1));
    assert_eq!(run.code, Some(1), "{run:?}");
}
