//! What is refused for good, and servers that are none.

use std::fs;

use crate::command::{expect, post_input, run};
use crate::common::{Finished, Server, TempDir};
use crate::peer::{Peer, answer, ok};

const TOKEN: &str = "writer-0123456789";
const READER: &str = "reader-0123456789";

#[test]
fn what_the_server_refuses_is_said_with_its_reason_and_exit_code_1() {
    let server = Server::start();
    let post = |words: &[&str]| run(server.addr(), &[&["post"], words].concat());
    expect(&post(&["A9", "1"]), 1, &["there is no product \"A9\"", "status 404"]);
    expect(&post(&["A1", "9007199254740991"]), 1, &["range", "status 422"]);
    assert_eq!(post(&["A1", "1", "--key", "k"]).code, Some(0));
    expect(&post(&["A1", "2", "--key", "k"]), 1, &["key was used for another order"]);
    let json = [("Content-Type", "application/json")];
    let hidden = server.client().request("PATCH", "/electronics/A1", &json, b"{\"hidden\":true}");
    assert_eq!(hidden.status, 200, "{hidden:?}");
    expect(&post(&["A1", "1"]), 1, &["hidden", "status 410"]);
    expect(&run(server.addr(), &["watch", "toys"]), 1, &["there is no category \"toys\""]);
}

#[test]
fn a_token_is_sent_and_its_absence_is_said() {
    let folder = TempDir::new();
    let file = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let (writers, readers) = (file("writers", TOKEN), file("readers", READER));
    let server = Server::builder().arg("--token-file").arg(&writers).arg("--read-token-file").arg(&readers).start();
    let with = |words: &[&str], file: &str| run(server.addr(), &[words, &["--token-file", file]].concat());
    for words in [&["post", "A1", "1"][..], &["watch"]] {
        expect(&run(server.addr(), words), 1, &["token", "status 401", "--token-file"]);
        let unknown = file("unknown", "another-0123456789");
        expect(&with(words, &unknown), 1, &["token", "status 401"]);
    }
    expect(&with(&["post", "A1", "1"], &readers), 1, &["status 403"]);
    let many = file("many", &format!("# the first one is sent\n\n  {TOKEN}\nanother-0123456789\n"));
    assert_eq!(with(&["post", "A1", "1"], &many).code, Some(0));
    let sent = post_input(server.addr(), "{\"id\":\"A1\",\"amount\":1}\n", &["--token-file", &many]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let client = server.client().request("GET", "/orders", &[("Authorization", &format!("Bearer {READER}"))], b"");
    assert_eq!(client.json()[0]["total"], 5);
    expect(&with(&["post", "A1", "1"], "missing"), 1, &["missing", "No such file"]);
    let secret = with(&["post", "A1", "1"], &file("spaced", "se cret"));
    expect(&secret, 1, &["line 1 is no token"]);
    assert!(!secret.stderr.contains("cret"), "{secret:?}");
}

#[test]
fn a_token_that_was_exchanged_is_read_again() {
    let folder = TempDir::new();
    let path = folder.write("token", "old-token-0123456789\n");
    let new = path.clone();
    let answers = vec![answer("401 Unauthorized", "", "{\"detail\":\"unknown token\"}"), ok()];
    let (peer, requests) = Peer::answering(answers);
    // The file changes after the command has read it, and before it is answered: the peer changes it.
    let relay = Peer::relay(peer.addr, move |_| fs::write(&new, "new-token-0123456789\n").unwrap());
    let run = run(relay.addr, &["post", "A1", "1", "--token-file", &path.display().to_string()]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let requests = requests.lock().unwrap();
    let token = |place: usize| {
        let lines = requests[place].head.lines().map(str::to_ascii_lowercase);
        lines.into_iter().find(|line| line.starts_with("authorization")).expect("a token")
    };
    assert_eq!(requests.len(), 2);
    assert!(token(0).ends_with("bearer old-token-0123456789") && token(1).ends_with("bearer new-token-0123456789"));
}

/// Runs all three commands against a peer, with this `--timeout`.
fn all(peer: &Peer, timeout: &str) -> [Finished; 3] {
    [
        run(peer.addr, &["post", "A1", "1", "--timeout", timeout]),
        post_input(peer.addr, "{\"id\":\"A1\",\"amount\":1}\n", &["--timeout", timeout]),
        run(peer.addr, &["watch", "--timeout", timeout]),
    ]
}

#[test]
fn a_web_server_that_is_none_of_ordercasts_is_recognised() {
    let page = |status: &str, headers: &str| answer(status, headers, "<html>Welcome \u{1b}[31m</html>");
    for (answers, code, words) in [
        (page("200 OK", "Content-Type: text/html\r\n"), 1, &["--server"][..]),
        (page("404 Not Found", ""), 1, &["status 404", "is it an ordercast server?"]),
        (page("301 Moved Permanently", "Location: https://box.lan/\r\n"), 1, &["https://box.lan/", "--server"]),
        (page("405 Method Not Allowed", ""), 1, &["status 405"]),
        (page("413 Content Too Large", ""), 1, &["status 413"]),
    ] {
        let (peer, _requests) = Peer::answering(vec![answers]);
        let [one, input, watch] = all(&peer, "15");
        expect(&one, code, words);
        expect(&input, code, words);
        expect(&watch, code, &[]);
        assert_eq!((one.stdout, watch.stdout), (String::new(), String::new()));
    }
}

#[test]
fn what_is_not_http_or_never_ends_is_given_up_in_time() {
    let endless_head = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(100_000)].concat();
    let endless_body = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), b"x".repeat(40 * 1024 * 1024)].concat();
    for bytes in [b"220 mail ESMTP\r\n".to_vec(), vec![0; 100_000], endless_head, endless_body, b"HTTP/1.1 2".to_vec()]
    {
        let peer = Peer::sending(bytes);
        for run in all(&peer, "1") {
            expect(&run, 3, &["given up after 1 s"]);
        }
    }
}
