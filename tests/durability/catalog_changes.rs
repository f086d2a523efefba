//! Changes of products and categories: kept once they are answered, and not made when they are rejected.

use crate::common::disk::{Call, EIO, ENOSPC, LOG};
use crate::common::{Client, Disk, Fault, Reply, Server};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A change of each kind. The second one hides a product.
const CHANGES: [(&str, &str, &str); 5] = [
    ("PATCH", "/electronics/A1", "{\"name\":\"Vacuum\",\"rrp\":89.99,\"info\":null}"),
    ("PATCH", "/electronics/A2", "{\"hidden\":true}"),
    ("PUT", "/electronics", "{\"title\":\"Devices\"}"),
    ("PUT", "/tools", "{\"title\":\"All Tools\",\"prefix\":\"T\"}"),
    ("POST", "/electronics", "{\"name\":\"Lamp\"}"),
];

#[track_caller]
fn change(client: &mut Client, (method, path, body): (&str, &str, &str)) -> Reply {
    client.request(method, path, &[JSON], body.as_bytes())
}

/// All that a client can read of the catalogue.
#[track_caller]
fn catalog(server: &Server) -> Vec<String> {
    let mut client = server.client();
    let paths = ["/categories?hidden=true", "/electronics?hidden=true", "/confectionery?hidden=true", "/log"];
    paths.map(|path| client.get(path).text().to_owned()).to_vec()
}

/// The number of lines in the history of a server that has ended.
fn lines(server: &Server) -> i64 {
    let file = rusqlite::Connection::open(server.data().join("ordercast.sqlite3")).expect("a data file");
    file.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).expect("a table")
}

#[test]
fn a_change_survives_a_kill_right_after_its_answer() {
    let mut server = Server::start();
    let mut before = catalog(&server);
    for each in CHANGES {
        let status = change(&mut server.client(), each).status;
        assert!(matches!(status, 200 | 201), "{each:?}: {status}");
        server.restart();
        let after = catalog(&server);
        assert_ne!(after, before, "{each:?}");
        before = after;
    }
    let mut client = server.client();
    client.post("/orders/A2", "{\"amount\":1}").problem(410);
    let shown = change(&mut client, ("PATCH", "/electronics/A2", "{\"hidden\":false}"));
    assert_eq!(shown.status, 200);
    client.order("A2", 1);
    server.kill();
    assert_eq!(lines(&server), CHANGES.len() as i64 + 1);
}

/// Whatever fails at whatever step of the commit: the catalogue in memory and the file stay as they were, and the change
/// is made when it is sent again.
#[test]
fn a_change_that_finds_no_room_or_a_failing_disk_is_refused_and_not_made() {
    let Some(disk) = Disk::new() else { return };
    let mut server = disk.builder().start();
    let mut made = 0;
    for each in CHANGES {
        for (fault, status) in [
            (Fault::fails(Call::Write, LOG, ENOSPC), 507),
            (Fault::fails(Call::Write, LOG, ENOSPC).after(2), 507),
            (Fault::fails(Call::Write, LOG, EIO), 503),
            (Fault::fails(Call::Write, LOG, EIO).after(2), 503),
        ] {
            let before = catalog(&server);
            disk.arm(fault);
            let reply = change(&mut server.client(), each);
            reply.problem(status);
            assert!(reply.header("retry-after").is_some() && disk.hits() > 0, "{each:?} {fault:?}: {reply:?}");
            assert_eq!(catalog(&server), before, "{each:?} {fault:?}");
            server.kill();
            disk.lift();
            server.restart();
            assert_eq!(catalog(&server), before, "{each:?} {fault:?} after a kill");
        }
        let status = change(&mut server.client(), each).status;
        assert!(matches!(status, 200 | 201), "{each:?}: {status}");
        made += 1;
    }
    server.kill();
    assert_eq!(lines(&server), made);
}
