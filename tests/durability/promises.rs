//! What the server has promised to its clients up to a point of the trace: answered orders, shown totals, listed
//! products. And the check whether a folder still has all of it when the server opens it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::load::parse_total;
use crate::common::websocket::{TEXT, frame_head};
use crate::common::{Client, Server, TempDir};
use crate::replay::Image;
use crate::trace::{Kind, Record};

/// A connection: the number of the server process, from 0, and the port of the client.
pub type Connection = (usize, u16);

/// The product of each connection that sends orders. A port is used again after its connection is closed, so an entry
/// is valid from the place in the trace at which its connection was opened.
#[derive(Clone, Debug, Default)]
pub struct Orderers(HashMap<Connection, Vec<(u64, usize)>>);

impl Orderers {
    /// Adds a connection that was just opened and has sent nothing yet.
    pub fn add(&mut self, process: usize, client: &Client, trace: &Path, product: usize) {
        let port = client.stream().local_addr().expect("an address").port();
        let place = fs::metadata(trace).expect("the shim writes a trace").len();
        self.0.entry((process, port)).or_default().push((place, product));
    }

    /// The place at which the connection that had this port at `place` was opened, and its product.
    fn find(&self, connection: Connection, place: u64) -> Option<(u64, usize)> {
        self.0.get(&connection)?.iter().rev().find(|(opened, _)| *opened <= place).copied()
    }
}

/// A product whose orders all have the same amount, so that its total tells their number.
#[derive(Clone, Debug)]
pub struct Product {
    pub id: String,
    /// The starting total.
    pub start: i64,
    pub amount: i64,
}

impl Product {
    /// The number of orders in a total.
    pub fn count(&self, total: i64) -> Result<i64, String> {
        let sum = total - self.start;
        if sum % self.amount == 0 && sum / self.amount >= 0 {
            return Ok(sum / self.amount);
        }
        Err(format!("the total {total} of {} is no sum of orders of {}", self.id, self.amount))
    }
}

/// Bounds for the number of orders of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// Answered with 200.
    pub answered: i64,
    /// Answered with 500.
    pub unknown: i64,
    /// The largest number in a total that was shown.
    pub shown: i64,
}

impl Promise {
    /// Whether `kept` orders are possible, with up to `under_way` unanswered ones.
    pub fn allows(&self, kept: i64, under_way: i64) -> bool {
        (self.answered.max(self.shown)..=self.answered + self.unknown + under_way).contains(&kept)
    }

    /// A new process shows exactly the orders that were kept: no outcome is unknown any more.
    pub fn settle(&mut self, shown: i64) {
        *self = Promise { answered: shown, unknown: 0, shown: self.shown.max(shown) };
    }
}

#[derive(Clone, Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    is_feed: bool,
}

/// All promises up to a point of the trace.
#[derive(Clone, Debug)]
pub struct Promises {
    products: Vec<Product>,
    orders: Vec<Promise>,
    /// Ids of products that were listed.
    named: BTreeSet<String>,
    /// By connection, and by the place in the trace at which it was opened if it sends orders.
    streams: HashMap<(Connection, Option<u64>), Stream>,
    process: usize,
    /// Whether this process has listed its totals.
    settled: bool,
    last_number: u32,
    /// The number of totals in all feeds.
    pub messages: usize,
}

impl Promises {
    pub fn new(products: Vec<Product>) -> Promises {
        let orders = vec![Promise::default(); products.len()];
        Promises {
            products,
            orders,
            named: BTreeSet::new(),
            streams: HashMap::new(),
            process: 0,
            settled: false,
            last_number: 0,
            messages: 0,
        }
    }

    /// Processes the next record.
    pub fn feed(&mut self, record: &Record, orderers: &Orderers) {
        if record.kind == Kind::Done {
            return;
        }
        if record.number < self.last_number {
            self.process += 1;
            self.settled = false;
        }
        self.last_number = record.number;
        if record.kind != Kind::Send {
            return;
        }
        let connection = (self.process, record.result as u16);
        let (opened, product) = orderers.find(connection, record.place).unzip();
        let mut stream = self.streams.remove(&(connection, opened)).unwrap_or_default();
        stream.bytes.extend_from_slice(&record.data);
        while let Some(length) = self.take(&mut stream, product) {
            stream.bytes.drain(..length);
        }
        self.streams.insert((connection, opened), stream);
    }

