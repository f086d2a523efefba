//! axe-core in every view and state of the board, in light, in dark and in forced colours, on a desktop and on a screen
//! 320 px wide; and the live regions, for visitors who do not see the board. Needs chromium, chromedriver and axe-core
//! (`make deps`).

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::board::{state_is, total_is};
use crate::close::ASKS_TO_CLOSE;
use crate::common::{DEADLINE, Server, TempDir, skip};
use crate::webdriver::{Browser, ENTER};

/// Where `make deps` puts it.
const AXE: &str = "tests/browser/accessibility/node_modules/axe-core/axe.min.js";

/// Emulated media features: names and values.
type Features = [(&'static str, &'static str)];

/// Name, width, height and media features.
const LOOKS: [(&str, u32, u32, &Features); 5] = [
    ("light", 1280, 800, &[("prefers-color-scheme", "light")]),
    ("dark", 1280, 800, &[("prefers-color-scheme", "dark")]),
    ("light, 320 px", 320, 640, &[("prefers-color-scheme", "light")]),
    ("dark, 320 px", 320, 640, &[("prefers-color-scheme", "dark")]),
    ("forced colours", 1280, 800, &[("forced-colors", "active"), ("prefers-reduced-motion", "reduce")]),
];

/// All rules that axe-core runs by default (WCAG 2.2 A and AA, best practices), and the one of WCAG 2.2 AA that it does
/// not: 2.5.8, the size of targets. Only violations are described in full, which takes less time.
const RUN: &str = "
    const options = { resultTypes: ['violations'], rules: { 'target-size': { enabled: true } } };
    return axe.run(document, options).then(({ violations, passes }) => {
      if (passes.length === 0) throw new Error('no rule was applied');
      return violations.flatMap(({ id, impact, nodes }) =>
        nodes.map(({ html, failureSummary }) => `${id} (${impact}): ${html}\n  ${failureSummary}`));
    })";

/// A browser with axe-core, and the violations so far.
struct Audit {
    browser: Browser,
    axe: String,
    found: Vec<String>,
}

impl Audit {
    /// `None` without a browser or axe-core, after a message; where `CI` is `true` that is a failure.
    #[track_caller]
    fn start() -> Option<Audit> {
        let Ok(axe) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(AXE)) else {
            skip("axe-core is not installed (make deps)", true);
            return None;
        };
        Some(Audit { browser: Browser::start()?, axe, found: Vec::new() })
    }

    /// Runs axe-core in each look of the state that the page is in.
    #[track_caller]
    fn check(&mut self, state: &str) {
        // WebDriver's scripts are not subject to the page's content security policy.
        if self.browser.run("return typeof axe") != "object" {
            self.browser.run(&self.axe);
        }
        for (look, width, height, features) in LOOKS {
            set_look(&self.browser, width, height, features);
            let found = self.browser.run(RUN);
            let found = found.as_array().expect("a list of violations");
            self.found
                .extend(found.iter().map(|node| format!("{state}, {look}: {}", node.as_str().unwrap_or_default())));
        }
        set_look(&self.browser, 1280, 800, &[]);
    }

    #[track_caller]
    fn finish(self) {
        assert!(self.found.is_empty(), "{} violations:\n{}", self.found.len(), self.found.join("\n"));
    }
}

#[track_caller]
fn set_look(browser: &Browser, width: u32, height: u32, features: &Features) {
    browser.look(width, height, 1, "light");
    let features: Vec<Value> = features.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    browser.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    browser.until(DEADLINE, &format!("innerWidth === {width} && innerHeight === {height}"));
    browser.draw();
}

#[track_caller]
fn open(browser: &Browser, server: &Server, hash: &str) {
    browser.open("about:blank");
    browser.open(&format!("http://{}/{hash}", server.addr()));
}

#[track_caller]
fn order(browser: &Browser, id: &str, amount: &str) {
    browser.type_into(&format!("product-item[data-id={id}] >>> input"), amount);
    browser.click(&format!("product-item[data-id={id}] >>> .add"));
}

/// The state of the last order, as a product shows it.
fn order_is(id: &str, state: &str) -> String {
    let sent = format!("document.querySelector('product-item[data-id={id}]').shadowRoot.querySelector('.sent')");
    format!("{sent}.dataset.state === '{state}'")
}

/// An expression: whether the text of an element includes these words.
fn says(selector: &str, words: &str) -> String {
    format!("document.querySelector('{selector}').innerText.includes('{words}')")
}

