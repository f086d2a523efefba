//! Periods: closing one, the reports, and the list.

use crate::common::load::{pipeline_orders, spawn};
use crate::common::periods::{Amounts, all_reports, amounts, close, list, report, sums, try_close};
use crate::common::{Client, DEADLINE, Server, TempDir, order_log, wait_until};
use crate::guarded::{Guarded, READER, WRITER, ask};
use serde_json::Value;
use std::thread;

const CSV: [(&str, &str); 1] = [("Accept", "text/csv")];

fn of(pairs: &[(&str, i64)]) -> Amounts {
    pairs.iter().map(|(id, amount)| ((*id).to_owned(), *amount)).collect()
}

#[test]
fn a_close_answers_what_was_ordered_and_the_next_period_begins_with_nothing() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(amounts(&report(&mut client, "current")), of(&[]), "starting totals belong to no period");
    client.order("A1", 10);
    client.order("B1", -2);
    client.order("A2", 5);
    client.order("A2", -5);
    let current = report(&mut client, "current");
    assert_eq!((&current["number"], current.get("closed")), (&1.into(), None));
    assert_eq!(client.get("/periods/1").json(), current);

    let closed = close(&mut client, 1);
    let (opened, closed_at) = (closed["opened"].as_str().expect("a time"), closed["closed"].as_str().expect("a time"));
    let expected = format!(
        "{{\"number\":1,\"opened\":\"{opened}\",\"closed\":\"{closed_at}\",\"products\":[\
         {{\"category\":\"electronics\",\"id\":\"A1\",\"name\":\"Vacuum Cleaner\",\"hidden\":false,\"amount\":10}},\
         {{\"category\":\"confectionery\",\"id\":\"B1\",\"name\":\"Chocolate Bar\",\"hidden\":false,\"amount\":-2}}]}}"
    );
    let stored = client.get("/periods/1");
    assert_eq!((stored.text(), &stored.json()), (expected.as_str(), &closed));
    assert_eq!(current["products"], closed["products"], "the last report of a period is that of its close");
    for (name, value) in [("content-type", "application/json"), ("cache-control", "no-store"), ("vary", "Accept")] {
        assert_eq!(stored.header(name), Some(value));
    }
    // The times have the form of those in the log.
    let log = order_log::read_whole(server.addr(), &[("A1", 3), ("A2", 7), ("B1", 101)]);
    assert!(opened <= log[0].time.as_str() && log[3].time.as_str() <= closed_at, "{log:?} {closed}");

    client.order("A1", 1);
    assert_eq!(amounts(&report(&mut client, "2")), of(&[("A1", 1)]));
    assert_eq!(client.get("/periods/1").text(), expected, "a closed report never changes");
    assert_eq!(server.totals(), [("A1".into(), 14), ("A2".into(), 7), ("B1".into(), 99)], "nor do totals");
}

#[test]
fn a_repeat_and_a_number_that_is_not_current_are_refused_and_change_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    client.order("A1", 1);
    close(&mut client, 1);
    client.order("A1", 2);
    let before = all_reports(server.addr());
    let detail = try_close(&mut client, 1).expect("an answer").problem(409);
    assert!(detail.contains("period 1 is closed already; period 2"), "{detail}");
    for number in [3, 9_007_199_254_740_991] {
        let detail = try_close(&mut client, number).expect("an answer").problem(409);
        assert!(detail.contains(&format!("no period {number} yet; period 2")), "{detail}");
    }
    assert_eq!(all_reports(server.addr()), before);
    server.restart();
    try_close(&mut server.client(), 1).expect("an answer").problem(409);
    assert_eq!(all_reports(server.addr()), before);
}

#[test]
fn a_body_that_names_no_period_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    for (body, status) in [
        ("{", 400),
        ("{}", 422),
        ("[1]", 422),
        ("1", 422),
        ("{\"number\":0}", 422),
        ("{\"number\":-1}", 422),
        ("{\"number\":1.5}", 422),
        ("{\"number\":\"1\"}", 422),
        ("{\"number\":null}", 422),
        ("{\"number\":1e99}", 422),
    ] {
        let detail = client.post("/periods", body).problem(status);
        assert!(detail.contains("{\"number\":7}"), "{body}: {detail}");
    }
    client.request("POST", "/periods", &[("Content-Type", "text/plain")], b"{\"number\":1}").problem(415);
    client.request("POST", "/periods", &[("Content-Type", "application/json")], b"").problem(411);
    assert_eq!(list(server.addr()).len(), 1);
    assert_eq!(client.post("/periods", "{\"number\":1.0}").status, 200);
}

