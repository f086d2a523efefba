//! The server without the feature `client`: which crates it is made of.

use std::collections::BTreeSet;
use std::env;
use std::process::Command;

/// The crates of the bare server, build dependencies left out. One more needs a reason in ARCHITECTURE.md.
const CRATES: &str = "
    ascii bitflags block-buffer bytes cfg-if chacha20 chunked_transfer const-oid cpufeatures crossbeam-channel
    crossbeam-utils crypto-common data-encoding digest errno fallible-iterator fallible-streaming-iterator
    foldhash getrandom hashbrown hashlink http httparse httpdate hybrid-array itoa lexopt libc libsqlite3-sys
    linux-raw-sys log memchr mio ordercast proc-macro2 quote rand rand_core rlimit rusqlite rustix sd-listen-fds
    sd-notify serde_core serde_json sha1 signal-hook signal-hook-registry smallvec socket2 subtle syn thiserror
    thiserror-impl tiny_http tungstenite typenum unicode-ident zmij
";

/// The names of the crates that a build with these flags is made of.
fn crates(flags: &[&str]) -> BTreeSet<String> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    // What other systems need is not asked for.
    command.args(["--target", "x86_64-unknown-linux-gnu"]);
    let output = command.args(flags).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_bare_server_has_no_crate_more_than_this_list() {
    let listed: BTreeSet<String> = CRATES.split_whitespace().map(str::to_owned).collect();
    assert_eq!(crates(&["--no-default-features"]), listed);
    // The list is not that of every build.
    assert!(crates(&[]).contains("ureq"));
}
