//! Flags and environment variables, and the messages for invalid ones.

use crate::common::{Client, DEADLINE, Finished, Server, TempDir, WebSocket, ordercast, wait_until};
use std::net::TcpListener;

/// Runs the binary in an empty folder.
#[track_caller]
fn run(args: &[&str]) -> Finished {
    ordercast(TempDir::new().path(), args, &[])
}

/// Checks that the run failed with one message that contains all of `words`.
#[track_caller]
fn expect_failure(run: &Finished, code: i32, words: &[&str]) {
    assert_eq!(run.code, Some(code), "{run:?}");
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is missing: {run:?}");
    }
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    assert!(!run.stdout.contains("listening"), "{run:?}");
}

#[test]
fn help_names_every_flag_and_the_environment() {
    for flag in ["--help", "-h"] {
        let run = run(&[flag]);
        assert_eq!(run.code, Some(0), "{run:?}");
        for word in [
            "--listen",
            "--data",
            "--catalog",
            "--static-dir",
            "--allow-origin",
            "--allow-host",
            "--max-connections",
            "--version",
            "ORDERCAST_",
            "127.0.0.1:3000",
            "127.0.0.1:5050",
        ] {
            assert!(run.stdout.contains(word), "{word} is missing: {}", run.stdout);
        }
        assert_eq!(run.stderr, "");
    }
    assert_eq!(run(&["serve", "--help"]).code, Some(0));
}

