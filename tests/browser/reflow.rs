//! The board for visitors who need large text: on a screen 320 px wide, which is what a window of 1280 px at a zoom of
//! 400 % has (WCAG 2.2, 1.4.10), and with text twice as large (1.4.4). The page does not scroll sideways, and no
//! control and no text is cut or covered.

use serde_json::json;

use crate::board::{state_is, total_is};
use crate::close::ASKS_TO_CLOSE;
use crate::common::{DEADLINE, Server, TempDir};
use crate::webdriver::Browser;

/// What is wrong with the page: it scrolls sideways, a control is beyond an edge, is covered or has a text that is cut,
/// or a text of a product is cut. While a dialog is open, only its own controls count, because the page behind it is
/// inert.
const FAULTS: &str = r"
    const faults = [];
    const { scrollWidth, clientWidth, clientHeight } = document.documentElement;
    if (scrollWidth > clientWidth) faults.push(`the page scrolls sideways: ${scrollWidth} of ${clientWidth} px`);
    const items = [...document.querySelectorAll('product-item')].filter((item) => item.getClientRects().length > 0);
    const linesOf = (node) => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return [...range.getClientRects()].map(({ top }) => top);
    };
    const dialog = [...document.querySelectorAll('dialog[open]')].at(-1) ?? null;
    const roots = dialog === null ? [document, ...items.map((item) => item.shadowRoot)] : [dialog];
    if (dialog !== null && dialog.scrollWidth > dialog.clientWidth) faults.push('the dialog scrolls sideways');
    for (const cell of dialog?.querySelectorAll('th, td:last-child') ?? []) {
      if (new Set(linesOf(cell)).size > 1) faults.push(`${cell.textContent} is broken`);
    }
    const kinds = 'a, button, input, select, summary, label.check';
    const controls = roots.flatMap((root) => [...root.querySelectorAll(kinds)]);
    const isInside = (inner, outer) =>
      inner.left >= outer.left - 1 && inner.right <= outer.right + 1 &&
      inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
    // Also of a form that is closed.
    const isShown = (node) => node.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true });
    const parentOf = (node) => node.assignedSlot ?? node.parentElement ?? node.getRootNode().host ?? null;
    const clips = (node) => /hidden|clip/.test(getComputedStyle(node).overflow);
    const named = (node) => {
      const { host } = node.getRootNode();
      const name = node.id || node.className || node.name || node.localName;
      return host ? `${name} of ${host.dataset.id}` : `${name} (${node.textContent.trim().slice(0, 20)})`;
    };
    const textOf = (node) => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return range.getBoundingClientRect();
    };
    for (const control of controls) {
      if (!isShown(control)) continue;
      control.scrollIntoView({ block: 'center', inline: 'nearest' });
      const box = control.getBoundingClientRect();
      const screen = { left: 0, top: 0, right: clientWidth, bottom: clientHeight };
      // The link of a category may be higher than the screen.
      const seenBox = box.height > clientHeight ? { ...box.toJSON(), top: 0, bottom: clientHeight } : box;
      if (!isInside(seenBox, screen)) faults.push(`${named(control)} is beyond an edge of the screen`);
      for (let node = parentOf(control); node !== null; node = parentOf(node)) {
        if (clips(node) && !isInside(box, node.getBoundingClientRect())) faults.push(`${named(control)} is cut`);
      }
      if (control.matches('a, button, summary') && !isInside(textOf(control), box)) {
        faults.push(`the text of ${named(control)} is cut`);
      }
      const isOwn = (node) => {
        for (; node !== null; node = parentOf(node)) if (node === control || node.control === control) return true;
        return false;
      };
      // Not the corners, which are round.
      const [middleX, middleY] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
      const points = [
        [middleX, middleY], [box.left + 3, middleY], [box.right - 3, middleY],
        [middleX, seenBox.top + 3], [middleX, seenBox.bottom - 3],
      ];
      const seen = points.map(([x, y]) => control.getRootNode().elementFromPoint(x, y));
      const over = seen.find((node) => node === null || !isOwn(node));
      if (over !== undefined) faults.push(`${named(control)} is covered by ${over && named(over)}`);
    }
    for (const item of items) {
      const card = item.getBoundingClientRect();
      const part = (selector) => item.shadowRoot.querySelector(selector);
      const texts = ['.word', '.period', '.hour', '.last', '.sent'].map(part);
      texts.push(...item.querySelectorAll('[slot=name], [slot=rrp], [slot=orders]'));
      for (const text of texts) {
        if (!isShown(text) || text.textContent === '') continue;
        const box = textOf(text);
        if (!isInside({ ...box.toJSON(), top: card.top, bottom: card.bottom }, card)) {
          faults.push(`${text.textContent} leaves ${item.dataset.id}`);
        }
        for (let node = parentOf(text); node !== null && node !== item; node = parentOf(node)) {
          const around = node.getBoundingClientRect();
          // The line of a number is higher than its digits.
          if (clips(node) && (box.left < around.left - 1 || box.right > around.right + 1)) {
            faults.push(`${text.textContent} of ${item.dataset.id} is cut`);
          }
        }
      }
    }
    scrollTo(0, 0);
    return faults";

