//! The log on standard error: its first and last line, its forms, and what is never in it.

use crate::common::server::ordercast;
use crate::common::websocket::{TEXT, frame};
use crate::common::{Client, DEADLINE, Server, TempDir, WebSocket, wait_until};
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

/// The lines of the log, once the server has ended.
fn lines(server: &Server) -> Vec<String> {
    wait_until(DEADLINE, "the last line is read", || server.log().contains("stopped after"));
    server.log().lines().map(str::to_owned).collect()
}

/// The text behind the time and the level of a line.
#[track_caller]
fn text<'a>(line: &'a str, level: &str) -> &'a str {
    let (time, rest) = line.split_once(' ').expect("a time");
    let form: String = time.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z", "{line}");
    rest.strip_prefix(level).and_then(|rest| rest.strip_prefix(' ')).unwrap_or_else(|| panic!("not {level}: {line}"))
}

/// A request of a web page of another host, which is logged as a warning.
fn knock(server: &Server) {
    let headers = [("Host", "localhost:3000"), ("Origin", "http://evil.example")];
    server.client().request("GET", "/electronics", &headers, b"").problem(403);
}

#[test]
fn the_log_begins_with_what_the_server_has_found_and_ends_with_what_it_did() {
    let folder = TempDir::new();
    for (signal, name, before, orders) in
        [("TERM", "SIGTERM", 0, 2), ("INT", "SIGINT", 2, 1), ("TERM", "SIGTERM", 3, 0)]
    {
        let builder = Server::builder().data(folder.path()).arg("--max-connections=50").arg("--keep-orders=1000");
        let mut server = builder.start();
        (0..orders).for_each(|_| server.client().order("A1", 1));
        server.signal(signal);
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        let lines = lines(&server);
        let (version, addr) = (env!("CARGO_PKG_VERSION"), server.addr());
        let file = folder.path().join("ordercast.sqlite3");
        let expected = format!(
            "ordercast {version} listens on http://{addr}; {} has {before} orders and 3 products; at most 50 connections, \
             1000 orders in the log",
            file.display()
        );
        assert_eq!(text(&lines[0], "info"), expected);
        let last = text(lines.last().expect("a last line"), "info");
        let plural = if orders == 1 { "" } else { "s" };
        let end = format!(" s: {name}; {orders} order{plural} taken in this run");
        assert!(last.starts_with("stopped after ") && last.ends_with(&end), "{last}");
    }
}

#[test]
fn each_line_is_a_json_object_if_that_is_wanted() {
    let folder = TempDir::new();
    let data = folder.path().join("a \"b\" \\ c\n\u{e9}");
    let mut server = Server::builder().data(&data).arg("--log=json").start();
    knock(&server);
    server.terminate();
    let lines: Vec<serde_json::Value> = lines(&server)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}")))
        .collect();
    for line in &lines {
        let members = line.as_object().expect("an object");
        assert_eq!(members.keys().collect::<Vec<_>>(), ["level", "message", "time"], "{line}");
        text(&format!("{} x y", line["time"].as_str().expect("a text")), "x");
    }
    assert!(lines[0]["message"].as_str().expect("a text").contains(&*data.to_string_lossy()), "{}", lines[0]);
    assert_eq!(lines[0]["level"], "info");
    assert!(lines.iter().any(|line| line["level"] == "warn" && line["message"].as_str().unwrap().contains("Origin")));
    // Errors at the start too.
    let failed =
        ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--data", "/dev/null"], &[("ORDERCAST_LOG", "json")]);
    let line: serde_json::Value = serde_json::from_str(&failed.stderr).expect("one object");
    assert_eq!((failed.code, &line["level"]), (Some(1), &"error".into()), "{line}");
}

