//! What the server has promised to its clients by a point of the trace: orders answered, totals shown, products named.
//! And whether a folder keeps that, as the real server finds it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::load::parse_total;
use crate::common::websocket::{TEXT, frame_head};
use crate::common::{Client, Server, TempDir};
use crate::replay::Image;
use crate::trace::{Kind, Record};

/// One connection of one process: which process it was, counted from 0, and the port of the client.
pub type Connection = (usize, u16);

/// Which product's orders come over which connection. A port is used again when its connection is closed, so each
/// entry counts from the place in the trace at which its connection was opened.
#[derive(Clone, Debug, Default)]
pub struct Orderers(HashMap<Connection, Vec<(u64, usize)>>);

impl Orderers {
    /// Notes a connection that was just opened and has sent nothing yet.
    pub fn add(&mut self, process: usize, client: &Client, trace: &Path, product: usize) {
        let port = client.stream().local_addr().expect("an address").port();
        let place = fs::metadata(trace).expect("the shim writes a trace").len();
        self.0.entry((process, port)).or_default().push((place, product));
    }

    /// The product of the connection that had this port then, and where it was opened.
    fn find(&self, connection: Connection, place: u64) -> Option<(u64, usize)> {
        self.0.get(&connection)?.iter().rev().find(|(opened, _)| *opened <= place).copied()
    }
}

/// A product whose orders are all of one amount, one after the other, so that its total tells how many there are.
#[derive(Clone, Debug)]
pub struct Product {
    pub id: String,
    /// What its total began with.
    pub start: i64,
    pub amount: i64,
}

impl Product {
    /// How many orders a total holds.
    pub fn count(&self, total: i64) -> Result<i64, String> {
        let sum = total - self.start;
        if sum % self.amount == 0 && sum / self.amount >= 0 {
            return Ok(sum / self.amount);
        }
        Err(format!("the total {total} of {} is no sum of orders of {}", self.id, self.amount))
    }
}

/// How many orders of one product there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// Answered with 200.
    pub answered: i64,
    /// Answered with 500.
    pub unknown: i64,
    /// The most that a total has shown.
    pub shown: i64,
}

impl Promise {
    /// Whether that many may be there, with one order at most under way.
    pub fn allows(&self, kept: i64, under_way: i64) -> bool {
        (self.answered.max(self.shown)..=self.answered + self.unknown + under_way).contains(&kept)
    }

    /// What a new process shows is all there is: nothing is unknown any more.
    pub fn settle(&mut self, shown: i64) {
        *self = Promise { answered: shown, unknown: 0, shown: self.shown.max(shown) };
    }
}

#[derive(Clone, Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    is_feed: bool,
}

/// What was promised up to a point.
#[derive(Clone, Debug)]
pub struct Promises {
    products: Vec<Product>,
    orders: Vec<Promise>,
    /// Ids of products that an answer has named.
    named: BTreeSet<String>,
    /// By connection, and by the place in the trace at which it was opened if it is one of those that order.
    streams: HashMap<(Connection, Option<u64>), Stream>,
    process: usize,
    /// Whether this process has listed its totals already.
    settled: bool,
    last_number: u32,
    /// Every total of every feed so far.
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

    /// Goes on by one record.
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

    /// Takes in the next answer or message if it has come whole, and returns its length.
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

    /// An answer that lists products, with or without their totals.
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

    /// Whether these totals keep what was promised.
    pub fn check(&self, totals: &BTreeMap<String, i64>) -> Result<(), String> {
        if let Some(id) = self.named.iter().find(|id| !totals.contains_key(*id)) {
            return Err(format!("{id} was named, and is not there"));
        }
        for (product, promise) in self.products.iter().zip(&self.orders) {
            let kept = totals.get(&product.id).map_or(Ok(0), |total| product.count(*total))?;
            if !promise.allows(kept, 1) {
                return Err(format!("of {}, {kept} orders are there: {promise:?}", product.id));
            }
        }
        Ok(())
    }

    /// Starts a server on a folder with these files, and checks what it finds.
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

/// Makes a folder with these files.
pub fn write_image(image: &Image, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder can be made");
    for (name, content) in image {
        fs::write(folder.join(name), content).expect("a file can be written");
    }
}

/// All totals, as the server lists them.
#[track_caller]
pub fn totals(server: &Server) -> BTreeMap<String, i64> {
    server.totals().into_iter().collect()
}

/// Whether the log of orders adds up to the totals, order by order.
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
