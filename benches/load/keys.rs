//! Random keys for orders, and filling a server with keys before it is measured.

use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::requests::Client;
use crate::server::{PREFIX, Server};

/// Bytes of a key: the hexadecimal digits of 128 bits, as many as of a UUID.
pub const KEY_BYTES: usize = 32;
/// Orders in one request: as many as a server takes.
const BATCH: usize = 1_000;
/// The longest body that a server takes, and the bytes of the longest order.
const BATCH_BYTES: usize = 64 * 1024;
const ORDER_BYTES: usize = 80;
/// Orders between two lines that say how far the filling is.
const SHOW_EVERY: usize = 1_000_000;

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
    let mut client = Client::connect(server.orders_address())?;
    let (mut random, mut body) = (Keys::new(), String::new());
    let products = server.totals.len();
    let mut done = 0;
    while done < orders {
        body.clear();
        let first = done;
        while done < orders && done - first < BATCH && body.len() + ORDER_BYTES <= BATCH_BYTES {
            let product = done % products;
            server.totals[product] += 1;
            let number = product + 1;
            let key = random.next();
            let key = std::str::from_utf8(&key).map_err(|error| error.to_string())?;
            // Writing to a string does not fail.
            let _ = if done < keys {
                writeln!(body, r#"{{"id":"{PREFIX}{number}","amount":1,"key":"{key}"}}"#)
            } else {
                writeln!(body, r#"{{"id":"{PREFIX}{number}","amount":1}}"#)
            };
            done += 1;
        }
        client.post("/orders", "application/x-ndjson", &body)?;
        let last_shown = first / SHOW_EVERY;
        if done / SHOW_EVERY > last_shown {
            eprintln!("filling: {done} of {orders} orders");
        }
    }
    Ok(())
}
