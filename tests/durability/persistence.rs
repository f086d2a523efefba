//! Data that outlives the process: totals and products; and the lock of a data folder.

use crate::common::folder::{exported, files};
use crate::common::websocket::close_frame;
use crate::common::{DEADLINE, Server, TempDir, WebSocket, ordercast};

const LAMP: &str = "{\"name\":\"Desk Lamp\",\"rrp\":\"19.99\",\"info\":\"Bends.\"}";

#[test]
fn totals_survive_an_orderly_end_and_a_kill() {
    let mut server = Server::start();
    server.client().order("A1", 10);
    server.client().order("B1", -1_000);
    assert_eq!(server.terminate().code(), Some(0));
    server.restart();
    server.client().order("A1", 10);
    server.kill();
    server.restart();
    let mut subscriber = WebSocket::open(server.addr(), "/orders");
    let expected = ["{\"id\":\"A1\",\"total\":23}", "{\"id\":\"A2\",\"total\":7}", "{\"id\":\"B1\",\"total\":-899}"];
    assert_eq!(subscriber.texts(3), expected);
}

/// After an orderly end there is no WAL beside the data file, whatever has read the file meanwhile.
#[test]
fn an_orderly_end_leaves_one_data_file_whoever_has_read_the_log() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        let mut client = server.client();
        client.order("A1", 10);
        assert_eq!(client.get("/log").status, 200);
        let mut follower = WebSocket::open(server.addr(), "/orders?since=");
        follower.texts(3);
        server.signal(signal);
        assert_eq!(follower.close_code(), Some(1001), "{signal}");
        follower.send_raw(&close_frame(1001));
        assert_eq!(server.wait(DEADLINE).code(), Some(0), "{signal}");
        let names: Vec<String> = files(&server.data()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["ordercast.sqlite3"], "{signal}");
        assert_eq!(exported(&server.data()).len(), 1);
    }
}

#[test]
fn added_products_survive_with_their_totals_and_their_ids_are_not_given_again() {
    let mut server = Server::start();
    let list = server.client().post("/electronics", LAMP).body;
    server.client().order("A3", 4);
    server.restart();
    let mut client = server.client();
    assert_eq!(client.get("/electronics").body, list);
    assert!(client.get("/orders/electronics").text().ends_with("{\"id\":\"A3\",\"total\":4}]"));
    assert_eq!(client.post("/electronics", LAMP).json()[3]["id"], "A4");
}

#[test]
fn an_added_product_survives_a_kill_right_after_its_answer() {
    let mut server = Server::start();
    for count in 3..8 {
        assert_eq!(server.client().post("/electronics", LAMP).status, 200);
        server.restart();
        let list = server.client().get("/electronics").json();
        assert_eq!(list.as_array().expect("an array").len(), count);
    }
}

#[test]
fn a_second_server_on_the_same_folder_is_refused_while_the_first_lives() {
    let folder = TempDir::new();
    let mut first = Server::builder().data(folder.path()).start();
    first.client().order("A1", 1);
    let path = folder.path().display().to_string();
    let second = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--data", &path], &[]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&path), "{second:?}");
    assert!(!second.stdout.contains("listening"), "{second:?}");

    // The first server is not disturbed, and a killed server leaves no lock behind.
    first.client().order("A1", 1);
    first.kill();
    let second = Server::builder().data(folder.path()).start();
    assert_eq!(second.total("A1"), 5);
}

/// A catalogue with one category and these products: id and starting total.
fn catalogue(category: &str, prefix: &str, products: &[(&str, i64)]) -> String {
    let products: Vec<String> = (products.iter())
        .map(|(id, total)| {
            format!("{{\"id\":\"{id}\",\"name\":\"{id}\",\"rrp\":\"1.00\",\"info\":\"\",\"total\":{total}}}")
        })
        .collect();
    let products = products.join(",");
    format!("{{\"{category}\":{{\"prefix\":\"{prefix}\",\"products\":[{products}]}}}}")
}

