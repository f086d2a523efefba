//! The peer on axum: totals behind a mutex, one tokio broadcast channel per category. With DATA each order is a transaction
//! of rusqlite that is synced, on tokio's threads for blocking calls; without it nothing is durable.
//!
//! Usage: `ordercast-peer-axum CATALOG [DATA]`; prints `listening on http://127.0.0.1:PORT`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use futures_util::{SinkExt, StreamExt};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Messages a subscriber may be behind before it is given the current totals instead.
const BACKLOG: usize = 4096;

#[derive(Deserialize)]
struct Listed {
    products: Vec<Product>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Product {
    id: String,
    name: String,
    rrp: String,
    info: String,
    #[serde(skip_serializing)]
    total: i64,
}

#[derive(Deserialize)]
struct Order {
    amount: i64,
}

#[derive(Serialize)]
struct Accepted {
    ok: bool,
}

struct Category {
    products: Vec<Product>,
    totals: BTreeMap<String, i64>,
    live: broadcast::Sender<Utf8Bytes>,
}

struct Shop {
    category_of: HashMap<String, String>,
    categories: HashMap<String, Mutex<Category>>,
    store: Option<Mutex<Connection>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}

fn open_store(path: &str, categories: &HashMap<String, Mutex<Category>>) -> rusqlite::Result<Connection> {
    let mut store = Connection::open(path)?;
    store.pragma_update(None, "journal_mode", "WAL")?;
    store.pragma_update(None, "synchronous", "FULL")?;
    store.execute_batch(
        "CREATE TABLE totals (id TEXT PRIMARY KEY, total INTEGER NOT NULL) WITHOUT ROWID;
         CREATE TABLE orders (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, id TEXT NOT NULL, amount INTEGER NOT NULL);",
    )?;
    let begun = store.transaction()?;
    for category in categories.values() {
        for (id, total) in &lock(category).totals {
            begun.execute("INSERT INTO totals VALUES (?1, ?2)", params![id, total])?;
        }
    }
    begun.commit()?;
    Ok(store)
}

/// Keeps an order; returns the total after it.
fn keep(store: &mut Connection, id: &str, amount: i64) -> rusqlite::Result<i64> {
    let at = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    let order = store.transaction()?;
    order
        .prepare_cached("INSERT INTO orders (at, id, amount) VALUES (?1, ?2, ?3)")?
        .execute(params![at, id, amount])?;
    let total = order
        .prepare_cached("UPDATE totals SET total = total + ?1 WHERE id = ?2 RETURNING total")?
        .query_row(params![amount, id], |row| row.get(0))?;
    order.commit()?;
    Ok(total)
}

fn message(id: &str, total: i64) -> Utf8Bytes {
    format!(r#"{{"id":"{id}","total":{total}}}"#).into()
}

/// The totals and a receiver of everything after them, taken in one step so that there is no gap.
fn subscribe(category: &Mutex<Category>) -> (Vec<Utf8Bytes>, broadcast::Receiver<Utf8Bytes>) {
    let category = lock(category);
    let snapshot = category.totals.iter().map(|(id, total)| message(id, *total)).collect();
    (snapshot, category.live.subscribe())
}

async fn list(State(shop): State<Arc<Shop>>, Path(name): Path<String>) -> Response {
    match shop.categories.get(&name) {
        Some(category) => Json(lock(category).products.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn post(State(shop): State<Arc<Shop>>, Path(id): Path<String>, Json(order): Json<Order>) -> Response {
    if !shop.category_of.contains_key(&id) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let is_durable = shop.store.is_some();
    let add = move || -> rusqlite::Result<()> {
        // Held until the total is published, so that subscribers see totals in their order.
        let mut store = shop.store.as_ref().map(lock);
        let kept = store.as_mut().map(|store| keep(store, &id, order.amount)).transpose()?;
        let mut category = lock(&shop.categories[&shop.category_of[&id]]);
        let total = category.totals.entry(id.clone()).or_default();
        *total = kept.unwrap_or(*total + order.amount);
        let text = message(&id, *total);
        // An error only means that nobody is subscribed.
        let _ = category.live.send(text);
        Ok(())
    };
    let added = if is_durable { tokio::task::spawn_blocking(add).await.expect("no panic") } else { add() };
    match added {
        Ok(()) => Json(Accepted { ok: true }).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn upgrade(State(shop): State<Arc<Shop>>, Path(name): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    if !shop.categories.contains_key(&name) {
        return StatusCode::NOT_FOUND.into_response();
    }
    upgrade.on_upgrade(move |socket| async move { relay(socket, &shop.categories[&name]).await })
}

/// Feeds one subscriber until either side ends. What waits in the channel goes out in one flush.
async fn relay(socket: WebSocket, category: &Mutex<Category>) {
    let (mut sink, mut source) = socket.split();
    let (mut waiting, mut live) = subscribe(category);
    loop {
        for text in waiting.drain(..) {
            if sink.feed(Message::Text(text)).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
        tokio::select! {
            received = live.recv() => match received {
                Ok(text) => {
                    waiting.push(text);
                    while let Ok(text) = live.try_recv() {
                        waiting.push(text);
                    }
                }
                Err(RecvError::Lagged(_)) => (waiting, live) = subscribe(category),
                Err(RecvError::Closed) => return,
            },
            inbound = source.next() => match inbound {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: ordercast-peer-axum CATALOG [DATA]")?;
    let catalog: HashMap<String, Listed> = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let mut shop = Shop { category_of: HashMap::new(), categories: HashMap::new(), store: None };
    for (name, listed) in catalog {
        let mut totals = BTreeMap::new();
        for product in &listed.products {
            shop.category_of.insert(product.id.clone(), name.clone());
            totals.insert(product.id.clone(), product.total);
        }
        let (live, _) = broadcast::channel(BACKLOG);
        shop.categories.insert(name, Mutex::new(Category { products: listed.products, totals, live }));
    }
    if let Some(path) = std::env::args().nth(2) {
        shop.store = Some(Mutex::new(open_store(&path, &shop.categories)?));
    }
    let app = Router::new()
        .route("/{name}", get(list))
        .route("/orders/{name}", get(upgrade).post(post))
        .with_state(Arc::new(shop));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // Only latency suffers where it fails.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await?;
    Ok(())
}
