//! `ordercast watch`: the totals of a server, live. A terminal shows a table, anything else gets one line a change. After a
//! lost connection the feed is resumed behind the last message that was shown.

use std::collections::HashMap;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::ClientError;
use super::attempts::Attempts;
use super::feed::{Event, Feed, OPENING, no_connection};
use super::lines::Lines;
use super::screen::{self, Screen};
use super::server::{Failure, Later, Server};
use super::table::{self, Row};
use super::text::plain;
use super::window::Window;
use crate::config::client::Watch;
use crate::json::{self, FeedMessage};
use crate::tally::catalog::is_plain;

/// How often the table is drawn at most: ten times a second, as often as the feed sends a product.
const FRAME: Duration = Duration::from_millis(100);
/// How often it is drawn at least: once a second, since rates fall without an order.
const IDLE_FRAME: Duration = Duration::from_secs(1);
/// How long a table's request for names or rates may take: 2 s, in which the table stands still.
const ASIDE: Duration = Duration::from_secs(2);
/// How long the names of all categories may take: 5 s, a thousand requests on a local network.
const ALL_NAMES: Duration = Duration::from_secs(5);
/// When the rates are asked for after connecting: 1 s later, when what was missed has come.
const RATES_AFTER: Duration = Duration::from_secs(1);
/// When names or rates are asked for again that did not come: 5 s later.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The most products that are kept: twice as many as a server holds.
const MAX_PRODUCTS: usize = 20_000;
/// The characters of a name that are kept at most: as many bytes as a server stores of one.
const MAX_NAME_CHARS: usize = 200;

/// What the table says while messages come.
const LIVE: &str = "live";
/// The longest position that is kept, in bytes.
const MAX_POSITION_BYTES: usize = 1024;

/// Shows totals, until a signal ends the process or the reader of the output is gone.
///
/// # Errors
/// The server refuses, or does not answer within the time that was given.
pub fn run(options: &Watch) -> Result<(), ClientError> {
    let mut server = Server::new(&options.access)?;
    let path = options.category.as_ref().map_or_else(|| "/orders".to_owned(), |name| format!("/orders/{name}"));
    let mut view = if screen::is_terminal() {
        View::Table(Box::new(Table::new(options).map_err(output)?))
    } else {
        View::Lines(Lines::new())
    };
    let mut position = String::new();
    let mut attempts = Attempts::within(options.access.timeout);
    let mut is_away = false;
    loop {
        let query = format!("since={}&{}", escaped(&position), view.options());
        let lost = match Feed::open(&mut server, &path, &query, attempts.time_left(OPENING)) {
            Ok(mut feed) => {
                view.connected();
                let mut is_live = false;
                let why = loop {
                    if view.tick(&mut server).map_err(output)? == Flow::Over {
                        return Ok(());
                    }
                    match feed.read() {
                        Event::Nothing => {}
                        Event::Lost(why) => break why,
                        Event::Message(message) => {
                            is_live = true;
                            if std::mem::take(&mut is_away) {
                                view.back();
                            }
                            view.show(message, &mut position, &mut server).map_err(output)?;
                        }
                    }
                };
                if is_live {
                    // The time begins when the connection is lost.
                    attempts = Attempts::within(options.access.timeout);
                }
                Later { why: no_connection(&options.access.server, &why), after: None, may_count: false }
            }
            Err(Failure::Refused(why, _)) => return Err(ClientError::Refused(why)),
            Err(Failure::Later(later)) => later,
        };
        let pause = attempts.pause(lost.after).filter(|_| !attempts.are_over());
        let Some(pause) = pause else {
            let seconds = options.access.timeout.unwrap_or_default().as_secs();
            return Err(ClientError::NoAnswer(format!("{}; given up after {seconds} s", lost.why)));
        };
        view.away(&lost.why, !is_away);
        is_away = true;
        let end = Instant::now() + pause;
        while Instant::now() < end {
            if view.tick(&mut server).map_err(output)? == Flow::Over {
                return Ok(());
            }
            thread::sleep(FRAME.min(end.saturating_duration_since(Instant::now())));
        }
    }
}