#[test]
fn the_board_has_no_violation_in_any_state() {
    let Some(mut audit) = Audit::start() else { return };
    let mut server = Server::start();
    let json = [("Content-Type", "application/json")];
    let body = br#"{"title":"Empty","prefix":"E"}"#;
    assert_eq!(server.client().request("PUT", "/empty", &json, body).status, 201);
    open(&audit.browser, &server, "");
    audit.browser.until(DEADLINE, "document.querySelector('#overview .sum')?.textContent === '10'");
    audit.check("overview");

    open(&audit.browser, &server, "#electronics");
    audit.browser.until(DEADLINE, &state_is("live"));
    audit.browser.until(DEADLINE, &total_is("A2", 7));
    audit.check("category");
    audit.browser.click("#new-product > summary");
    audit.browser.click("#last-orders > summary");
    audit.check("forms open");
    audit.browser.click("#new-product > summary");
    audit.browser.type_into("#search", "teapot");
    audit.browser.until(DEADLINE, &says("#hint", "No product in Electronics matches"));
    audit.check("nothing found");
    audit.browser.run("document.querySelector('#search').value = ''");
    audit.browser.type_into("#search", " ");
    order(&audit.browser, "A1", "5");
    audit.browser.until(DEADLINE, &order_is("A1", "sent"));
    order(&audit.browser, "A2", "10000000000000000");
    audit.check("a question about a large amount");
    audit.browser.click("product-item[data-id=A2] >>> .add");
    audit.browser.until(DEADLINE, &order_is("A2", "refused"));
    audit.browser.until(DEADLINE, &says("#till", "Undo"));
    audit.check("sent and refused");

    open(&audit.browser, &server, "#empty");
    audit.browser.until(DEADLINE, &says("#hint", "No products here yet"));
    audit.check("empty category");
    open(&audit.browser, &server, "#hats");
    audit.browser.until(DEADLINE, &says("#problem-text", "There is no category"));
    audit.browser.until(DEADLINE, "document.querySelector('#category').options.length === 4");
    audit.check("unknown category");

    open(&audit.browser, &server, "#electronics");
    audit.browser.until(DEADLINE, &total_is("A2", 7));
    server.kill();
    audit.browser.until(DEADLINE, &state_is("lost"));
    order(&audit.browser, "A1", "2");
    audit.browser.until(DEADLINE, &order_is("A1", "waiting"));
    audit.browser.click("#last-orders > summary");
    audit.browser.click("#period-show");
    audit.browser.until(DEADLINE, &says("#problem-text", "does not answer"));
    audit.check("away and waiting");
    audit.finish();
}

#[test]
fn managing_has_no_violation_in_any_state() {
    let Some(mut audit) = Audit::start() else { return };
    let server = Server::start();
    let mut client = server.client();
    client.order("A1", 14);
    let merge_patch = [("Content-Type", "application/merge-patch+json")];
    assert_eq!(client.request("PATCH", "/electronics/A2", &merge_patch, b"{\"hidden\":true}").status, 200);
    open(&audit.browser, &server, "#electronics");
    audit.browser.until(DEADLINE, &total_is("A1", 17));
    audit.browser.click("#manage");
    audit.browser.until(DEADLINE, "document.querySelector('product-item[withdrawn]') !== null");
    audit.check("managing");

    audit.browser.click("product-item[data-id=A1] >>> .edit");
    audit.check("edit dialog");
    audit.browser.run("document.querySelector('#edit-dialog [name=name]').value = ' '");
    audit.browser.click("#edit-dialog [type=submit]");
    audit.browser.until(DEADLINE, &says("#edit-dialog .reason", "must not be empty"));
    audit.check("edit dialog with a reason");
    audit.browser.click("#edit-dialog .cancel");

    audit.browser.click("#category-add");
    audit.check("category dialog");
    audit.browser.type_into("#category-dialog [name=title]", "Electronics");
    audit.browser.type_into("#category-dialog [name=prefix]", "E");
    audit.browser.click("#category-dialog [type=submit]");
    audit.browser.until(DEADLINE, &says("#category-dialog .reason", "already"));
    audit.check("category dialog with a reason");
    audit.browser.click("#category-dialog .cancel");

    audit.browser.click("#period-show");
    audit.browser.until(DEADLINE, &says("#report-sum", "14"));
    audit.check("report");
    audit.browser.click("#report-close");
    audit.browser.until(DEADLINE, ASKS_TO_CLOSE);
    audit.check("question about a close");
    audit.browser.click("#report-dialog [type=submit]");
    audit.browser.until(DEADLINE, "document.querySelector('#report-dialog [type=submit]').hidden");
    audit.check("report of a closed period");
    audit.finish();
}