/// Products with long words, long names and large totals.
fn shop(admin: &TempDir) -> Server {
    admin.write("admin", "manager-0123456789");
    let product = |number: usize, name: &str, total: i64| {
        json!({ "id": format!("A{number}"), "name": name, "rrp": "1,299.90 €", "info": "Two of them. ".repeat(number),
                "total": total })
    };
    let products = json!([
        product(1, "Vacuum Cleaner", 3),
        product(2, "Knäckebröd mit Sonnenblumenkernen", -1_234_567),
        product(3, "Donaudampfschifffahrtsgesellschaft", 123_456_789),
        product(4, "Tee", 0),
    ]);
    let catalog = json!({ "electronics": { "prefix": "A", "products": products },
                          "confectionery": { "prefix": "B", "products": [{ "id": "B1", "name": "Ice Cream" }] } });
    Server::builder().catalog(&catalog.to_string()).arg("--admin-token-file").arg(admin.path().join("admin")).start()
}

/// Takes the board through its views, with a check of each.
#[track_caller]
fn check_all(browser: &Browser, screens: &[(u32, u32, u32)], size: &str) {
    let files = TempDir::new();
    let mut server = shop(&files);
    let mut faults: Vec<String> = Vec::new();
    let mut check = |view: &str| {
        for &(width, height, scale) in screens {
            browser.look(width, height, scale, "light");
            browser.until(DEADLINE, &format!("document.documentElement.clientWidth === {width}"));
            browser.draw();
            let found = browser.run(FAULTS);
            let found = found.as_array().expect("a list of faults");
            faults.extend(
                found.iter().map(|fault| format!("{view}, {width}×{height}: {}", fault.as_str().unwrap_or("?"))),
            );
            browser.picture(&format!("reflow-{size}-{width}-{}", view.replace(' ', "-")));
        }
    };
    browser.open(&format!("http://{}/", server.addr()));
    browser.until(DEADLINE, "document.querySelectorAll('#overview li').length === 2");
    check("overview");
    browser.run("location.hash = '#electronics'");
    browser.until(DEADLINE, &total_is("A3", 123_456_789));
    check("board");
    browser.click("product-item[data-id=A1] >>> .add");
    server.client().order("A3", 1_000_000);
    let part = |id: &str, part: &str| {
        format!("document.querySelector('product-item[data-id={id}]').shadowRoot.querySelector('{part}')")
    };
    browser.until(DEADLINE, &format!("{}.dataset.state === 'sent'", part("A1", ".sent")));
    // The line about the last hour is written only of products in sight.
    browser.run("document.querySelector('product-item[data-id=A3]').scrollIntoView()");
    browser.until(DEADLINE, &format!("{}.textContent.includes('1,000,000')", part("A3", ".hour")));
    check("order sent");
    browser.run("for (const form of document.querySelectorAll('details')) form.open = true");
    browser.run("document.querySelector('#manage').click()");
    browser.until(DEADLINE, &format!("!{}.hidden", part("A4", ".edit")));
    check("managing");
    browser.run(&format!("{}.click()", part("A3", ".edit")));
    check("edit dialog");
    browser.run("document.querySelector('#edit-dialog').close(); document.querySelector('#category-add').click()");
    check("category dialog");
    browser.run("document.querySelector('#category-dialog').close(); document.querySelector('#period-show').click()");
    browser.until(DEADLINE, "document.querySelector('#report-dialog').open");
    check("report");
    browser.run("document.querySelector('#report-close').click()");
    browser.until(DEADLINE, ASKS_TO_CLOSE);
    check("question about a close");
    browser.run("document.querySelector('#report-dialog [type=submit]').click()");
    browser.until(DEADLINE, "document.querySelector('#token').open");
    browser.run("document.querySelector('#token-use').click()");
    browser.until(DEADLINE, "!document.querySelector('#token-reason').hidden");
    check("token");
    browser.run("for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close()");
    browser.run("document.querySelector('#manage').click()");
    server.kill();
    browser.until(DEADLINE, &state_is("lost"));
    browser.run(&format!("{}.click()", part("A2", ".add")));
    browser.until(DEADLINE, "document.querySelector('#waiting').textContent !== ''");
    browser.run("document.querySelector('#period-show').click()");
    browser.until(DEADLINE, "!document.querySelector('#problem').hidden");
    check("server away");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_screen_320_px_wide_cuts_and_covers_nothing() {
    let Some(browser) = Browser::start() else { return };
    check_all(&browser, &[(320, 640, 2), (320, 256, 2), (640, 800, 2)], "small");
}

#[test]
fn text_twice_as_large_cuts_and_covers_nothing() {
    // The setting of a browser's font size, of which the root's font size is 100 %.
    let Some(browser) = Browser::with_flags(&["--blink-settings=defaultFontSize=32"]) else { return };
    check_all(&browser, &[(640, 800, 1), (1280, 800, 1)], "large");
}
