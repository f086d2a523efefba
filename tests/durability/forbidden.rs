//! A data folder that the server or a command may not read or write: the message names the file, its owner and what to
//! do, and clients are told without a path.

use crate::common::server::binary;
use crate::common::{DEADLINE, Finished, Server, SmallDisk, TempDir, ordercast, skip, wait_until};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

/// A user without a name.
const STRANGER: u32 = 54_321;
const DATA_FILE: &str = "ordercast.sqlite3";

/// Shell commands that run the rest of the command line as that user, who need not reach the program's folder.
fn as_stranger() -> String {
    let user = format!("--reuid={STRANGER} --regid={STRANGER} --clear-groups --inh-caps=-all");
    format!("exec 9<\"$0\"; exec setpriv {user} /proc/self/fd/9 \"$@\"")
}

/// A command as that user.
fn run(args: &[&str]) -> Finished {
    let output = Command::new("sh").arg("-c").arg(as_stranger()).arg(binary()).args(args).stdin(Stdio::null()).output();
    let output = output.expect("a shell");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Whether commands can be run as another user; says so if not.
fn can_be_stranger() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let can = is_root && run(&["--version"]).code == Some(0);
    if !can {
        skip("no command can be run as another user here", false);
    }
    can
}

fn set_owner(path: &Path, uid: u32, mode: u32) {
    chown(path, Some(uid), Some(uid)).expect("the superuser may");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the superuser may");
}

#[track_caller]
fn expect_words(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing: {text}");
    }
    for word in ["Error code", "immutable", "unable to open", "readonly database"] {
        assert!(!text.contains(word), "{word:?}: {text}");
    }
}

/// The answer to an order, and to `/readyz`, of a server that cannot write.
#[track_caller]
fn expect_rejected(server: &Server) {
    let mut client = server.client();
    for reply in [client.get("/readyz"), client.post("/orders/A1", "{\"amount\":1}")] {
        assert_eq!(reply.status, 503, "{reply:?}");
        let text = reply.text();
        assert!(text.contains("the data file cannot be written") && !text.contains(DATA_FILE), "{text}");
    }
}

/// Stops a server, and gives its folder to that user.
fn folder_of_stranger(temp: &TempDir) -> std::path::PathBuf {
    let data = temp.path().join("data");
    let mut server = Server::builder().data(&data).start();
    server.client().order("A1", 1);
    server.terminate();
    set_owner(&data, STRANGER, 0o755);
    for entry in fs::read_dir(&data).expect("a folder") {
        set_owner(&entry.expect("an entry").path(), STRANGER, 0o644);
    }
    data
}

/// As after `sudo cp backup …/ordercast.sqlite3`.
#[test]
fn a_file_of_another_user_is_named_with_its_owner_and_what_to_do() {
    if !can_be_stranger() {
        return;
    }
    let temp = TempDir::in_system();
    let data = folder_of_stranger(&temp);
    let (file, folder) = (data.join(DATA_FILE), data.display().to_string());
    let path = file.display().to_string();
    let owners = ["root (uid 0)", "uid 54321"];
    let give = format!("chown 54321 {path}");
    let serve = || Server::builder().data(&data).shell(&as_stranger()).try_start();

    set_owner(&file, 0, 0o600);
    let said = serve().map(drop).expect_err("it cannot be read");
    expect_words(&said, &[&format!("no permission to write {path}"), owners[0], owners[1], &give]);
    let output = temp.path().join("output");
    fs::create_dir(&output).expect("a folder");
    set_owner(&output, STRANGER, 0o755);
    let (copy, output) = (output.join("copy").display().to_string(), output.display().to_string());
    for args in [&["check"][..], &["export"], &["report"], &["backup", &copy], &["repair", "--output", &output]] {
        let run = run(&[args, &["--data", &folder]].concat());
        assert_eq!(run.code, Some(1), "{args:?}: {run:?}");
        let word = format!("no permission to read {path}");
        expect_words(&run.stderr, &[&word, owners[0], owners[1], "run this as root", &give]);
    }

    set_owner(&file, 0, 0o644);
    let server = serve().expect("it can be read");
    expect_rejected(&server);
    expect_words(&server.log(), &[&format!("no permission to write {path}"), owners[0], owners[1], &give]);
    set_owner(&file, STRANGER, 0o600);
    wait_until(DEADLINE, "it can be written", || server.client().get("/readyz").status == 200);
    server.client().order("A1", 1);
    drop(server);

    let lock = data.join("ordercast.lock");
    set_owner(&lock, 0, 0o644);
    let said = serve().map(drop).expect_err("it cannot be locked");
    let words = [&format!("cannot lock the data folder with {}", lock.display()), owners[0], owners[1]];
    expect_words(&said, &words);
    expect_words(&said, &[&format!("chown 54321 {}", lock.display())]);
    fs::remove_file(&lock).expect("a lock");
    set_owner(&data, 0, 0o755);
    let said = serve().map(drop).expect_err("it cannot be locked");
    expect_words(&said, &[&format!("no permission to write {folder},"), &format!("chown -R 54321 {folder}")]);
    set_owner(&data, 0, 0o700);
    let said = run(&["check", "--data", &folder]).stderr;
    expect_words(&said, &[&format!("no permission to enter {folder},"), owners[0], owners[1]]);
    let own = TempDir::in_system();
    let data = folder_of_stranger(&own);
    fs::set_permissions(data.join(DATA_FILE), Permissions::from_mode(0o200)).expect("the superuser may");
    let said = run(&["check", "--data", &data.display().to_string()]).stderr;
    expect_words(&said, &["no permission to read", "whose mode is 200"]);
}

#[test]
fn a_read_only_file_system_is_named_and_orders_are_taken_when_it_is_writable_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let data = disk.path().join("data");
    let mut server = Server::builder().data(&data).start();
    server.client().order("A1", 1);
    server.terminate();
    disk.set_read_only(true);
    let server = Server::builder().data(&data).start();
    expect_rejected(&server);
    expect_words(&server.log(), &["the file system of", "is read-only", "mounted for writing"]);
    let check = ordercast(&data, &["check", "--data", "."], &[]);
    assert_eq!(check.code, Some(0), "{check:?}");
    disk.set_read_only(false);
    wait_until(DEADLINE, "it can be written", || server.client().get("/readyz").status == 200);
    server.client().order("A1", 1);
    assert_eq!(server.total("A1"), 5);
}