fn output(error: io::Error) -> ClientError {
    ClientError::Failed("standard output cannot be written".to_owned(), error)
}

/// A text as the value of a parameter (RFC 3986, section 2).
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Whether anybody sees the output.
#[derive(PartialEq, Eq)]
enum Flow {
    GoOn,
    Over,
}

/// Where totals go.
enum View {
    Table(Box<Table>),
    Lines(Lines),
}

impl View {
    /// The options of the feed. Its status messages show that it is alive.
    fn options(&self) -> &'static str {
        match self {
            Self::Table(_) => "every=100&status=true&catalog=true",
            Self::Lines(_) => "status=true",
        }
    }

    fn connected(&mut self) {
        if let Self::Table(table) = self {
            let now = Instant::now();
            (table.names_due, table.rates_due) = (Some(now), Some(now + RATES_AFTER));
            "connected, no message yet".clone_into(&mut table.state);
        }
    }

    /// Shows a message, and keeps its position.
    fn show(&mut self, message: FeedMessage, position: &mut String, server: &mut Server) -> io::Result<()> {
        if let Self::Table(table) = self
            && table.state != LIVE
        {
            LIVE.clone_into(&mut table.state);
            table.is_changed = true;
        }
        match (message, self) {
            (FeedMessage::Total { id, total, position: at }, view) => {
                match view {
                    Self::Table(table) => table.total(id, total),
                    Self::Lines(lines) => lines.total(&id, total)?,
                }
                if let Some(at) = at.filter(|at| at.len() <= MAX_POSITION_BYTES) {
                    *position = at;
                }
            }
            (FeedMessage::Catalog(category), Self::Table(table)) => table.read_category(server, &category),
            _ => {}
        }
        Ok(())
    }

    /// The connection is lost.
    fn away(&mut self, why: &str, is_new: bool) {
        match self {
            Self::Table(table) => {
                table.state = format!("trying again: {why}");
                table.is_changed = true;
            }
            Self::Lines(_) if is_new => drop(writeln!(io::stderr(), "ordercast: {why}; trying again")),
            Self::Lines(_) => {}
        }
    }

    /// Messages come again.
    fn back(&mut self) {
        if let Self::Lines(_) = self {
            let _ = writeln!(io::stderr(), "ordercast: connected again");
        }
    }

    /// What happens beside the feed.
    fn tick(&mut self, server: &mut Server) -> io::Result<Flow> {
        match self {
            Self::Table(table) => table.tick(server),
            Self::Lines(lines) => Ok(if lines.is_over() { Flow::Over } else { Flow::GoOn }),
        }
    }
}

/// What a table knows of a product.
struct Product {
    total: i64,
    window: Window,
}

/// The table on a terminal.
struct Table {
    screen: Screen,
    title: String,
    state: String,
    category: Option<String>,
    /// Ids in the sequence in which they first came, which is that of the server's list.
    ids: Vec<String>,
    products: HashMap<String, Product>,
    names: HashMap<String, String>,
    start: Instant,
    drawn: Instant,
    is_changed: bool,
    /// When the names are asked for.
    names_due: Option<Instant>,
    /// When the rates are asked for.
    rates_due: Option<Instant>,
}

impl Table {
    fn new(options: &Watch) -> io::Result<Self> {
        let feed = options.category.as_deref().unwrap_or("all products");
        let now = Instant::now();
        Ok(Self {
            screen: Screen::enter()?,
            title: format!("{feed} at {}", options.access.server),
            state: "connecting".to_owned(),
            category: options.category.clone(),
            ids: Vec::new(),
            products: HashMap::new(),
            names: HashMap::new(),
            start: now,
            drawn: now,
            is_changed: true,
            names_due: None,
            rates_due: None,
        })
    }

