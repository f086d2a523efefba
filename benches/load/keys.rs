//! Random keys for orders, and filling a server with keys before it is measured.

use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::answer;
use crate::server::{PREFIX, Server};

/// Bytes of a key: the hexadecimal digits of 128 bits, as many as of a UUID.
pub const KEY_BYTES: usize = 32;
/// Orders in one request: as many as a server takes.
const BATCH: usize = 1_000;
/// The longest time to the answer of one batch.
const DEADLINE: Duration = Duration::from_secs(30);

/// An endless sequence of random keys: SplitMix64 from a random seed, which takes some nanoseconds a key.
pub struct Keys(u64);

impl Keys {
    /// A sequence of its own.
    pub fn new() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// The next key, in ASCII.
    pub fn next(&mut self) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        for half in key.chunks_mut(KEY_BYTES / 2) {
            let mut bits = self.next_bits();
            for digit in half {
                *digit = b"0123456789abcdef"[(bits & 15) as usize];
                bits >>= 4;
            }
        }
        key
    }

    fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

/// Posts so many orders by batches, of each product in turn; the first `keys` of them have a key of their own.
pub fn fill(server: &mut Server, orders: usize, keys: usize) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("filling: {error}");
    let mut stream = TcpStream::connect(server.orders_address()).map_err(fail)?;
    stream.set_read_timeout(Some(DEADLINE)).map_err(fail)?;
    let (mut random, mut request, mut answer) = (Keys::new(), Vec::new(), Vec::new());
    let products = server.totals.len();
    let mut done = 0;
    while done < orders {
        let count = BATCH.min(orders - done);
        let mut body = String::new();
        for place in done..done + count {
            let product = place % products;
            server.totals[product] += 1;
            let number = product + 1;
            let key = random.next();
            let key = std::str::from_utf8(&key).map_err(|error| error.to_string())?;
            // Writing to a string does not fail.
            let _ = if place < keys {
                writeln!(body, r#"{{"id":"{PREFIX}{number}","amount":1,"key":"{key}"}}"#)
            } else {
                writeln!(body, r#"{{"id":"{PREFIX}{number}","amount":1}}"#)
            };
        }
        request.clear();
        let length = body.len();
        let host = server.address;
        write!(
            request,
            "POST /orders HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .map_err(fail)?;
        stream.write_all(&request).map_err(fail)?;
        receive(&mut stream, &mut answer)?;
        done += count;
    }
    Ok(())
}

/// Reads the answer to a batch.
fn receive(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<(), String> {
    answer.clear();
    let mut buffer = [0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer).map_err(|error| format!("filling: {error}"))?;
        answer.extend(&buffer[..count]);
        match answer::is_whole_and_ok(answer) {
            Some(true) => return Ok(()),
            None if count > 0 => {}
            _ => return Err(format!("filling: wrong answer: {}", String::from_utf8_lossy(answer))),
        }
    }
}