/// The whole log of a server with these variables, from its start over a warning to its end. They get the device and
/// inode of its standard error.
fn log_of(variables: impl Fn(&Metadata) -> [(&'static str, String); 1]) -> Vec<String> {
    let (stderr, reader) = UnixStream::pair().expect("a pair of sockets");
    let file = File::from(OwnedFd::from(stderr.try_clone().expect("a second handle"))).metadata().expect("metadata");
    let mut builder = Server::builder().stderr(stderr);
    for (name, value) in variables(&file) {
        builder = builder.env(name, &value);
    }
    let mut server = builder.start();
    knock(&server);
    server.terminate();
    // With it, the last writing end is closed.
    drop(server);
    BufReader::new(reader).lines().map(|line| line.expect("UTF-8")).collect()
}

#[test]
fn less_important_lines_are_left_out_if_that_is_wanted() {
    for (level, expected) in [("info", &["info", "warn", "info", "info"][..]), ("warn", &["warn"]), ("error", &[])] {
        let lines = log_of(|_| [("ORDERCAST_LOG_LEVEL", level.to_owned())]);
        let levels: Vec<_> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(levels, expected, "{lines:?}");
    }
}

#[test]
fn the_journal_gets_priorities_instead_of_times_and_only_if_it_reads_them() {
    let lines = log_of(|file| [("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()))]);
    assert!(lines[0].starts_with("<6>ordercast ") && lines[1].starts_with("<4>a request was rejected"), "{lines:?}");
    for other in [|file: &Metadata| (file.dev(), file.ino() + 1), |file: &Metadata| (file.dev() + 1, file.ino())] {
        let lines = log_of(|file| [("JOURNAL_STREAM", format!("{}:{}", other(file).0, other(file).1))]);
        text(&lines[0], "info");
        text(&lines[1], "warn");
    }
}

#[test]
fn answers_with_an_error_status_are_summed_up_in_one_line() {
    let mut server = Server::builder().arg("--max-connections-per-ip=1").start();
    let mut client = server.client();
    let order = |client: &mut Client, id: &str, status: u16| {
        client.post(&format!("/orders/{id}"), "{\"amount\":1}").problem(status);
    };
    let hidden =
        client.request("PATCH", "/confectionery/B1", &[("Content-Type", "application/json")], b"{\"hidden\":true}");
    assert_eq!(hidden.status, 200);
    (0..500).for_each(|_| order(&mut client, "Z1", 404));
    // The ledger thread writes this answer.
    (0..3).for_each(|_| order(&mut client, "B1", 410));
    client.request("POST", "/orders/A1", &[("Content-Type", "text/plain")], b"{\"amount\":1}").problem(415);
    assert_eq!(client.get("/orders").status, 200);
    // The accept thread writes this one.
    server.client().reply().problem(503);
    server.signal("TERM");
    server.wait(DEADLINE);
    let lines = lines(&server);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(text(&lines[1], "info"), "refused in the last minute: 404 ×500, 410 ×3, 415 ×1, 503 ×1");
}

/// Tokens and keys in every place where a client or the operator may put one, rightly or by mistake.
#[test]
fn no_token_and_no_key_is_ever_logged() {
    const WRITER: &str = "writer-c0ffee11deadbeef42";
    const READER: &str = "reader-0badcafe99feed7788";
    const WRONG: &str = "wrongs-5eed5eed5eed5eed55";
    const KEY: &str = "keykey-77777777abcdef1234";
    let secrets = [WRITER, READER, WRONG, KEY];
    for format in ["text", "json"] {
        let files = TempDir::new();
        let path = |name: &str, content: &str| files.write(name, content).into_os_string();
        let mut server = Server::builder()
            .arg("--token-file")
            .arg(path("write", &format!("{WRITER}\n")))
            .arg("--read-token-file")
            .arg(path("read", &format!("{READER}\n")))
            .arg(format!("--log={format}"))
            .start();
        for secret in secrets {
            for (name, value) in [
                ("Authorization", format!("Bearer {secret}")),
                ("Authorization", format!("Basic {secret}")),
                ("Authorization", secret.to_owned()),
                ("Cookie", format!("token={secret}")),
                ("Sec-WebSocket-Protocol", format!("bearer, {secret}")),
                ("Idempotency-Key", format!("\"{secret}\"")),
                ("Last-Event-ID", secret.to_owned()),
                ("Referer", format!("http://localhost/?token={secret}")),
                ("X-Token", secret.to_owned()),
                ("Content-Type", secret.to_owned()),
                ("Transfer-Encoding", secret.to_owned()),
                ("Content-Length", secret.to_owned()),
            ] {
                for path in ["/orders/A1".to_owned(), format!("/orders/{secret}"), format!("/orders?since={secret}")] {
                    let body = format!("{{\"amount\":1,\"key\":\"{secret}\",\"{secret}\":1}}");
                    let _ = server.client().try_request("POST", &path, &[(name, &value)], body.as_bytes());
                }
            }
            for path in [format!("/{secret}"), format!("/?token={secret}"), format!("/log?{secret}=1")] {
                let _ =
                    server.client().try_request("GET", &path, &[("Authorization", &format!("Bearer {WRITER}"))], b"");
                let _ = server.client().try_request(secret, &path, &[], b"");
            }
            let mut client = server.client();
            client.write(format!("{secret} {secret} {secret}\r\n{secret}\r\n\r\n"));
            let _ = client.try_reply(true);
        }
        let bearer = format!("Bearer {WRITER}");
        let mut session =
            WebSocket::try_open(server.addr(), "/orders", &[("Authorization", &bearer)]).expect("an upgrade");
        session.texts(3);
        let order = |id: &str| {
            format!("{{\"cmd\":\"add-order\",\"payload\":{{\"id\":\"{id}\",\"amount\":1,\"key\":\"{KEY}\"}}}}")
        };
        for message in [order("A1"), order(WRONG), WRITER.to_owned()] {
            session.send(&message);
            while session.text().contains("\"total\"") {}
        }
        session.send_raw(&frame(TEXT, false, KEY.as_bytes()));
        drop(session);
        // Files that the operator spoils.
        for content in [format!("{WRITER}\n{WRONG} {READER}\n"), "short\n".to_owned(), format!("{WRONG}é\n")] {
            let before = server.log().matches("the tokens stay as they were").count();
            path("write", &content);
            server.signal("HUP");
            wait_until(DEADLINE, "the reload is logged", || {
                server.log().matches("the tokens stay as they were").count() > before
            });
        }
        server.terminate();
        let log = lines(&server).join("\n");
        for secret in secrets {
            assert!(!log.contains(&secret[..10]) && !log.contains(&secret[8..]), "{secret}:\n{log}");
        }
        assert!(log.contains("refused in the last minute: "), "{log}");
    }
}
