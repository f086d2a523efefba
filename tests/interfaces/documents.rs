//! Every command line with curl in README.md and docs/, run as it is written. Only the port is replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Server, TempDir};
use crate::program::{Program, has};

const ADDRESS: &str = "localhost:3000";

/// The fenced `sh` blocks of a document that call curl on this machine, in their order.
fn blocks(document: &str) -> Vec<&str> {
    let blocks =
        document.split("\n```sh\n").skip(1).filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block));
    blocks.filter(|block| block.contains("curl") && block.contains(ADDRESS)).collect()
}

/// README.md and the files of docs/.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(root.join("docs")).expect("there is docs/").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    found.sort();
    found.insert(0, root.join("README.md"));
    found
}

/// Runs the blocks of a document against a server of its own; returns their lines. curl fails when the status does.
#[track_caller]
fn run(server: &Server, folder: &TempDir, blocks: &[&str]) -> Vec<Vec<String>> {
    folder.write(".curlrc", "fail\nsilent\nshow-error\nmax-time = 60\n");
    let run = |block: &&str| {
        let block = block.replace(ADDRESS, &server.addr().to_string().replace("127.0.0.1", "localhost"));
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", &block]).current_dir(folder.path()).env("CURL_HOME", folder.path());
        let mut program = Program::start(&mut shell);
        if !block.contains("curl -N") {
            return program.succeed();
        }
        // A stream has no end.
        let mut lines = vec![program.line()];
        while !lines.last().is_some_and(|line| line.starts_with("data: ")) {
            lines.push(program.line());
        }
        lines
    };
    blocks.iter().map(run).collect()
}

#[test]
fn every_command_line_of_the_documents_succeeds() {
    if !has(&["curl", "sh", "sed"]) {
        return;
    }
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("the document can be read");
        let blocks = blocks(&text);
        let curls = text.lines().filter(|line| line.contains("curl ") && line.contains(ADDRESS)).count();
        assert_eq!(
            blocks.iter().flat_map(|block| block.lines()).filter(|line| line.contains("curl ")).count(),
            curls,
            "{}: a curl line is not in a block ```sh",
            document.display()
        );
        count += curls;
        let (server, folder) = (Server::start(), TempDir::new());
        let lines = run(&server, &folder, &blocks);
        match document.file_name().and_then(|name| name.to_str()) {
            Some("README.md") => {
                assert_eq!(lines[0], [r#"{"ok":true}"#]);
                assert_eq!(server.total("A1"), 13, "what README.md says of its first command");
            }
            Some("api.md") => {
                assert_eq!(server.totals(), [("A1", 17), ("A2", 7), ("B1", 102)].map(|(id, it)| (id.to_owned(), it)));
            }
            _ => {}
        }
    }
    assert!(count >= 14, "{count} command lines");
}

#[test]
fn a_command_line_that_the_server_rejects_fails() {
    if !has(&["curl", "sh"]) {
        return;
    }
    let document = "text\n```sh\ncurl http://localhost:3000/nothing\n```\n```json\n{}\n```\n```sh\nmake run\n```\n";
    assert_eq!(blocks(document), ["curl http://localhost:3000/nothing"]);
    let (server, folder) = (Server::start(), TempDir::new());
    let failed = std::panic::catch_unwind(|| run(&server, &folder, &blocks(document)));
    assert!(failed.is_err());
}
