//! `ordercast report`: orders and sums per product of each period, day or hour, in three forms.

use crate::common::folder::fill;
use crate::common::{Finished, Server, TempDir, ordercast, periods};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A file of the first schema with 300 orders, one a second from 2023-11-14T22:13:21Z on: every third is -1 of Y1, the
/// others are 3 of T1.
const SCHEMA_1: &[u8] = include_bytes!("schema-1.sqlite3");

fn report(data: &Path, args: &[&str]) -> Finished {
    ordercast(data, &[&["report", "--data", "."], args].concat(), &[])
}

#[track_caller]
fn expect_report(data: &Path, args: &[&str]) -> String {
    let run = report(data, args);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    run.stdout
}

#[track_caller]
fn parsed(data: &Path, args: &[&str]) -> Value {
    let text = expect_report(data, &[args, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn old_folder() -> TempDir {
    let folder = TempDir::new();
    fs::write(folder.path().join("ordercast.sqlite3"), SCHEMA_1).expect("a file");
    folder
}

#[test]
fn a_table_is_aligned_and_its_days_begin_at_midnight_of_the_offset() {
    let folder = old_folder();
    // Midnight there is 22:16 in UTC, when order 160 was taken.
    let table = expect_report(folder.path(), &["--by", "day", "--utc-offset", "+01:44"]);
    let expected = "Orders by day, times in UTC+01:44

2023-11-14
  category  product  name  orders  sum
  tools     T1       Saw      106  318
  toys      Y1       Ball      53  -53
  all                         159  265

2023-11-15
  category  product  name  orders  sum
  tools     T1       Saw       94  282
  toys      Y1       Ball      47  -47
  all                         141  235
";
    assert_eq!(table, expected);
    // Without an offset both are one day in UTC, which is the default.
    assert!(expect_report(folder.path(), &[]).contains("\n2023-11-14\n"));
    assert_eq!(expect_report(folder.path(), &[]), expect_report(folder.path(), &["--by=day", "--utc-offset=Z"]));
}

#[test]
fn csv_and_json_have_the_same_numbers() {
    let folder = old_folder();
    let csv = expect_report(folder.path(), &["--by", "hour", "--utc-offset", "+01:44", "--csv"]);
    let expected = "hour,category,id,name,hidden,orders,amount\r
2023-11-14T23:00:00+01:44,tools,T1,Saw,false,106,318\r
2023-11-14T23:00:00+01:44,toys,Y1,Ball,false,53,-53\r
2023-11-15T00:00:00+01:44,tools,T1,Saw,false,94,282\r
2023-11-15T00:00:00+01:44,toys,Y1,Ball,false,47,-47\r
";
    assert_eq!(csv, expected);
    let day = parsed(folder.path(), &["--utc-offset", "-22:15"]);
    let line = |[category, id, name]: [&str; 3], orders: i64, amount: i64| {
        json!({
            "category": category, "id": id, "name": name, "hidden": false, "orders": orders, "amount": amount,
        })
    };
    let saw = |orders, amount| line(["tools", "T1", "Saw"], orders, amount);
    let ball = |orders, amount| line(["toys", "Y1", "Ball"], orders, amount);
    // Midnight there is 22:15 in UTC, when order 100 was taken.
    let expected = json!({
        "by": "day",
        "utc_offset": "-22:15",
        "log_begins": {"seq": 1, "time": "2023-11-13T23:58:21-22:15"},
        "parts": [
            {"day": "2023-11-13", "products": [saw(66, 198), ball(33, -33)]},
            {"day": "2023-11-14", "products": [saw(134, 402), ball(67, -67)]},
        ],
    });
    assert_eq!(day, expected);
    // A file of an older version has one period, which begins with its log.
    let period = parsed(folder.path(), &["--by", "period"]);
    assert_eq!(period["parts"].as_array().map(Vec::len), Some(1));
    assert_eq!(period["parts"][0]["number"], 1);
    assert_eq!(period["parts"][0]["products"], json!([saw(200, 600), ball(100, -100)]));
}

/// The sum of a member over all products of all parts.
fn sum(report: &Value, member: &str) -> i64 {
    let parts = report["parts"].as_array().expect("an array").iter();
    let products = parts.flat_map(|part| part["products"].as_array().expect("an array"));
    products.map(|product| product[member].as_i64().expect("a number")).sum()
}

#[test]
fn periods_days_and_hours_are_reported_while_a_server_runs() {
    let server = Server::start();
    let mut client = server.client();
    fill(&server, 30);
    periods::close(&mut client, 1);
    client.order("A1", 5);
    client.order("A1", -5);
    client.order("B1", 7);
    let hide =
        client.request("PATCH", "/confectionery/B1", &[("Content-Type", "application/json")], b"{\"hidden\":true}");
    assert_eq!(hide.status, 200, "{hide:?}");
    let report = parsed(&server.data(), &["--by", "period"]);
    let parts = report["parts"].as_array().expect("parts");
    assert_eq!(parts.len(), 2, "{report}");
    for (part, told) in parts.iter().zip(["1", "current"].map(|period| periods::report(&mut client, period))) {
        assert_eq!(part["number"], told["number"]);
        assert_eq!(part["opened"].as_str().map(|time| &time[..19]), told["opened"].as_str().map(|time| &time[..19]));
        assert_eq!(part["closed"].is_null(), told["closed"].is_null());
        for product in told["products"].as_array().expect("products") {
            let own = part["products"].as_array().expect("products").iter().find(|own| own["id"] == product["id"]);
            let own = own.unwrap_or_else(|| panic!("{product} is missing: {part}"));
            assert_eq!((&own["amount"], &own["hidden"]), (&product["amount"], &product["hidden"]));
        }
    }
    let ids = |part: &Value| {
        part["products"].as_array().expect("products").iter().map(|it| it["id"].clone()).collect::<Vec<_>>()
    };
    // What was taken back is counted, although its sum is zero.
    assert_eq!(ids(&parts[1]), ["A1", "B1"]);
    assert_eq!((&parts[1]["products"][0]["orders"], &parts[1]["products"][0]["amount"]), (&json!(2), &json!(0)));
    assert_eq!(parts[1]["products"][1]["hidden"], true);
    for by in ["day", "hour"] {
        let report = parsed(&server.data(), &["--by", by]);
        // Starting totals are no orders: A1 begins with 3.
        assert_eq!((sum(&report, "orders"), sum(&report, "amount")), (33, 37), "{report}");
    }
    let table = expect_report(&server.data(), &["--by=period"]);
    assert!(table.contains("\nPeriod 2, ") && table.contains(" until now\n") && table.contains("(hidden)"), "{table}");
}

#[test]
fn a_trimmed_log_keeps_the_sums_of_its_periods_and_says_where_it_begins() {
    let mut server = Server::builder().arg("--keep-orders").arg("100").start();
    fill(&server, 2_000);
    periods::close(&mut server.client(), 1);
    fill_more(&server, 3_000);
    let log = server.client().get("/log?limit=1").json();
    let first = log["seq"].as_u64().expect("a number");
    assert!(first > 2_000, "the log begins with {first}");
    for serving in [true, false] {
        if !serving {
            server.terminate();
        }
        let run = report(&server.data(), &["--by", "period", "--json"]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stderr.contains(&format!("the log begins with order {first} of ")), "{run:?}");
        let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!(sum(&report, "amount"), 5_000);
        assert!(report["parts"][0]["products"][0]["orders"].is_null(), "{report}");
        let run = self::report(&server.data(), &["--csv"]);
        let lines = run.stdout.lines().skip(1);
        let orders: u64 =
            lines.map(|line| line.split(',').nth(5).and_then(|it| it.parse::<u64>().ok()).expect("a number")).sum();
        assert_eq!(orders, 5_001 - first, "{run:?}");
        assert!(run.stderr.contains("is not in this report"), "{run:?}");
    }
}

/// Orders without keys, in batches.
#[track_caller]
fn fill_more(server: &Server, count: usize) {
    let batch = format!("[{}]", vec![r#"{"id":"A2","amount":1}"#; 500].join(","));
    for _ in 0..count / 500 {
        assert_eq!(server.client().post("/orders", &batch).status, 200);
    }
}

#[test]
fn an_empty_log_and_a_missing_folder_are_said() {
    let mut server = Server::start();
    server.terminate();
    let table = expect_report(&server.data(), &[]);
    assert!(table.ends_with("\nThe log has no orders.\n"), "{table}");
    assert_eq!(expect_report(&server.data(), &["--csv"]), "day,category,id,name,hidden,orders,amount\r\n");
    let empty = parsed(&server.data(), &[]);
    assert_eq!((&empty["log_begins"], &empty["parts"]), (&Value::Null, &json!([])));
    let periods = parsed(&server.data(), &["--by", "period"]);
    assert_eq!(periods["parts"][0]["products"], json!([]));
    let missing = report(TempDir::new().path(), &[]);
    assert!(missing.code == Some(1) && missing.stderr.contains("--data"), "{missing:?}");
}

#[test]
fn a_wrong_offset_or_part_is_named_with_exit_code_2() {
    let folder = TempDir::new();
    for (args, words) in [
        (&["--utc-offset", "2"][..], "--utc-offset 2: must be hours and minutes from UTC, such as +02:00"),
        (&["--utc-offset=+24:00"], "--utc-offset +24:00"),
        (&["--by", "week"], "must be period, day or hour"),
        (&["--csv", "--json"], "--csv and --json exclude each other"),
    ] {
        let run = report(folder.path(), args);
        assert!(run.code == Some(2) && run.stderr.contains(words), "{run:?}");
    }
    // The environment has twins.
    let old = old_folder();
    let run =
        ordercast(old.path(), &["report", "--data=."], &[("ORDERCAST_UTC_OFFSET", "+01:44"), ("ORDERCAST_CSV", "1")]);
    assert!(run.stdout.contains("\n2023-11-15,tools,T1,Saw,false,94,282\r\n"), "{run:?}");
}