#[test]
fn the_question_for_a_token_has_no_violation() {
    const READER: &str = "reader-0123456789";
    let Some(mut audit) = Audit::start() else { return };
    let files = TempDir::new();
    files.write("writers", "writer-0123456789");
    files.write("readers", READER);
    let server = Server::builder()
        .arg("--token-file")
        .arg(files.path().join("writers"))
        .arg("--read-token-file")
        .arg(files.path().join("readers"))
        .start();
    open(&audit.browser, &server, "#electronics");
    audit.browser.until(DEADLINE, "document.querySelector('#token').open");
    audit.check("token asked for");
    audit.browser.type_into("#token-input", &format!("somebody-elses-0123456789{ENTER}"));
    audit.browser.until(DEADLINE, &says("#token-reason", "is not valid"));
    audit.check("token rejected");
    audit.browser.click("#token-cancel");
    audit.browser.until(DEADLINE, &state_is("locked"));
    audit.browser.until(DEADLINE, "!document.querySelector('#token').open");
    audit.check("locked");
    audit.browser.click("#token-enter");
    audit.browser.until(DEADLINE, "document.querySelector('#token').open");
    audit.browser.type_into("#token-input", &format!("{READER}{ENTER}"));
    audit.browser.until(DEADLINE, &state_is("live"));
    order(&audit.browser, "A1", "1");
    audit.browser.until(DEADLINE, &says("#token-reason", "but not order"));
    audit.check("token that may not order");
    audit.finish();
}

#[test]
fn the_wall_has_no_violation_in_any_state() {
    let Some(mut audit) = Audit::start() else { return };
    let mut server = Server::builder()
        .catalog(r#"{"tools":{"prefix":"T","products":[{"id":"T1","name":"Saw","rrp":"9.90","info":"Cuts."}]}}"#)
        .start();
    open(&audit.browser, &server, "");
    audit.browser.until(DEADLINE, &total_is("T1", 0));
    audit.check("sole category");
    server.client().order("T1", 3);
    open(&audit.browser, &server, "#tools?wall");
    audit.browser.until(DEADLINE, &total_is("T1", 3));
    audit.check("wall of a category");
    let json = [("Content-Type", "application/json")];
    let body = br#"{"title":"Empty","prefix":"E"}"#;
    assert_eq!(server.client().request("PUT", "/empty", &json, body).status, 201);
    open(&audit.browser, &server, "#empty?wall");
    audit.browser.until(DEADLINE, &says("#hint", "No products here yet"));
    audit.check("wall of an empty category");
    open(&audit.browser, &server, "#hats?wall");
    audit.browser.until(DEADLINE, &says("#problem-text", "There is no category"));
    audit.check("wall of an unknown category");
    open(&audit.browser, &server, "#?wall");
    audit.browser.until(DEADLINE, &state_is("live"));
    audit.check("wall of all categories");
    open(&audit.browser, &server, "#tools?wall");
    audit.browser.until(DEADLINE, &total_is("T1", 3));
    let edge = Server::builder().follow(server.addr()).start();
    server.kill();
    audit.browser.until(DEADLINE, &state_is("lost"));
    audit.check("wall without its server");
    for (hash, view) in [("#tools?wall", "wall"), ("#tools", "board")] {
        open(&audit.browser, &edge, hash);
        audit.browser.until(DEADLINE, &state_is("stale"));
        audit.browser.until(DEADLINE, &total_is("T1", 3));
        audit.check(&format!("{view} with totals that may be old"));
    }
    audit.finish();
}

#[test]
fn an_audit_finds_what_is_wrong() {
    let Some(mut audit) = Audit::start() else { return };
    let server = Server::start();
    open(&audit.browser, &server, "#electronics");
    audit.browser.until(DEADLINE, &total_is("A2", 7));
    audit.browser.run(
        "const root = document.querySelector('product-item').shadowRoot;
         root.querySelector('.add').removeAttribute('aria-label');
         root.querySelector('.add').textContent = '';
         root.querySelector('.word').style.color = 'color-mix(in srgb, var(--card) 90%, var(--ink))';",
    );
    audit.check("broken");
    for rule in ["button-name (critical)", "color-contrast (serious)"] {
        for look in ["light", "dark", "light, 320 px", "dark, 320 px"] {
            let found = format!("broken, {look}: {rule}");
            assert!(audit.found.iter().any(|violation| violation.starts_with(&found)), "{found}: {:?}", audit.found);
        }
    }
}

/// An expression: whether one of the live regions that the page had from its beginning has these words. Screen readers
/// announce changes only of regions that were there before.
fn is_announced(words: &str) -> String {
    format!("regions.some((region) => region.checkVisibility() && region.innerText.includes('{words}'))")
}

#[test]
fn orders_a_search_and_a_lost_connection_are_announced_in_live_regions() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start();
    open(&browser, &server, "#electronics");
    browser.until(DEADLINE, &total_is("A2", 7));
    browser.until(DEADLINE, &state_is("live"));
    browser.run("window.regions = [...document.querySelectorAll('[role=status][aria-live=polite]')]");
    browser.run(
        "window.arrivals = [];
         const arrived = document.querySelector('#arrivals');
         new MutationObserver(() => arrivals.push({ text: arrived.textContent, at: performance.now() }))
           .observe(arrived, { childList: true })",
    );
    // Orders that arrive.
    server.client().order("A1", 10);
    browser.until(DEADLINE, &is_announced("Vacuum Cleaner: 13 orders"));
    server.client().order("A1", 1);
    server.client().order("A2", 1);
    // An order from here.
    order(&browser, "A1", "5");
    browser.until(DEADLINE, &is_announced("Vacuum Cleaner: +5 sent"));
    for line in ["Vacuum Cleaner: 19 orders", "Leaf Blower: 8 orders"] {
        browser.until(2 * DEADLINE, &format!("arrivals.some(({{ text }}) => text.includes('{line}'))"));
    }
    // What changes in between is announced together.
    let pauses = "return arrivals.slice(1).map(({ at }, before) => at - arrivals[before].at)";
    let pauses = browser.run(pauses);
    let is_long = |pause: &Value| pause.as_f64().is_some_and(|pause| pause > 9_000.0);
    assert!(pauses.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_long)), "{pauses}");
    browser.type_into("#search", "vac");
    browser.until(DEADLINE, &is_announced("1 product"));
    browser.type_into("#search", "x");
    browser.until(DEADLINE, &is_announced("No product in Electronics matches the search."));
    browser.type_into("#search", "\u{e003}");
    browser.until(DEADLINE, &is_announced("1 product"));
    server.kill();
    browser.until(DEADLINE, &is_announced("Connection lost"));
    order(&browser, "A1", "2");
    browser.until(DEADLINE, &is_announced("Vacuum Cleaner: +2 waiting"));
    browser.until(DEADLINE, &is_announced("1 order is waiting for confirmation"));
}