#[test]
fn a_report_is_csv_for_a_client_that_prefers_it() {
    let server = Server::start();
    let mut client = server.client();
    // A semicolon separates fields where a comma is part of numbers.
    for name in ["=HYPERLINK(\\\"http://x\\\",\\\"a\\\")", "Nut, \\\"salted\\\"", "Ale;@SUM(1)"] {
        let reply = client.post("/confectionery", format!("{{\"name\":\"{name}\"}}"));
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    for id in ["B2", "B3", "B4", "A1"] {
        client.order(id, -4);
    }
    let expected = "category,id,name,hidden,amount\r\nelectronics,A1,Vacuum Cleaner,false,-4\r\n\
        confectionery,B2,\"'=HYPERLINK(\"\"http://x\"\",\"\"a\"\")\",false,-4\r\n\
        confectionery,B3,\"Nut, \"\"salted\"\"\",false,-4\r\nconfectionery,B4,Ale;'@SUM(1),false,-4\r\n";
    let current = client.request("GET", "/periods/current", &CSV, b"");
    assert_eq!((current.status, current.text()), (200, expected));
    assert_eq!(current.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert_eq!((current.header("vary"), current.header("cache-control")), (Some("Accept"), Some("no-store")));
    let headers = [("Accept", "text/csv"), ("Content-Type", "application/json")];
    let closed = client.request("POST", "/periods", &headers, b"{\"number\":1}");
    assert_eq!((closed.status, closed.text()), (200, expected));
    for (accept, is_csv) in [
        ("text/csv", true),
        ("TEXT/CSV;header=present", true),
        ("text/*", true),
        ("application/json;q=0.5, text/csv", true),
        ("text/csv;q=0.2, */*;q=0.1", true),
        ("*/*", false),
        ("text/csv, application/json", false),
        ("text/csv;q=0.9, application/json", false),
        ("text/csv;q=0.5, */*", false),
        ("text/csv;q=0", false),
        ("text/csv;q=x", false),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
        ("image/png", false),
    ] {
        let reply = client.request("GET", "/periods/1", &[("Accept", accept)], b"");
        assert_eq!(reply.text() == expected, is_csv, "{accept}: {reply:?}");
        assert_eq!(reply.header("content-type") == Some("application/json"), !is_csv, "{accept}");
        let head = client.request("HEAD", "/periods/1", &[("Accept", accept)], b"");
        assert_eq!(head.header("content-length"), reply.header("content-length"), "{accept}");
    }
    let empty = client.request("GET", "/periods/2", &CSV, b"");
    assert_eq!(empty.text(), "category,id,name,hidden,amount\r\n");
}

#[test]
fn the_list_comes_in_pages_and_ends_with_the_current_period() {
    let server = Server::start();
    let mut client = server.client();
    for number in 1..=6 {
        close(&mut client, number);
    }
    let mut page = |path: &str| {
        let page = client.get(path);
        assert_eq!((page.status, page.header("content-type")), (200, Some("application/json")), "{page:?}");
        let periods = page.json();
        let numbers = periods.as_array().expect("an array").iter().map(|it| it["number"].as_i64());
        (numbers.collect::<Vec<_>>(), order_log::next_page(&page))
    };
    let numbers = |numbers: std::ops::RangeInclusive<i64>| numbers.map(Some).collect::<Vec<_>>();
    assert_eq!(page("/periods"), (numbers(1..=7), None));
    assert_eq!(page("/periods?limit=3"), (numbers(1..=3), Some("/periods?after=3&limit=3".into())));
    assert_eq!(page("/periods?after=3&limit=3"), (numbers(4..=6), Some("/periods?after=6&limit=3".into())));
    assert_eq!(page("/periods?after=6&limit=3"), (numbers(7..=7), None));
    // The current one is the last, so a page that ends with it has no next one.
    assert_eq!(page("/periods?after=5&limit=2"), (numbers(6..=7), None));
    for path in ["/periods?after=7", "/periods?after=9223372036854775807"] {
        assert_eq!(page(path), (vec![], None));
    }
    let periods = all_reports(server.addr());
    assert_eq!(periods.len(), 7);
    for query in ["after=-1", "after=x", "limit=0", "limit="] {
        let detail = client.get(&format!("/periods?{query}")).problem(400);
        assert!(detail.contains("/periods?after=0"), "{query}: {detail}");
    }
}

#[test]
fn addresses_methods_and_parameters_that_there_are_not_are_refused_in_words() {
    let server = Server::start();
    let mut client = server.client();
    close(&mut client, 1);
    for name in ["0", "3", "9223372036854775807", "9223372036854775808", "-1", "01", "+1", "x", "1/x", "/1", "now"] {
        client.get(&format!("/periods/{name}")).problem(404);
    }
    let detail = client.get("/periods/3").problem(404);
    assert!(detail.contains("no period 3; the current one is 2"), "{detail}");
    for path in ["/periods/1/", "/periods/current/", "/periods/"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    for path in ["/periods/1?x", "/periods/current?after=1", "/periods?number=1"] {
        assert!(client.get(path).problem(400).contains("parameter"), "{path}");
    }
    client.post("/periods?after=1", "{\"number\":2}").problem(400);
    for (method, path, allow) in [
        ("DELETE", "/periods", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/periods/2", "GET, HEAD, OPTIONS"),
        ("PUT", "/periods/current", "GET, HEAD, OPTIONS"),
    ] {
        let reply = client.request(method, path, &[("Content-Type", "application/json")], b"{\"number\":2}");
        reply.problem(405);
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
        assert_eq!(client.request("OPTIONS", path, &[], b"").header("allow"), Some(allow));
    }
    assert_eq!(list(server.addr()).len(), 2);
}

#[test]
fn reports_need_a_token_that_may_read_and_a_close_one_that_may_write() {
    for protects_reading in [false, true] {
        let guarded = Guarded::start(protects_reading);
        let mut client = guarded.server.client();
        for path in ["/periods", "/periods/current", "/periods/1"] {
            let status = if protects_reading { 401 } else { 200 };
            assert_eq!(ask(&mut client, "GET", path, None, "").status, status, "{path}");
            assert_eq!(ask(&mut client, "GET", path, Some(WRITER), "").status, 200, "{path}");
        }
        let body = "{\"number\":1}";
        ask(&mut client, "POST", "/periods", None, body).problem(401);
        ask(&mut client, "POST", "/periods", Some(READER), body).problem(if protects_reading { 403 } else { 401 });
        assert_eq!(ask(&mut client, "POST", "/periods", Some(WRITER), body).status, 200);
    }
}

#[test]
fn products_that_are_added_in_between_and_their_starting_totals_leave_the_sums_exact() {
    let catalog = |products: &str| {
        format!(
            "{{\"tools\":{{\"prefix\":\"T\",\"products\":[{{\"id\":\"T1\",\"name\":\"Saw\",\"total\":40}}{products}]}}}}"
        )
    };
    let data = TempDir::new();
    let start = |products: &str| Server::builder().data(data.path()).catalog(&catalog(products)).start();
    let mut server = start("");
    let mut client = server.client();
    client.order("T1", 5);
    close(&mut client, 1);
    assert_eq!(client.post("/tools", "{\"name\":\"Axe\"}").status, 200);
    client.order("T2", 7);
    close(&mut client, 2);
    // A product of the catalogue file that is new to a folder in use has its first line in the log, which is no order.
    drop(server);
    server = start(",{\"id\":\"T9\",\"name\":\"Awl\",\"total\":100}");
    let mut client = server.client();
    assert_eq!(amounts(&report(&mut client, "current")), of(&[]));
    client.order("T9", -1);
    assert_eq!(amounts(&close(&mut client, 3)), of(&[("T9", -1)]));
    client.order("T9", 11);
    server.restart();
    let reports = all_reports(server.addr());
    let each: Vec<Amounts> = reports.iter().map(amounts).collect();
    assert_eq!(each, [of(&[("T1", 5)]), of(&[("T2", 7)]), of(&[("T9", -1)]), of(&[("T9", 11)])]);
    assert_eq!(server.totals(), [("T1".into(), 45), ("T2".into(), 7), ("T9".into(), 110)]);
}

#[test]
fn reports_outlive_the_orders_that_they_sum() {
    let mut server = Server::builder().arg("--keep-orders").arg("10").start();
    let mut reports: Vec<Value> = Vec::new();
    for number in 1..=3 {
        pipeline_orders(server.addr(), 2, 500);
        reports.push(close(&mut server.client(), number));
    }
    pipeline_orders(server.addr(), 2, 500);
    wait_until(DEADLINE, "the old orders are deleted", || {
        server.client().order("A1", 1);
        order_log::read_from(server.addr(), 0).expect("the log can be read").len() <= 10
    });
    for _ in 0..2 {
        let all = all_reports(server.addr());
        assert_eq!(all[..3], reports);
        assert_eq!(sums(&all), of(&[("A1", server.total("A1") - 3)]));
        server.restart();
    }
}

#[test]
fn the_current_report_has_every_order_that_was_answered_before_it_was_asked_for() {
    let server = Server::start();
    let addr = server.addr();
    thread::scope(|scope| {
        for id in ["A1", "A2", "B1"] {
            spawn(scope, move || {
                let mut client = Client::connect(addr);
                for number in 1..=100 {
                    client.order(id, 1);
                    assert_eq!(amounts(&report(&mut client, "current"))[id], number);
                }
            });
        }
    });
}

#[test]
fn an_order_and_a_report_between_two_closes_are_of_the_period_between_them() {
    let server = Server::start();
    let addr = server.addr();
    thread::scope(|scope| {
        // Readers see one period or the other, never orders of both in one report.
        let readers: Vec<_> = (0..3)
            .map(|_| {
                spawn(scope, move || {
                    let mut client = Client::connect(addr);
                    loop {
                        let reply = client.get("/periods/current");
                        if reply.status == 503 {
                            // Another close came into each of its attempts.
                            reply.problem(503);
                            continue;
                        }
                        let report = reply.json();
                        let number = report["number"].as_i64().expect("a number");
                        let amounts = amounts(&report);
                        assert!(amounts.is_empty() || amounts == of(&[("A1", number)]), "{report}");
                        if number == 60 {
                            return;
                        }
                    }
                })
            })
            .collect();
        let mut client = Client::connect(addr);
        for number in 1..60 {
            client.order("A1", number);
            assert_eq!(amounts(&close(&mut client, number as u64)), of(&[("A1", number)]));
        }
        readers.into_iter().for_each(|reader| reader.join().expect("every report is of one period"));
    });
    assert_eq!(sums(&all_reports(addr)), of(&[("A1", 59 * 60 / 2)]));
}
