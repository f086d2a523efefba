//! The rights of the nodes' role: the statements of docs/scaling.md, which these tests run.

use crate::common::server::ordercast;
use crate::common::{Client, Cluster, DEADLINE, TempDir, wait_until};
use crate::nodes::{migrate, node};
use crate::{connect, later};

/// Makes the role `node` unless it is there, and grants it what the page grants to the role of the nodes. Returns its address.
#[track_caller]
pub fn role(cluster: &Cluster) -> String {
    let _ = cluster.try_sql("CREATE ROLE node LOGIN");
    grant(cluster);
    cluster.url_of("node", "postgres")
}

/// Grants the role `node` what the page grants to the role of the nodes.
#[track_caller]
pub fn grant(cluster: &Cluster) {
    let page = include_str!("../../docs/scaling.md");
    let lines = page.lines().skip_while(|line| !line.starts_with("GRANT USAGE")).take_while(|line| *line != "```");
    let statements = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(statements.matches("TO ordercast;").count(), 5, "{statements}");
    cluster.sql(&statements.replace("TO ordercast;", "TO node;"));
}

#[track_caller]
fn send(client: &mut Client, method: &str, path: &str, body: &str, status: u16) {
    let reply = client.request(method, path, &[("Content-Type", "application/json")], body.as_bytes());
    assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
}

#[test]
fn the_rights_of_the_page_are_enough_for_all_that_a_node_writes() {
    let Some(cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &["--keep-orders", "5"]);
    let mut node = node(&role(&cluster));
    let mut client = node.client();
    let keyed = r#"{"amount":1,"key":"k"}"#;
    send(&mut client, "POST", "/orders/A1", r#"{"amount":1}"#, 200);
    send(&mut client, "POST", "/orders/A1", keyed, 200);
    let orders = r#"[{"id":"A1","amount":1,"key":"l"},{"id":"A2","amount":1}]"#;
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "\"m\"")];
    assert_eq!(client.request("POST", "/orders", &headers, orders.as_bytes()).status, 200);
    send(&mut client, "PATCH", "/electronics/A2", r#"{"hidden":true}"#, 200);
    send(&mut client, "PATCH", "/electronics/A2", r#"{"hidden":false,"rrp":"1"}"#, 200);
    send(&mut client, "PUT", "/garden", r#"{"prefix":"G"}"#, 201);
    send(&mut client, "PUT", "/garden", r#"{"title":"Garden Tools"}"#, 200);
    send(&mut client, "POST", "/garden", r#"{"name":"Rake"}"#, 200);
    send(&mut client, "POST", "/periods", r#"{"number":1}"#, 200);
    // A key that has expired is used again, and then deleted with the others and with old lines and nodes.
    cluster.sql("UPDATE ordercast.keys SET at_ms = 1");
    send(&mut client, "POST", "/orders/A1", keyed, 200);
    cluster.sql("UPDATE ordercast.keys SET at_ms = 1; UPDATE ordercast.nodes SET used_ms = 1");
    for _ in 0..10 {
        client.order("A1", 1);
    }
    let left = "SELECT (SELECT count(*) FROM ordercast.keys), (SELECT count(*) FROM ordercast.orders)";
    wait_until(DEADLINE, "what need not be kept is deleted", || cluster.sql(left) == "0|5");
    node.restart();
    assert_eq!(node.total("A1"), 3 + 14);
    assert_eq!(node.client().get("/periods/1").status, 200);
}

#[test]
fn the_rights_of_the_page_change_neither_tables_nor_what_is_kept() {
    let Some(cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &[]);
    let url = role(&cluster);
    let mut session = connect(&url);
    for sql in [
        "UPDATE ordercast.settings SET keep_orders = 1",
        "UPDATE ordercast.version SET version = 2",
        "DELETE FROM ordercast.periods",
        "UPDATE ordercast.orders SET amount = 1",
        "TRUNCATE ordercast.orders",
        "CREATE TABLE ordercast.mine (n int)",
    ] {
        let error = session.script(sql, later()).unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{sql}: {error}");
    }
    let folder = TempDir::new();
    let done = ordercast(folder.path(), &["migrate", "--store", &url, "--keep-orders", "1"], &[]);
    assert!(done.code == Some(1) && done.stderr.contains("permission denied"), "{done:?}");
}