#[test]
fn with_reduced_motion_a_change_is_not_animated() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    open(&browser, &server, "#electronics");
    browser.until(DEADLINE, &total_is("A1", 3));
    browser.run(
        "window.animations = 0;
         const { animate } = Element.prototype;
         Element.prototype.animate = function (...options) {
           animations += 1;
           return animate.apply(this, options);
         }",
    );
    set_look(&browser, 1280, 800, &[("prefers-reduced-motion", "reduce")]);
    server.client().order("A1", 10);
    browser.until(DEADLINE, &total_is("A1", 13));
    assert_eq!(browser.run("return animations"), 0);
    set_look(&browser, 1280, 800, &[("prefers-reduced-motion", "no-preference")]);
    server.client().order("A1", 10);
    browser.until(DEADLINE, "animations > 0");
}

#[test]
fn in_forced_colours_controls_have_edges_and_the_last_hour_has_bars() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start();
    server.client().order("A1", 10);
    open(&browser, &server, "#electronics");
    browser.until(DEADLINE, &total_is("A1", 13));
    browser.click("#manage");
    let edit = "document.querySelector('product-item').shadowRoot.querySelector('.edit')";
    browser.until(DEADLINE, &format!("!{edit}.hidden"));
    for scheme in ["light", "dark"] {
        set_look(&browser, 1280, 800, &[("forced-colors", "active"), ("prefers-color-scheme", scheme)]);
        let faults = browser.run(
            "const colours = [...'12'].map(() => document.body.appendChild(document.createElement('i')));
             [colours[0].style.color, colours[1].style.color] = ['Canvas', 'CanvasText'];
             const [canvas, text] = colours.map((element) => getComputedStyle(element).color);
             for (const element of colours) element.remove();
             const roots = [document, ...[...document.querySelectorAll('product-item')].map((item) => item.shadowRoot)];
             const all = (selector) => roots.flatMap((root) => [...root.querySelectorAll(selector)])
               .filter((element) => element.checkVisibility());
             const faults = [];
             for (const control of all('button, select, input:not([type=checkbox])')) {
               const { borderTopColor, borderTopStyle, borderTopWidth } = getComputedStyle(control);
               if (borderTopColor === canvas || borderTopStyle === 'none' || parseFloat(borderTopWidth) < 1) {
                 faults.push(`${control.outerHTML}: ${borderTopStyle} ${borderTopWidth} ${borderTopColor}`);
               }
             }
             for (const bars of all('path')) {
               if (getComputedStyle(bars).fill !== text) faults.push(`bars: ${getComputedStyle(bars).fill}`);
             }
             if (canvas === text || all('button').length < 5) faults.push('nothing was compared');
             return faults",
        );
        assert_eq!(faults, json!([]), "{scheme}");
    }
}
