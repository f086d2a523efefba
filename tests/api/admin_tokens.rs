//! Tokens of `--admin-token-file`: who may change products and categories.

use crate::common::{Client, DEADLINE, Reply, Server, TempDir, ordercast, wait_until};
use crate::guarded::{READER, WRITER, WRONG, ask};

const ADMIN: &str = "admin-c07d5a9e83b1f264";
const ORDER: &str = "{\"amount\":1}";

/// A server with a file of administrators, and of writers and readers if they are asked for.
fn start(write: bool, read: bool) -> (Server, TempDir) {
    let files = TempDir::new();
    let mut builder = Server::builder();
    for (flag, token, wanted) in
        [("token-file", WRITER, write), ("read-token-file", READER, read), ("admin-token-file", ADMIN, true)]
    {
        if wanted {
            let path = files.write(flag, format!("{token}\n")).into_os_string();
            builder = builder.arg(format!("--{flag}")).arg(path);
        }
    }
    (builder.start(), files)
}

/// What changes products and categories, each with the status of its success.
const CHANGES: [(&str, &str, &str, u16); 4] = [
    ("POST", "/electronics", "{\"name\":\"Lamp\"}", 200),
    ("PATCH", "/electronics/A1", "{\"rrp\":\"1\"}", 200),
    ("PUT", "/electronics", "{\"title\":\"Devices\"}", 200),
    ("PUT", "/tools", "{\"prefix\":\"T\"}", 201),
];

#[track_caller]
fn expect_denied(reply: &Reply, status: u16, error: &str) {
    reply.problem(status);
    let challenge = reply.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer ") && challenge.contains(error), "{reply:?}");
}

/// The status of an order.
fn order(client: &mut Client, token: Option<&str>) -> u16 {
    ask(client, "POST", "/orders/A1", token, ORDER).status
}

#[test]
fn only_tokens_of_the_admin_file_change_products_and_categories() {
    for (write, read) in [(false, false), (true, false), (true, true)] {
        let (server, _files) = start(write, read);
        let mut client = server.client();
        let list = |client: &mut Client| ask(client, "GET", "/electronics?hidden=true", Some(ADMIN), "").body;
        let before = list(&mut client);
        for (method, path, body, _) in CHANGES {
            expect_denied(&ask(&mut client, method, path, None, body), 401, "Bearer");
            expect_denied(&ask(&mut client, method, path, Some(WRONG), body), 401, "invalid_token");
            for (token, is_known) in [(WRITER, write), (READER, read)] {
                let reply = ask(&mut client, method, path, Some(token), body);
                match is_known {
                    true => {
                        expect_denied(&reply, 403, "insufficient_scope");
                        assert!(reply.problem(403).contains("--admin-token-file"), "{reply:?}");
                    }
                    false => expect_denied(&reply, 401, "invalid_token"),
                }
            }
        }
        assert_eq!(list(&mut client), before);
        for (method, path, body, status) in CHANGES {
            let reply = ask(&mut client, method, path, Some(ADMIN), body);
            assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        }
        assert_ne!(list(&mut client), before);
    }
}

#[test]
fn a_token_of_the_admin_file_orders_and_reads_too_and_others_keep_what_they_may() {
    let (server, _files) = start(true, true);
    let mut client = server.client();
    for (token, orders, reads) in
        [(Some(ADMIN), 200, 200), (Some(WRITER), 200, 200), (Some(READER), 403, 200), (None, 401, 401)]
    {
        assert_eq!((order(&mut client, token), ask(&mut client, "GET", "/log", token, "").status), (orders, reads));
    }
    // Without a file for orders everybody may order and read; a token that is not known is rejected all the same.
    let (server, _files) = start(false, false);
    let mut client = server.client();
    for (token, status) in [(None, 200), (Some(ADMIN), 200), (Some(WRONG), 401)] {
        assert_eq!((order(&mut client, token), ask(&mut client, "GET", "/orders", token, "").status), (status, status));
    }
}

#[test]
fn the_admin_file_is_read_again_on_sighup() {
    const NEW: &str = "newcomer-5d1e7b3c90fa2846";
    let (server, files) = start(false, false);
    let mut client = server.client();
    let mut change = |token| ask(&mut client, "PATCH", "/electronics/A1", Some(token), "{\"rrp\":\"2\"}").status;
    let reload = |content: &str, said: &str| {
        let before = server.log().matches(said).count();
        files.write("admin-token-file", content);
        server.signal("HUP");
        wait_until(DEADLINE, said, || server.log().matches(said).count() > before);
    };
    assert_eq!((change(ADMIN), change(NEW)), (200, 401));
    reload(NEW, "have been read again");
    assert_eq!((change(ADMIN), change(NEW)), (401, 200));
    reload("short", "the tokens stay as they were");
    assert_eq!((change(ADMIN), change(NEW)), (401, 200));
    assert!(!server.log().contains(&NEW[..10]) && !server.log().contains(&ADMIN[..10]), "{}", server.log());
}

#[test]
fn the_flag_has_a_variable_and_a_file_that_cannot_be_used_ends_the_start() {
    let files = TempDir::new();
    let path = files.write("admins", ADMIN);
    let server = Server::builder().env("ORDERCAST_ADMIN_TOKEN_FILE", path.to_str().expect("a path")).start();
    assert_eq!(ask(&mut server.client(), "PUT", "/tools", None, "{\"prefix\":\"T\"}").status, 401);
    let broken = files.write("broken", format!("{ADMIN} and more\n"));
    let args = ["--listen", "127.0.0.1:0", "--admin-token-file", broken.to_str().expect("a path")];
    let run = ordercast(files.path(), &args, &[]);
    assert!(run.code == Some(1) && run.stderr.contains("token file"), "{run:?}");
    assert!(!run.stderr.contains(ADMIN), "{run:?}");
}
