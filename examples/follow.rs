//! Follows the totals of a category over a WebSocket, without a gap: after a lost connection it goes on where it was, and
//! prints the total after every order that was made meanwhile.
//!
//! `cargo run --example follow -- localhost:3000 electronics`

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tungstenite::{Message, client};

/// With `status=true` the server sends a message every 15 s. A connection that is silent for longer than twice that is lost.
const SILENCE: Duration = Duration::from_secs(35);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

fn main() {
    let mut arguments = env::args().skip(1);
    let (Some(server), Some(category), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: follow HOST:PORT CATEGORY");
        std::process::exit(2);
    };
    // Empty: the messages have positions, and the first list comes whole.
    let mut position = String::new();
    let mut wait = FIRST_WAIT;
    loop {
        let before = position.clone();
        let Err(error) = follow(&server, &category, &mut position);
        eprintln!("{error}; trying again");
        // A connection that brought something is no failed attempt.
        wait = if position == before { LONGEST_WAIT.min(2 * wait) } else { FIRST_WAIT };
        thread::sleep(wait);
    }
}

/// Prints totals until the connection is lost.
fn follow(server: &str, category: &str, position: &mut String) -> Result<std::convert::Infallible, Box<dyn Error>> {
    let stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let address = format!("ws://{server}/orders/{category}?status=true&since={position}");
    let (mut socket, _) = client(address, stream)?;
    loop {
        // Pings are answered by the library.
        let Message::Text(text) = socket.read()? else { continue };
        let message: Value = serde_json::from_str(&text)?;
        let (Some(id), Some(total)) = (message["id"].as_str(), message["total"].as_i64()) else { continue };
        println!("{id} {total}");
        if let Some(own) = message["position"].as_str() {
            own.clone_into(position);
        }
    }
}
