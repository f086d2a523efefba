//! A server inside another program: an order in process, one over HTTP, the totals, and the end.
//!
//! `cargo run --example embed`

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use ordercast::{Config, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("ordercast-embed-{}", std::process::id()));
    let mut config = Config::default();
    config.data = folder.clone();
    let server = Server::from_listeners(&config, vec![TcpListener::bind("127.0.0.1:0")?])?;
    let (address, handle) = (server.addresses()[0], server.handle());
    let running = thread::spawn(|| server.run());

    // The key makes a repeat harmless.
    handle.order("A1", 10, Some("order-1"))?;
    handle.order("A1", 10, Some("order-1"))?;

    let body = r#"{"amount":2}"#;
    let mut client = TcpStream::connect(address)?;
    write!(
        client,
        "POST /orders/A1 HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert!(answer.ends_with(r#"{"ok":true}"#), "{answer}");

    for product in handle.totals("electronics")? {
        println!("{}: {}", product.id, product.total);
    }
    handle.shutdown();
    running.join().expect("the server does not panic")?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
