//! The access codes of two servers that share an origin, each under its own path, and the code that a screen keeps.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::json;

use crate::board::{state_is, total_is};
use crate::common::{DEADLINE, Server, TempDir};
use crate::token::{ASKS, DOES_NOT_ASK};
use crate::webdriver::{Browser, ENTER};

const READERS: [&str; 2] = ["reader-of-a-0123456", "reader-of-b-0123456"];
const TILL: &str = "till-0123456789012";

/// Forwards requests below `/a/` to the first server, and below `/b/` to the second one, until the process ends.
fn share_an_origin(servers: [SocketAddr; 2]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it has an address");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A browser that goes away in between is no failure of the test.
            thread::spawn(move || drop(forward(client, servers)));
        }
    });
    addr
}

/// Forwards the one request of a connection. A handshake keeps its connection, other requests have it closed.
fn forward(mut client: TcpStream, servers: [SocketAddr; 2]) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut line, mut head) = (String::new(), String::new());
    reader.read_line(&mut line)?;
    let (at, line) = match line.split_once(" /a/") {
        Some((method, rest)) => (0, format!("{method} /{rest}")),
        None => (1, line.replacen(" /b/", " /", 1)),
    };
    loop {
        let mut field = String::new();
        if reader.read_line(&mut field)? <= 2 {
            break;
        }
        head += if field.eq_ignore_ascii_case("connection: keep-alive\r\n") { "Connection: close\r\n" } else { &field };
    }
    let mut server = TcpStream::connect(servers[at])?;
    server.write_all(format!("{line}{head}\r\n").as_bytes())?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let copied = io::copy(&mut answers, &mut back);
        back.shutdown(Shutdown::Both).and(copied)
    });
    let mut bytes = [0; 4096];
    loop {
        let read = reader.read(&mut bytes)?;
        if read == 0 {
            client.flush()?;
            return server.shutdown(Shutdown::Both);
        }
        server.write_all(&bytes[..read])?;
    }
}

#[track_caller]
fn give(browser: &Browser, token: &str, keeps: bool) {
    browser.until(DEADLINE, ASKS);
    if keeps {
        browser.click("#token-keep");
    }
    browser.type_into("#token-input", &format!("{token}{ENTER}"));
    browser.until(DEADLINE, DOES_NOT_ASK);
    browser.until(DEADLINE, &state_is("live"));
}

#[track_caller]
fn expect_on_screen(browser: &Browser, tokens: &[(&str, &str)]) {
    let kept: serde_json::Map<_, _> = tokens.iter().map(|(name, token)| ((*name).to_owned(), json!(token))).collect();
    assert_eq!(browser.run("return { ...localStorage }"), json!(kept));
}

#[test]
fn servers_under_one_origin_do_not_share_the_code_that_a_screen_keeps() {
    let Some(browser) = Browser::start() else { return };
    let files = TempDir::new();
    let tills = files.write("tills", TILL);
    let servers = READERS.map(|reader| {
        let readers = files.write(reader, reader);
        Server::builder().arg("--token-file").arg(&tills).arg("--read-token-file").arg(readers).start()
    });
    let addr = share_an_origin([servers[0].addr(), servers[1].addr()]);
    let (a, b) = (("ordercast-token:/a/", READERS[0]), ("ordercast-token:/b/", READERS[1]));
    browser.open(&format!("http://{addr}/a/#electronics"));
    give(&browser, READERS[0], true);
    expect_on_screen(&browser, &[a]);
    browser.open(&format!("http://{addr}/b/#electronics"));
    browser.until(DEADLINE, ASKS);
    // No code has been sent that could have been rejected.
    assert_eq!(browser.run("return document.querySelector('#token-reason').hidden"), true);
    give(&browser, READERS[1], true);
    expect_on_screen(&browser, &[a, b]);

    // A till's code that is entered beside a code that only reads leaves that one on the screen.
    browser.click("product-item[data-id=A1] >>> .add");
    give(&browser, TILL, false);
    browser.until(DEADLINE, &total_is("A1", 4));
    expect_on_screen(&browser, &[a, b]);
    assert_eq!(browser.run("return sessionStorage.getItem('ordercast-token:/b/')"), TILL);
    browser.click("#token-forget");
    browser.until(DEADLINE, ASKS);
    expect_on_screen(&browser, &[a]);

    // A kept code is removed once it has been rejected and another one is accepted.
    files.write(READERS[0], "reader-of-tomorrow-0");
    browser.open(&format!("http://{addr}/a/#electronics"));
    browser.until(DEADLINE, &state_is("live"));
    servers[0].signal("HUP");
    browser.until(DEADLINE, &format!("dispatchEvent(new Event('online')), {ASKS}"));
    give(&browser, "reader-of-tomorrow-0", false);
    expect_on_screen(&browser, &[]);
}
