//! A headless Chromium, driven through chromedriver (W3C WebDriver: JSON over plain HTTP). Dropping it ends it and
//! removes its profile.
//!
//! This module does not know the board: selectors and expectations are in the tests.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Client, skip};

/// The names of the browser's command in different distributions.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// `--no-sandbox` because root in a container may have no user namespaces for the sandbox; with the other flags
/// Chromium connects only to the server under test.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Generous, because a cold start on a busy machine is slow.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// The pause between two checks of a condition in the page.
const POLL: Duration = Duration::from_millis(10);

/// The keys of the references to an element and to a shadow root in WebDriver's JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const SHADOW: &str = "shadow-6066-11e4-a52e-4f735466cecf";

/// Keys by their WebDriver names (section 17.4.2).
pub const ENTER: &str = "\u{E007}";
pub const ESCAPE: &str = "\u{E00C}";

/// The variable that names the folder for pictures; without it none are taken.
const PICTURES: &str = "ORDERCAST_SCREENSHOTS";

/// Browsers that run at a time: much of what they do is to wait, and more would miss the tests' deadlines on a small
/// machine.
const AT_A_TIME: usize = 2;

/// A place among the browsers that may run; dropping it frees the place.
#[derive(Debug)]
struct Turn;

static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Turn {
    fn wait() -> Turn {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |running: &mut usize| *running >= AT_A_TIME;
        let mut running = FREED.wait_while(running, is_full).unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// A browser with one session and at least one window.
pub struct Browser {
    driver: Child,
    addr: SocketAddr,
    session: String,
    browser: Option<u64>,
    /// The browser's profile and temporary files.
    folder: PathBuf,
    _turn: Turn,
}

impl Browser {
    /// Starts a browser. `None` without one, after a message; where `CI` is `true` that is a failure.
    #[track_caller]
    pub fn start() -> Option<Browser> {
        Browser::with_flags(&[])
    }

    #[track_caller]
    pub fn with_flags(flags: &[&str]) -> Option<Browser> {
        let found = BROWSERS.iter().find_map(|name| in_path(name));
        let (Some(binary), Some(driver)) = (found, in_path("chromedriver")) else {
            skip("chromium and chromedriver are not installed (make deps)", true);
            return None;
        };
        let turn = Turn::wait();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // The number has a fixed length, so that no name begins with another one: see `is_ours`.
        let folder = env::temp_dir().join(format!("ordercast-browser-{}-{number:04}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a temporary folder can be made");
        let start = || {
            let mut driver = Command::new(&driver)
                .arg("--port=0")
                .env("HOME", &folder)
                .env("TMPDIR", &folder)
                .current_dir(&folder)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("chromedriver can be started");
            let addr = address_of(&mut driver);
            if addr.is_none() {
                let _ = driver.wait();
            }
            addr.map(|addr| (driver, addr))
        };
        // It ends when another process takes the port that it has chosen.
        let (driver, addr) = (0..5).find_map(|_| start()).expect("chromedriver prints its port");
        let mut browser = Browser { driver, addr, session: String::new(), browser: None, folder, _turn: turn };
        browser.open_session(&binary, flags);
        Some(browser)
    }

    fn open_session(&mut self, binary: &PathBuf, flags: &[&str]) {
        let data = self.folder.join("profile");
        let mut args: Vec<String> = FLAGS.iter().chain(flags).map(|&f| f.to_owned()).collect();
        args.push(format!("--user-data-dir={}", data.display()));
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "binary": binary, "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let answer = self.send("POST", "/session", &capabilities);
        let session = answer["sessionId"].as_str().expect("a session has a name");
        self.session = format!("/session/{session}");
        self.browser = answer["capabilities"]["goog:processID"].as_u64();
    }

    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a function body in the page; a promise that it returns is awaited.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.run_with(script, &json!([]))
    }

    /// Like [`Browser::run`], with `arguments`.
    #[track_caller]
    pub fn run_with(&self, script: &str, args: &Value) -> Value {
        let script = json!({ "script": script, "args": args });
        self.post("/execute/sync", &script)
    }

    /// Waits until an expression in the page is true, and returns how long it took.
    #[track_caller]
    pub fn until(&self, deadline: Duration, expression: &str) -> Duration {
        let start = Instant::now();
        let script = format!("return Boolean({expression})");
        while self.run(&script) != Value::Bool(true) {
            if start.elapsed() > deadline {
                let page = self.run("return document.body?.innerText");
                panic!("not within {deadline:?}: `{expression}`; the page's text:\n{page}");
            }
            thread::sleep(POLL);
        }
        start.elapsed()
    }

    /// Clicks an element; a hidden or covered one is an error.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types into an element.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// The element of a selector; the part after `>>>` is searched in the shadow root of the part before it.
    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let mut parts = selector.split(" >>> ");
        let mut found = self.find("", parts.next().unwrap_or_default());
        for part in parts {
            let shadow = self.send("GET", &self.path(&format!("/element/{found}/shadow")), &Value::Null);
            let shadow = shadow[SHADOW].as_str().expect("a shadow root");
            found = self.find(&format!("/shadow/{shadow}"), part);
        }
        found
    }

    #[track_caller]
    fn find(&self, under: &str, selector: &str) -> String {
        let query = json!({ "using": "css selector", "value": selector });
        let answer = self.post(&format!("{under}/element"), &query);
        answer[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// Opens another window and returns its handle.
    #[track_caller]
    pub fn new_window(&self) -> String {
        let answer = self.post("/window/new", &json!({ "type": "window" }));
        answer["handle"].as_str().expect("a handle").to_owned()
    }

    #[track_caller]
    pub fn window(&self) -> String {
        let answer = self.send("GET", &self.path("/window"), &Value::Null);
        answer.as_str().expect("a handle").to_owned()
    }

    #[track_caller]
    pub fn switch_to(&self, window: &str) {
        self.post("/window", &json!({ "handle": window }));
    }

    /// Emulates a screen of that size in CSS pixels, with `scale` device pixels to each, in light or dark mode.
    #[track_caller]
    pub fn look(&self, width: u32, height: u32, scale: u32, scheme: &str) {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &screen);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// The bytes of the page's heap that are in use after a garbage collection.
    #[track_caller]
    pub fn heap(&self) -> u64 {
        self.devtools("HeapProfiler.collectGarbage", &json!({}));
        self.devtools("Runtime.getHeapUsage", &json!({}))["usedSize"].as_f64().expect("a number of bytes") as u64
    }

    /// Emulates a medium, `print` or `screen`, on a window of that width in CSS pixels.
    #[track_caller]
    pub fn emulate(&self, media: &str, width: u32) {
        let screen = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &screen);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "media": media }));
    }

    /// The page as a PDF, printed on paper of that size in millimetres.
    #[track_caller]
    pub fn print(&self, width: f64, height: f64) -> Vec<u8> {
        let paper = json!({ "paperWidth": width / 25.4, "paperHeight": height / 25.4 });
        let answer = self.devtools("Page.printToPDF", &paper);
        from_base64(answer["data"].as_str().expect("a PDF"))
    }

    /// Runs a command of the Chrome DevTools Protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, params: &Value) -> Value {
        let command = json!({ "cmd": command, "params": params });
        self.post("/goog/cdp/execute", &command)
    }

    /// A screenshot of the window as a PNG.
    #[track_caller]
    pub fn screenshot(&self) -> Vec<u8> {
        let answer = self.send("GET", &self.path("/screenshot"), &Value::Null);
        from_base64(answer.as_str().expect("a picture"))
    }

    /// Writes a picture of the window into the folder for pictures, if there is one.
    #[track_caller]
    pub fn picture(&self, name: &str) {
        if env::var_os(PICTURES).is_some() {
            save(&format!("{name}.png"), &self.screenshot());
        }
    }

    /// Waits until the page has drawn two frames, and so has laid out what was changed before.
    #[track_caller]
    pub fn draw(&self) {
        self.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(null))))");
    }

    /// The console messages of the page and the browser since the last call.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        let answer = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = answer.as_array().into_iter().flatten();
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.session)
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", &self.path(path), body)
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut client = Client::connect(self.addr);
        let deadline = client.stream().set_read_timeout(Some(COMMAND_DEADLINE));
        deadline.expect("a deadline can be set");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("Content-Type", "application/json")];
        let reply = client.request(method, path, &headers, body.as_bytes());
        let value = reply.json()["value"].clone();
        assert_eq!(reply.status, 200, "{method} {path} {body}: {}", value["message"]);
        value
    }

    /// Whether the process with this id is the browser that chromedriver started, and not a later process.
    fn is_ours(&self, process: u64) -> bool {
        let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let folder = self.folder.to_string_lossy();
        String::from_utf8_lossy(&command).contains(folder.as_ref())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Nothing here may panic, because the test may be panicking already.
        if let Ok(mut client) = Client::try_connect(self.addr) {
            let _ = client.try_request("DELETE", &self.session, &[], b"");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        if let Some(process) = self.browser.filter(|&process| self.is_ours(process)) {
            let _ = Command::new("kill").arg("-KILL").arg(process.to_string()).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Writes a file into the folder for pictures, if there is one.
#[track_caller]
pub fn save(name: &str, content: &[u8]) {
    if let Some(folder) = env::var_os(PICTURES) {
        fs::write(PathBuf::from(folder).join(name), content).expect("the folder can be written to");
    }
}

/// chromedriver listens on a free port and prints it; `None` if it ends before.
fn address_of(driver: &mut Child) -> Option<SocketAddr> {
    let mut stdout = BufReader::new(driver.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    while stdout.read_line(&mut line).is_ok_and(|length| length > 0) {
        let said = line.trim_end().trim_end_matches('.');
        let port = said.split_once("started successfully on port ");
        if let Some(port) = port.and_then(|(_, port)| port.parse().ok()) {
            // Read on, so that chromedriver does not block on a full pipe.
            thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
            return Some(SocketAddr::from(([127, 0, 0, 1], port)));
        }
        line.clear();
    }
    None
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Base64 (RFC 4648, section 4).
fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes().take_while(|&byte| byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("{byte} is not of the base64 alphabet"),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