    /// Processes the next complete response or message, and returns its length.
    fn take(&mut self, stream: &mut Stream, poster: Option<usize>) -> Option<usize> {
        let bytes = &stream.bytes;
        if stream.is_feed {
            let (opcode, head, length) = frame_head(bytes).expect("a frame")?;
            let payload = bytes.get(head..head + length)?;
            if opcode == TEXT {
                let (id, total) = parse_total(payload).expect("a total");
                self.show(id, total);
                self.messages += 1;
            }
            return Some(head + length);
        }
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..head]).expect("a head");
        let status: u16 = text[9..12].parse().expect("a status");
        let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        let body = bytes.get(head..head + length)?;
        match (status, poster) {
            (101, _) => stream.is_feed = true,
            (200, Some(product)) => self.orders[product].answered += 1,
            (500, Some(product)) => self.orders[product].unknown += 1,
            (503 | 507, Some(_)) => {}
            (_, Some(_)) => panic!("an order was answered with {status}"),
            (200, None) => {
                let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
                self.list(json.as_array().map_or(&[], Vec::as_slice));
            }
            (_, None) => {}
        }
        Some(head + length)
    }

    /// Processes a list of products, with or without totals.
    fn list(&mut self, list: &[Value]) {
        for item in list {
            let Some(id) = item["id"].as_str() else { continue };
            self.named.insert(id.to_owned());
            let Some(total) = item["total"].as_i64() else { continue };
            self.show(id, total);
            if self.settled {
                continue;
            }
            if let Some(place) = self.products.iter().position(|product| product.id == id) {
                let count = self.products[place].count(total).unwrap_or_else(|why| panic!("{why}"));
                self.orders[place].settle(count);
            }
        }
        self.settled |= list.iter().any(|item| item["total"].is_i64());
    }

    fn show(&mut self, id: &str, total: i64) {
        if let Some(place) = self.products.iter().position(|product| product.id == id) {
            let count = self.products[place].count(total).unwrap_or_else(|why| panic!("{why}"));
            let shown = &mut self.orders[place].shown;
            *shown = count.max(*shown);
        }
        self.named.insert(id.to_owned());
    }

    /// Checks that these totals keep the promises.
    pub fn check(&self, totals: &BTreeMap<String, i64>) -> Result<(), String> {
        if let Some(id) = self.named.iter().find(|id| !totals.contains_key(*id)) {
            return Err(format!("{id} was listed and is missing"));
        }
        for (product, promise) in self.products.iter().zip(&self.orders) {
            let kept = totals.get(&product.id).map_or(Ok(0), |total| product.count(*total))?;
            if !promise.allows(kept, 1) {
                return Err(format!("{} has {kept} orders: {promise:?}", product.id));
            }
        }
        Ok(())
    }

    /// Starts a server on a folder with these files, and checks its totals and its log.
    pub fn check_image(&self, image: &Image, catalog: &str) -> Result<(), String> {
        let temp = TempDir::in_memory();
        let folder = temp.path().join("data");
        write_image(image, &folder);
        let server = Server::builder().data(&folder).catalog(catalog).try_start()?;
        let totals = totals(&server);
        check_log(&server, &totals, &self.products)?;
        self.check(&totals)
    }
}

/// Creates a folder with these files.
pub fn write_image(image: &Image, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder can be made");
    // The folder is synced when it has the lock file, and before it has a data file.
    fs::write(folder.join("ordercast.lock"), "").expect("a file can be written");
    for (name, content) in image {
        fs::write(folder.join(name), content).expect("a file can be written");
    }
}

/// All totals, by id.
#[track_caller]
pub fn totals(server: &Server) -> BTreeMap<String, i64> {
    server.totals().into_iter().collect()
}

/// Checks that the order log adds up to the totals, order by order.
pub fn check_log(server: &Server, totals: &BTreeMap<String, i64>, products: &[Product]) -> Result<(), String> {
    const PAGE: usize = 1_000;
    let start = |id: &str| products.iter().find(|product| product.id == id).map_or(0, |product| product.start);
    let mut sums: BTreeMap<String, i64> = totals.keys().map(|id| (id.clone(), start(id))).collect();
    let mut client = server.client();
    let mut last = 0;
    loop {
        let page = client.get(&format!("/log?after={last}&limit={PAGE}"));
        if page.status != 200 {
            return Err(format!("the log cannot be read: {page:?}"));
        }
        let lines: Vec<Value> =
            page.text().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        for line in &lines {
            let (seq, id) = (line["seq"].as_i64().expect("a number"), line["id"].as_str().expect("an id"));
            if seq != last + 1 {
                return Err(format!("the log goes on with {seq} after {last}"));
            }
            last = seq;
            let sum = sums.get_mut(id).ok_or_else(|| format!("the log names {id}, which is not there"))?;
            *sum += line["amount"].as_i64().expect("an amount");
            if line["total"].as_i64() != Some(*sum) {
                return Err(format!("the log's total is not the sum so far, {sum}: {line}"));
            }
        }
        if lines.len() < PAGE {
            break;
        }
    }
    if sums == *totals { Ok(()) } else { Err(format!("the log's sums {sums:?} are not the totals {totals:?}")) }
}