    fn second(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    fn total(&mut self, id: String, total: i64) {
        // An id that no product can have takes no memory.
        if !is_plain(&id) {
            return;
        }
        let second = self.second();
        self.is_changed = true;
        if let Some(product) = self.products.get_mut(&id) {
            product.window.add(second, total.saturating_sub(product.total));
            product.total = total;
        } else if self.ids.len() < MAX_PRODUCTS {
            self.ids.push(id.clone());
            self.products.insert(id, Product { total, window: Window::new(second) });
        }
    }

    /// Reads the names of the products. Until that succeeds, only the ids are shown.
    fn read_names(&mut self, server: &mut Server) {
        let categories = match &self.category {
            Some(category) => Some(vec![category.clone()]),
            None => server.get("/categories", ASIDE).ok().and_then(|list| json::category_names(&list)),
        };
        self.names_due = if categories.is_none() { Some(Instant::now() + AGAIN_AFTER) } else { None };
        let start = Instant::now();
        for category in categories.unwrap_or_default() {
            if start.elapsed() < ALL_NAMES {
                self.read_category(server, &category);
            }
        }
    }

    fn read_category(&mut self, server: &mut Server, category: &str) {
        let list = server.get(&format!("/{}", escaped(category)), ASIDE).ok();
        let Some(products) = list.and_then(|list| json::product_names(&list)) else {
            self.names_due = Some(Instant::now() + AGAIN_AFTER);
            return;
        };
        for product in products.into_iter().filter(|product| is_plain(&product.id)) {
            if self.names.len() < MAX_PRODUCTS || self.names.contains_key(&product.id) {
                let name: String = product.name.chars().take(MAX_NAME_CHARS).collect();
                self.names.insert(product.id, plain(&name));
            }
        }
        self.is_changed = true;
    }

    /// Takes over the server's rates: before it was connected, this table saw no orders.
    fn read_rates(&mut self, server: &mut Server) {
        let path = self.category.as_ref().map_or_else(|| "/rates".to_owned(), |name| format!("/rates/{name}"));
        let answer = server.get(&path, ASIDE).ok().and_then(|answer| json::recent_amounts(&answer));
        let Some(rates) = answer else {
            self.rates_due = Some(Instant::now() + AGAIN_AFTER);
            return;
        };
        self.rates_due = None;
        let second = self.second();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for amounts in rates {
            if let Some(product) = self.products.get_mut(&amounts.id) {
                product.window.set(second, amounts.present, amounts.before, since_epoch.as_secs() % 60 + 1);
            }
        }
        self.is_changed = true;
    }

    fn tick(&mut self, server: &mut Server) -> io::Result<Flow> {
        let now = Instant::now();
        if self.names_due.is_some_and(|due| due <= now) {
            self.read_names(server);
        }
        if self.rates_due.is_some_and(|due| due <= now) {
            self.read_rates(server);
        }
        let since = self.drawn.elapsed();
        if self.screen.is_stale() || since >= IDLE_FRAME || (self.is_changed && since >= FRAME) {
            self.draw()?;
        }
        Ok(Flow::GoOn)
    }

    fn draw(&mut self) -> io::Result<()> {
        let second = self.second();
        let mut rows = Vec::with_capacity(self.ids.len());
        for id in &self.ids {
            let Some(product) = self.products.get_mut(id) else { continue };
            let name = self.names.get(id).cloned().unwrap_or_default();
            rows.push(Row { id: plain(id), name, total: product.total, rate: product.window.per_minute(second) });
        }
        let (width, height) = self.screen.size();
        // A terminal erases the last column when the rest of a full line is erased.
        let width = width.saturating_sub(1);
        screen::draw(&table::layout(&self.title, &self.state, &rows, width, height))?;
        (self.drawn, self.is_changed) = (Instant::now(), false);
        Ok(())
    }
}
