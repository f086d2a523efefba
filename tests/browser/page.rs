//! The client module on pages of other origins: examples/page, a page that resumes, and a worker.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::common::{DEADLINE, Server};
use crate::webdriver::Browser;

/// The longest wait between two attempts of the module, and time for the attempt.
const RECONNECT: Duration = Duration::from_secs(30);

/// A web server with examples/page, as `python3 -m http.server` serves it, but with the address of the server under test.
struct PageServer {
    addr: SocketAddr,
    server: Arc<Mutex<String>>,
}

impl PageServer {
    fn start() -> PageServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it has an address");
        let server = Arc::new(Mutex::new(String::new()));
        let named = Arc::clone(&server);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let named = named.lock().expect("no thread panicked").clone();
                // A browser that goes away in between is no failure of the test.
                thread::spawn(move || drop(answer(client, &named)));
            }
        });
        PageServer { addr, server }
    }

    /// The server that the pages name from now on. Returns the address of the page.
    fn with(&self, server: &Server) -> String {
        *self.server.lock().expect("no thread panicked") = local(server.addr());
        format!("http://{}/", local(self.addr))
    }
}

/// The address under the name `localhost`.
fn local(addr: SocketAddr) -> String {
    format!("localhost:{}", addr.port())
}

fn answer(client: TcpStream, server: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    for _ in lines.take_while(|line| !line.is_empty()) {}
    let (name, media_type) = match first.split(' ').nth(1) {
        Some("/") => ("index.html", "text/html"),
        _ => ("page.js", "text/javascript"),
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/page").join(name);
    let text = fs::read_to_string(file)?.replace("localhost:3000", server);
    let length = text.len();
    write!(&client, "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{text}")
}

fn total_is(id: &str, total: i64) -> String {
    format!("document.querySelector('[data-total={id}]')?.textContent === '{total}'")
}

fn says(id: &str, text: &str) -> String {
    format!("document.querySelector('#{id}').textContent === '{text}'")
}

/// Nothing but what a lost connection makes Chromium say.
#[track_caller]
fn expect_no_error(browser: &Browser) {
    let errors: Vec<_> = browser.console().into_iter().filter(|it| !it.contains("net::ERR_CONNECTION_")).collect();
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn the_example_page_shows_totals_and_its_orders_outlive_the_server_and_the_page() {
    let Some(browser) = Browser::start() else { return };
    let (pages, mut server) = (PageServer::start(), Server::start());
    let page = pages.with(&server);
    browser.open(&page);
    browser.until(DEADLINE, &says("state", "live"));
    browser.until(DEADLINE, &total_is("A1", 3));
    browser.click("[data-order=A1]");
    browser.until(DEADLINE, &total_is("A1", 4));
    server.client().order("A2", 10);
    browser.until(DEADLINE, &total_is("A2", 17));

    server.kill();
    browser.until(DEADLINE, &says("state", "lost"));
    browser.click("[data-order=A1]");
    browser.click("[data-order=A2]");
    browser.until(DEADLINE, &says("waiting", "Not answered yet: 2."));
    server.restart_on_the_same_ports();
    browser.until(RECONNECT, &says("waiting", ""));
    browser.until(RECONNECT, &total_is("A1", 5));
    browser.until(DEADLINE, &total_is("A2", 18));
    browser.until(DEADLINE, &says("problem", ""));

    // A page that is closed and opened again sends what was left.
    server.kill();
    browser.until(DEADLINE, &says("state", "lost"));
    browser.click("[data-order=A1]");
    browser.until(DEADLINE, &says("waiting", "Not answered yet: 1."));
    browser.open("about:blank");
    server.restart_on_the_same_ports();
    browser.open(&page);
    browser.until(RECONNECT, &says("waiting", ""));
    browser.until(DEADLINE, &total_is("A1", 6));
    assert_eq!(server.totals(), [("A1", 6), ("A2", 18), ("B1", 101)].map(|(id, it)| (id.to_owned(), it)));

    // A product that is added or rejected.
    server.client().post("/electronics", "{\"name\":\"Kettle\"}");
    browser.until(DEADLINE, &total_is("A3", 0));
    let hide = [("Content-Type", "application/json")];
    server.client().request("PATCH", "/electronics/A3", &hide, b"{\"hidden\":true}");
    browser.until(DEADLINE, "document.querySelector('[data-total=A3]') === null");
    expect_no_error(&browser);
}

#[test]
fn a_feed_that_resumes_delivers_every_total_once_and_in_order() {
    let Some(browser) = Browser::start() else { return };
    let (pages, mut server) = (PageServer::start(), Server::start());
    browser.open(&pages.with(&server));
    let follow = "
        return import(arguments[0]).then(({ Ordercast, ALL }) => {
          window.seen = [];
          window.all = [];
          window.states = [];
          const shop = new Ordercast();
          window.feed = shop.feed({
            resumes: true,
            onTotal: (id, total) => seen.push(`${id} ${total}`),
            onState: (state) => states.push(state),
          });
          feed.watch('electronics');
          window.other = shop.feed({ onTotal: (id, total) => all.push(`${id} ${total}`) });
          other.watch(ALL);
        });";
    browser.run_with(follow, &json!([format!("http://{}/ordercast.js", local(server.addr()))]));
    browser.until(DEADLINE, "seen.join() === 'A1 3,A2 7' && all.join() === 'A1 3,A2 7,B1 101'");
    let mut client = server.client();
    client.order("A1", 1);
    client.order("B1", 1);
    browser.until(DEADLINE, "seen.join() === 'A1 3,A2 7,A1 4' && all.at(-1) === 'B1 102'");
    server.restart_on_the_same_ports();
    let mut client = server.client();
    for id in ["A1", "A2", "A1", "B1", "A1"] {
        client.order(id, 1);
    }
    browser.until(RECONNECT, "seen.join() === 'A1 3,A2 7,A1 4,A1 5,A2 8,A1 6,A1 7'");
    browser.until(RECONNECT, "states.join() === 'connecting,live,lost,live'");
    // From a stored position to another page, and from one category to another.
    browser.run("window.position = feed.position; feed.watch(''); seen.length = 0;");
    client.order("A2", 1);
    browser.run("feed.watch('electronics', position)");
    browser.until(DEADLINE, "seen.join() === 'A2 9'");
    browser.run("feed.watch('confectionery')");
    browser.until(DEADLINE, "seen.join() === 'A2 9,B1 103' && states.at(-1) === 'live'");
    browser.run("feed.watch('nothing')");
    browser.until(DEADLINE, "states.at(-1) === 'idle'");
    // A feed that is closed stays closed.
    browser.run("other.close(); all.length = 0;");
    client.order("B1", 1);
    browser.run("feed.watch('confectionery')");
    browser.until(DEADLINE, "seen.at(-1) === 'B1 104'");
    assert_eq!(browser.run("return all"), json!([]));
}

#[test]
fn a_worker_follows_and_orders_without_a_document() {
    let Some(browser) = Browser::start() else { return };
    let (pages, server) = (PageServer::start(), Server::start());
    browser.open(&pages.with(&server));
    let work = "
        const code = `
          import { Ordercast } from '${arguments[0]}';
          const shop = new Ordercast();
          const outbox = shop.outbox({ onState: ({ id }, state) => postMessage(id + ' ' + state) });
          outbox.resume();
          shop.feed({ onTotal: (id, total) => postMessage(id + ' ' + total) }).watch('electronics');
          onmessage = ({ data }) => outbox.add({ id: data, amount: 2 });`;
        window.said = [];
        window.worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })), { type: 'module' });
        worker.onmessage = ({ data }) => said.push(data);";
    browser.run_with(work, &json!([format!("http://{}/ordercast.js", local(server.addr()))]));
    browser.until(DEADLINE, "said.join() === 'A1 3,A2 7'");
    browser.run("worker.postMessage('A1')");
    browser.until(DEADLINE, "said.includes('A1 sending') && said.includes('A1 sent') && said.includes('A1 5')");
    assert_eq!(server.total("A1"), 5);
    expect_no_error(&browser);
}

#[test]
fn a_page_of_another_host_imports_the_module_only_where_its_origin_is_allowed() {
    let Some(browser) = Browser::with_flags(&["--host-resolver-rules=MAP shop.example 127.0.0.1"]) else { return };
    let pages = PageServer::start();
    let origin = format!("http://shop.example:{}", pages.addr.port());
    let server = Server::start();
    pages.with(&server);
    browser.open(&origin);
    let import = "return import(arguments[0]).then(() => 'imported', () => 'rejected')";
    let module = |server: &Server| json!([format!("http://{}/ordercast.js", local(server.addr()))]);
    assert_eq!(browser.run_with(import, &module(&server)), "rejected");
    let server = Server::builder().arg(format!("--allow-origin={origin}")).start();
    pages.with(&server);
    browser.open(&origin);
    assert_eq!(browser.run_with(import, &module(&server)), "imported");
    browser.until(DEADLINE, &total_is("A1", 3));
    browser.click("[data-order=A1]");
    browser.until(DEADLINE, &total_is("A1", 4));
}