#[test]
fn a_catalogue_seeds_an_empty_folder_in_place_of_the_built_in_one() {
    let server = Server::builder().catalog(&catalogue("drinks", "D", &[("D1", 5), ("D2", -5)])).start();
    let mut client = server.client();
    assert_eq!(client.categories(), ["drinks"]);
    assert_eq!(client.get("/orders").text(), "[{\"id\":\"D1\",\"total\":5},{\"id\":\"D2\",\"total\":-5}]");
    client.order("D1", 1);
    assert_eq!(client.post("/drinks", LAMP).json()[2]["id"], "D3");
    client.get("/electronics").problem(404);
}

#[test]
fn a_catalogue_adds_what_is_new_and_never_resets_a_total() {
    let folder = TempDir::new();
    let server = Server::builder().data(folder.path()).catalog(&catalogue("drinks", "D", &[("D1", 5)])).start();
    server.client().order("D1", 10);
    assert_eq!(server.client().post("/drinks", LAMP).json()[1]["id"], "D2");
    drop(server);

    let again = catalogue("drinks", "D", &[("D1", 99), ("D7", 7)]);
    let server = Server::builder().data(folder.path()).catalog(&again).start();
    let expected = "[{\"id\":\"D1\",\"total\":15},{\"id\":\"D2\",\"total\":0},{\"id\":\"D7\",\"total\":7}]";
    assert_eq!(server.client().get("/orders/drinks").text(), expected);
    drop(server);

    // Products that the catalogue no longer lists stay, and a new category is added.
    let other = catalogue("sweets", "S", &[("S1", 1)]);
    let server = Server::builder().data(folder.path()).catalog(&other).start();
    let mut client = server.client();
    assert_eq!(client.categories(), ["drinks", "sweets"]);
    assert_eq!(client.get("/orders/drinks").text(), expected);
    assert_eq!(client.get("/orders/sweets").text(), "[{\"id\":\"S1\",\"total\":1}]");
}

#[test]
fn a_category_cannot_have_the_name_of_a_route() {
    let folder = TempDir::new();
    for name in ["orders", "log", "healthz", "readyz", "metrics", "categories", "rates", "periods"] {
        folder.write("catalog.json", catalogue(name, "X", &[("X1", 0)]));
        let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--catalog", "catalog.json"], &[]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains(name) && run.stderr.contains("catalog.json"), "{run:?}");
    }
}

#[test]
fn the_data_folder_is_made_with_its_parents() {
    let folder = TempDir::new();
    let path = folder.path().join("a/b/c");
    let server = Server::builder().data(&path).start();
    server.client().order("A1", 1);
    assert!(path.is_dir());
}

#[test]
fn the_built_in_catalogue_stays_out_of_a_folder_that_has_its_own() {
    let folder = TempDir::new();
    let own = catalogue("drinks", "D", &[("D1", 5)]);
    drop(Server::builder().data(folder.path()).catalog(&own).start());
    let server = Server::builder().data(folder.path()).start();
    let mut client = server.client();
    assert_eq!(client.categories(), ["drinks"]);
    assert_eq!(client.get("/orders").text(), "[{\"id\":\"D1\",\"total\":5}]");
}

#[test]
fn a_catalogue_that_names_something_twice_is_refused_with_its_name() {
    let folder = TempDir::new();
    let twice = |category: &str| format!("\"{category}\":{{\"prefix\":\"D\",\"products\":[]}}");
    for (json, name) in [
        (catalogue("drinks", "D", &[("D1", 5), ("D2", 5), ("D1", 7)]), "D1"),
        (format!("{{{},{}}}", twice("drinks"), twice("drinks")), "drinks"),
    ] {
        folder.write("catalog.json", json);
        let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--catalog", "catalog.json"], &[]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains(&format!("{name:?}")) && run.stderr.contains("catalog.json"), "{run:?}");
        assert!(!run.stdout.contains("listening"), "{run:?}");
    }
}
