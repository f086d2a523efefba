//! A real Prometheus that scrapes the server every second: every query of the dashboard has data, and alerts fire when
//! something is wrong. Needs Debian's prometheus (`make deps`).

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::alerts::RULES;
use crate::common::{Client, Server, TempDir, WebSocket, skip, wait_until};
use crate::queries::{WHAT_IS_WRONG, queries};

/// Attempts to find a port that no other process takes before Prometheus does.
const PORTS_TO_TRY: u32 = 10;
/// How long Prometheus may take to have data or to fire an alert: some scrapes and evaluations, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// The alerts that are made to fire.
const FIRED: [&str; 2] = ["OrdercastRefusingOrders", "OrdercastBackupIsOld"];

/// A running Prometheus. Dropping it kills it and removes its folder.
struct Prometheus {
    child: Child,
    addr: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it on these servers, with the rules, of which those in [`FIRED`] wait for a second only. `None` without it,
    /// after a message; where `CI` is `true` that is a failure.
    fn start(server: &Server) -> Option<Prometheus> {
        let is_installed = Command::new("prometheus").arg("--version").output().is_ok();
        if !is_installed {
            skip("prometheus is not installed (make deps)", true);
            return None;
        }
        for _ in 0..PORTS_TO_TRY {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let addr = listener.local_addr().expect("it has an address");
            drop(listener);
            if let Some(prometheus) = Prometheus::at(addr, server) {
                return Some(prometheus);
            }
        }
        panic!("Prometheus got none of {PORTS_TO_TRY} free ports");
    }

    fn at(addr: SocketAddr, server: &Server) -> Option<Prometheus> {
        let folder = TempDir::new();
        folder.write("alerts.yml", quick_rules());
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [alerts.yml]\nscrape_configs:\n  \
             - {{job_name: ordercast, static_configs: [{{targets: ['{}']}}]}}\n",
            server.addr()
        );
        let config = folder.write("prometheus.yml", config);
        let log = fs::File::create(folder.path().join("log")).expect("a file can be made");
        let child = Command::new("prometheus")
            .arg("--config.file")
            .arg(config)
            .arg("--storage.tsdb.path")
            .arg(folder.path().join("tsdb"))
            .arg(format!("--web.listen-address={addr}"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it was there before");
        let mut prometheus = Prometheus { child, addr, _folder: folder };
        let mut has_ended = false;
        wait_until(PATIENCE, "Prometheus is ready", || {
            has_ended = prometheus.child.try_wait().expect("the child can be asked").is_some();
            has_ended || prometheus.is_ready()
        });
        (!has_ended).then_some(prometheus)
    }

    fn is_ready(&self) -> bool {
        let client = Client::try_connect(self.addr);
        client
            .and_then(|mut client| client.try_request("GET", "/-/ready", &[], b""))
            .is_ok_and(|reply| reply.status == 200)
    }

    /// The data of an answer of its API.
    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let reply = Client::connect(self.addr).get(path);
        let mut answer = reply.json();
        assert!(reply.status == 200 && answer["status"] == "success", "{path}: {answer}");
        answer["data"].take()
    }

    /// The series that a query finds now.
    #[track_caller]
    fn query(&self, query: &str) -> Vec<Value> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.get(&format!("/api/v1/query?query={escaped}"))["result"].as_array().expect("a vector").clone()
    }

    #[track_caller]
    fn wait_for_alert(&self, name: &str) {
        let query = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
        wait_until(PATIENCE, name, || !self.query(&query).is_empty());
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rules, of which some need not hold for long before they fire.
fn quick_rules() -> String {
    let rules = fs::read_to_string(RULES).expect("the rules are there");
    let mut is_quick = false;
    let mut quick = 0;
    let lines = rules.lines().map(|line| {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            is_quick = FIRED.contains(&alert);
        }
        if is_quick && line.trim().starts_with("for: ") {
            quick += 1;
            return "        for: 1s\n".to_owned();
        }
        format!("{line}\n")
    });
    let text = lines.collect();
    assert_eq!(quick, FIRED.len());
    text
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_secs()
}

/// Whether each series has a number.
fn has_data(found: &[Value]) -> bool {
    let is_number = |series: &Value| series["value"][1].as_str().is_some_and(|value| value != "NaN");
    !found.is_empty() && found.iter().all(is_number)
}

#[test]
fn every_query_of_the_dashboard_has_data_and_alerts_fire_when_something_is_wrong() {
    let server = Server::start();
    let Some(prometheus) = Prometheus::start(&server) else { return };
    let last_backup = server.data().join("last-backup");
    fs::write(&last_backup, format!("{}\n", now())).unwrap();
    let (file, away) = (server.data().join("ordercast.sqlite3"), server.data().join("away"));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Something happens all the time, so that no rate is 0 and no quantile is unknown.
        scope.spawn(|| {
            let mut session = WebSocket::open(server.addr(), "/orders/electronics");
            let mut client = server.client();
            while !is_over.load(Ordering::Relaxed) {
                let reply = client.try_post("/orders/A1", "{\"amount\":1}").expect("the server answers");
                if reply.status == 200 {
                    session.text();
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        // Also when this panics, so that the thread ends.
        let _end = OnDrop(&is_over);
        for (title, query) in queries() {
            if title == WHAT_IS_WRONG {
                assert_eq!(prometheus.query(&query), [Value::Null; 0], "{query}");
            } else {
                wait_until(PATIENCE, &format!("data for {title}: {query}"), || has_data(&prometheus.query(&query)));
            }
        }
        assert_eq!(prometheus.query("up{job=\"ordercast\"}")[0]["value"][1], "1");
        for rule in prometheus.get("/api/v1/rules")["groups"][0]["rules"].as_array().expect("rules") {
            assert!(rule["health"] == "ok", "{rule}");
        }

        fs::write(&last_backup, format!("{}\n", now() - 3 * 86_400)).unwrap();
        prometheus.wait_for_alert("OrdercastBackupIsOld");
        fs::rename(&file, &away).unwrap();
        prometheus.wait_for_alert("OrdercastRefusingOrders");
        let alerts = prometheus.get("/api/v1/alerts");
        let alerts = alerts["alerts"].as_array().expect("alerts");
        for name in FIRED {
            let alert = alerts.iter().find(|alert| alert["labels"]["alertname"] == name).expect(name);
            let texts = ["summary", "description"].map(|text| alert["annotations"][text].as_str().expect("a text"));
            assert!(texts[0].contains(&server.addr().to_string()), "{texts:?}");
            assert!(texts.iter().all(|text| !text.contains("error") && !text.contains("{{")), "{texts:?}");
        }
        for (_, query) in queries().iter().filter(|(title, _)| title == WHAT_IS_WRONG) {
            wait_until(PATIENCE, query, || has_data(&prometheus.query(query)));
        }
        fs::rename(&away, &file).unwrap();
        let query = "ALERTS{alertname=\"OrdercastRefusingOrders\"}";
        wait_until(PATIENCE, "the alert ends", || prometheus.query(query).is_empty());
    });
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