#[test]
fn the_version_is_that_of_the_package() {
    let run = run(&["--version"]);
    assert_eq!(run.code, Some(0));
    assert_eq!(run.stdout.trim(), concat!("ordercast ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_and_version_are_words_too() {
    for (word, flag) in [("help", "--help"), ("version", "--version")] {
        let (word, flag) = (run(&[word]), run(&[flag]));
        assert_eq!((word.code, word.stdout, word.stderr), (Some(0), flag.stdout, flag.stderr));
    }
}

#[test]
fn an_unknown_argument_is_named_with_exit_code_2() {
    expect_failure(&run(&["--frobnicate"]), 2, &["--frobnicate", "--help"]);
    expect_failure(&run(&["frobnicate"]), 2, &["frobnicate", "--help"]);
    expect_failure(&run(&["--listen"]), 2, &["--listen"]);
    expect_failure(&run(&["--listen", "nonsense"]), 2, &["--listen", "nonsense"]);
    expect_failure(&run(&["--listen", "127.0.0.1:99999"]), 2, &["127.0.0.1:99999"]);
    expect_failure(&run(&["--max-connections", "many"]), 2, &["--max-connections", "many"]);
    expect_failure(&run(&["--max-connections", "0"]), 2, &["--max-connections"]);
    expect_failure(&run(&["--allow-origin", "board.example"]), 2, &["--allow-origin", "board.example"]);
    expect_failure(&run(&["--allow-host", "*"]), 2, &["--allow-host"]);
}

#[test]
fn an_empty_data_folder_name_is_refused_and_nothing_is_written() {
    let folder = TempDir::new();
    let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--data", ""], &[]);
    expect_failure(&run, 2, &["--data", "--help"]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn an_invalid_environment_variable_is_named_too() {
    let folder = TempDir::new();
    let run = ordercast(folder.path(), &[], &[("ORDERCAST_LISTEN", "nonsense")]);
    expect_failure(&run, 2, &["ORDERCAST_LISTEN", "nonsense"]);
    let run = ordercast(folder.path(), &[], &[("ORDERCAST_MAX_CONNECTIONS", "many")]);
    expect_failure(&run, 2, &["ORDERCAST_MAX_CONNECTIONS", "many"]);
}

#[test]
fn an_unknown_variable_is_named_with_exit_code_2_and_nothing_is_written() {
    let folder = TempDir::new();
    for (args, name) in [(&[][..], "ORDERCAST_LISTN"), (&["export"], "ORDERCAST_DATE")] {
        let run = ordercast(folder.path(), args, &[(name, "127.0.0.1:0")]);
        expect_failure(&run, 2, &[name, "did you mean"]);
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    // Kubernetes sets these for a service of the same name.
    let server = Server::builder()
        .env("ORDERCAST_PORT", "tcp://10.0.0.7:3000")
        .env("ORDERCAST_PORT_3000_TCP_PROTO", "tcp")
        .env("ORDERCAST_SERVICE_HOST", "10.0.0.7")
        .start();
    server.client().order("A1", 1);
}

#[test]
fn a_port_alone_is_one_of_loopback_and_without_a_host_the_message_says_which_to_name() {
    let server = Server::builder().listen("0").start();
    assert!(server.addr().ip().is_loopback(), "{}", server.addr());
    server.client().order("A1", 1);
    expect_failure(&run(&["--listen", ":4201"]), 2, &["127.0.0.1:4201", "0.0.0.0:4201"]);
}

#[test]
fn every_flag_has_an_environment_twin() {
    let folder = TempDir::new();
    folder.write("index.html", "mine");
    let server = Server::builder()
        .env("ORDERCAST_STATIC_DIR", &folder.path().display().to_string())
        .env("ORDERCAST_ALLOW_ORIGIN", "https://one.example,https://two.example")
        .env("ORDERCAST_ALLOW_HOST", "shop.example,box.lan")
        .env("ORDERCAST_MAX_CONNECTIONS", "2")
        .start();
    let mut client = server.client();
    assert_eq!(client.get("/").text(), "mine");
    for origin in ["https://one.example", "https://two.example"] {
        let reply = client.request("GET", "/categories", &[("Origin", origin)], b"");
        assert_eq!(reply.status, 200, "{origin}");
    }
    for host in ["shop.example", "box.lan"] {
        let reply = client.request("GET", "/categories", &[("Host", host)], b"");
        assert_eq!(reply.status, 200, "{host}");
    }
    let mut feed = WebSocket::open(server.addr(), "/orders/confectionery");
    feed.texts(1);
    server.client().get("/categories").problem(503);
}

#[test]
fn addresses_and_the_data_folder_may_come_from_the_environment_and_a_flag_wins() {
    // The test server has flags for both, which take precedence.
    let elsewhere = TempDir::new();
    let unused = elsewhere.path().join("unused");
    let server = Server::builder()
        .env("ORDERCAST_LISTEN", "127.0.0.1:1")
        .env("ORDERCAST_DATA", &unused.display().to_string())
        .start();
    server.client().order("A1", 1);
    assert!(!unused.exists());
    assert!(server.data().is_dir());

    // Without flags the variables apply: the first port is in use, which the message says.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("an address").to_string();
    let run = ordercast(
        elsewhere.path(),
        &[],
        &[("ORDERCAST_LISTEN", &format!("127.0.0.1:0,{addr}")), ("ORDERCAST_DATA", &unused.display().to_string())],
    );
    expect_failure(&run, 1, &[&addr]);
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("an address").to_string();
    expect_failure(&run(&["--listen", &addr]), 1, &[&addr]);
    expect_failure(&run(&["serve", "--listen", "127.0.0.1:0", "--listen", &addr]), 1, &[&addr]);
}

#[test]
fn a_catalogue_that_cannot_be_read_is_named_and_what_is_wrong_with_it() {
    let folder = TempDir::new();
    let listen = ["--listen", "127.0.0.1:0", "--catalog"];
    let run = |path: &str| ordercast(folder.path(), &[&listen[..], &[path]].concat(), &[]);
    expect_failure(&run("missing.json"), 1, &["missing.json"]);
    for (number, damaged) in
        ["", "{", "[]", "7", "{\"electronics\":7}", "{\"electronics\":{\"prefix\":7}}", "\u{0}"].iter().enumerate()
    {
        let name = format!("damaged-{number}.json");
        folder.write(&name, damaged);
        expect_failure(&run(&name), 1, &[&name]);
    }
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_catalogue_that_breaks_a_rule_leaves_no_data_behind() {
    let folder = TempDir::new();
    for (number, broken) in [
        "{\"orders\":{\"prefix\":\"A\"}}",
        "{\"tools\":{\"prefix\":\"T T\"}}",
        "{\"tools\":{\"prefix\":\"T\",\"products\":[{\"id\":\"T 1\",\"name\":\"Saw\"}]}}",
        "{\"tools\":{\"prefix\":\"T\",\"products\":[{\"id\":\"T1\",\"name\":\" \"}]}}",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("broken-{number}.json");
        folder.write(&name, broken);
        let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--catalog", &name], &[]);
        expect_failure(&run, 1, &[&name]);
        assert!(!folder.path().join("data").exists(), "{broken}");
    }
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let folder = TempDir::new();
    folder.write("file", "not a folder");
    let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--data", "file"], &[]);
    expect_failure(&run, 1, &["file is not a folder"]);

    std::fs::create_dir(folder.path().join("damaged")).expect("a folder can be made");
    let server = Server::builder().data(&folder.path().join("damaged")).start();
    drop(server);
    for entry in std::fs::read_dir(folder.path().join("damaged")).expect("a folder").flatten() {
        std::fs::write(entry.path(), "this is no database, and long enough to be sure of it. ".repeat(200))
            .expect("a file can be written");
    }
    let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--data", "damaged"], &[]);
    expect_failure(&run, 1, &["damaged"]);
}

#[test]
fn without_a_data_flag_the_data_is_in_a_folder_below_the_working_directory() {
    let folder = TempDir::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("an address").to_string();
    // A failed start must not leave an incomplete folder; it may or may not exist.
    ordercast(folder.path(), &["--listen", &addr], &[]);
    let server = Server::builder().data(&folder.path().join("data")).start();
    server.client().order("A1", 1);
    assert!(folder.path().join("data").is_dir());
}

#[test]
fn a_signal_ends_the_server_with_exit_code_0_and_the_data_whole() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        let mut client = server.client();
        client.order("A1", 10);
        let mut subscriber = WebSocket::open(server.addr(), "/orders/electronics");
        subscriber.texts(2);
        server.signal(signal);
        assert_eq!(subscriber.close_code(), Some(1001));
        drop(subscriber);
        assert_eq!(server.wait(DEADLINE).code(), Some(0), "SIG{signal}");
        assert!(Client::try_connect(server.addr()).is_err(), "the server does not listen any more");
        server.restart();
        assert_eq!(server.total("A1"), 13);
    }
}

#[test]
fn a_stopping_server_does_not_wait_for_idle_connections() {
    let mut server = Server::start();
    let mut idle = server.client();
    idle.get("/categories");
    let _silent = server.client();
    let mut half = server.client();
    half.write("GET /categories HTTP/1.1\r\nHost: loc");
    let start = std::time::Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(start.elapsed() < std::time::Duration::from_secs(8), "only after {:?}", start.elapsed());
    assert!(idle.is_closed_within(DEADLINE));
}

#[test]
fn a_stopping_server_still_answers_the_orders_it_has_received() {
    let mut server = Server::start();
    let addr = server.addr();
    let answered = std::sync::atomic::AtomicI64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(addr);
                while client.try_post("/orders/A1", "{\"amount\":1}").is_ok_and(|reply| reply.status == 200) {
                    answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        wait_until(DEADLINE, "orders are answered", || answered.load(std::sync::atomic::Ordering::Relaxed) > 200);
        assert_eq!(server.terminate().code(), Some(0));
    });
    server.restart();
    // After an orderly end every counted order was answered.
    let total = server.total("A1");
    assert_eq!(total, 3 + answered.into_inner());
}

#[test]
fn standard_output_has_the_addresses_and_nothing_else() {
    // A machine may have no IPv6.
    let second = if TcpListener::bind("[::1]:0").is_ok() { "[::1]:0" } else { "127.0.0.1:0" };
    let server = Server::builder().listen("127.0.0.1:0").listen(second).start();
    assert_eq!(server.addrs().len(), 2);
    assert_eq!(server.addrs()[1].is_ipv6(), second.starts_with('['));
    for &addr in server.addrs() {
        assert_eq!(Client::connect(addr).get("/categories").status, 200);
    }
}
