//! The queries of the dashboard, and the names of metrics in the dashboard, the rules and the documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::Server;
use crate::exposition::Scrape;

/// The panel whose queries find nothing as long as nothing is wrong.
pub const WHAT_IS_WRONG: &str = "What is wrong";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&read("packaging/grafana-dashboard.json")).expect("the dashboard is JSON")
}

/// Every query of the dashboard with the title of its panel, as Grafana sends it for all servers.
pub fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title}");
        targets.iter().map(move |target| (title.to_owned(), filled(target["expr"].as_str().expect("a query"))))
    });
    queries.collect()
}

fn filled(query: &str) -> String {
    let query = query.replace("$__rate_interval", "10s").replace("$instance", ".*");
    assert!(!query.contains('$'), "a variable that Grafana does not know: {query}");
    query
}

/// The names of metrics in a text, without the ends of a histogram's series.
fn names(text: &str, types: &Scrape) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    // Not names of files, such as ordercast_0.1.0_amd64.deb.
    let is_name =
        |word: &&str| word.strip_prefix("ordercast_").is_some_and(|rest| rest.starts_with(|it: char| !it.is_numeric()));
    let words = text.split(|letter| !is_part(letter)).filter(is_name);
    let base = |word: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        of_histogram
            .filter(|base| types.types.get(*base).is_some_and(|kind| kind == "histogram"))
            .unwrap_or(word)
            .to_owned()
    };
    words.map(base).collect()
}

#[test]
fn every_metric_is_documented_and_no_other_is_named() {
    let server = Server::start();
    fs::write(server.data().join("last-backup"), "1700000000\n").unwrap();
    let mut scrape = Scrape::of(&server);
    crate::common::wait_until(crate::common::DEADLINE, "the backup is known", || {
        scrape = Scrape::of(&server);
        scrape.types.contains_key("ordercast_last_backup_age_seconds")
    });
    let served: BTreeSet<String> = scrape.types.keys().cloned().collect();
    let documented = names(&read("docs/monitoring.md"), &scrape);
    assert_eq!(documented, served, "docs/monitoring.md lists them");
    let used = [read("packaging/grafana-dashboard.json"), read("packaging/prometheus-alerts.yml")].concat();
    let unknown: Vec<_> = names(&used, &scrape).difference(&served).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let shown = names(&read("packaging/grafana-dashboard.json"), &scrape);
    let hidden: Vec<_> = served.difference(&shown).collect();
    assert!(hidden.is_empty(), "the dashboard shows all, but not {hidden:?}");
}

#[test]
fn the_dashboard_is_laid_out_without_overlaps_and_every_panel_has_its_own_number() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut numbers, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
        assert!(x + width <= 24, "{}", panel["title"]);
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{} overlaps another panel", panel["title"]);
        }
    }
    assert!(queries().iter().any(|(title, _)| title == WHAT_IS_WRONG));
}
