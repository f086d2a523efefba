//! Reading orders, one JSON object a line, on a thread of its own: a read of standard input cannot be interrupted.

use std::io::{self, BufRead, ErrorKind, Read};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::text::short;
use crate::json;
use crate::tally::catalog::{MAX_ID_BYTES, is_plain};

/// The longest line, in bytes: 64 KiB, as much as a server takes in one request.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// Orders that are read ahead: four requests, so that reading goes on while a request waits for its answer.
const AHEAD: usize = 4 * json::MAX_BATCH_ORDERS;

/// An order, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The number of its line, from 1.
    pub(super) line: u64,
    /// The bytes of the input up to the end of its line.
    pub(super) end: u64,
    /// The line of a request, with its line end.
    pub(super) text: String,
    /// The key that is in it.
    pub(super) key: String,
}

/// What comes from the input.
#[derive(Debug)]
pub(super) enum Input {
    /// An order.
    Entry(Entry),
    /// A line that is no order, and why. Nothing comes behind it.
    Wrong(u64, String),
    /// The input cannot be read behind this many lines. Nothing comes behind it.
    Failed(u64, io::Error),
}

/// Starts to read orders. An order without a key gets the prefix and the number of its line as its key. The channel ends
/// with the input.
///
/// # Errors
/// When the system refuses a thread.
pub(super) fn read(input: impl Read + Send + 'static, prefix: &str) -> io::Result<Receiver<Input>> {
    let (sender, receiver) = bounded(AHEAD);
    let prefix = prefix.to_owned();
    thread::Builder::new().name("input".into()).spawn(move || {
        let input = io::BufReader::with_capacity(MAX_LINE_BYTES as usize, input);
        read_lines(input, &prefix, &sender);
    })?;
    Ok(receiver)
}

fn read_lines(mut input: impl BufRead, prefix: &str, to: &Sender<Input>) {
    let (mut bytes, mut number, mut end) = (Vec::new(), 0, 0);
    loop {
        bytes.clear();
        let message = match input.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(length) => {
                number += 1;
                end += length as u64;
                match entry(&bytes, prefix, number, end) {
                    Ok(None) => continue,
                    Ok(Some(entry)) => Input::Entry(entry),
                    Err(why) => Input::Wrong(number, why),
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Input::Failed(number, error),
        };
        let is_last = !matches!(message, Input::Entry(_));
        // Without a receiver the command is over.
        if to.send(message).is_err() || is_last {
            return;
        }
    }
}

/// The order of a line; `None` for a blank one.
fn entry(bytes: &[u8], prefix: &str, line: u64, end: u64) -> Result<Option<Entry>, String> {
    if bytes.len() as u64 > MAX_LINE_BYTES {
        return Err(format!("it has more than {MAX_LINE_BYTES} bytes; write one order a line"));
    }
    let json = bytes.trim_ascii();
    if json.is_empty() {
        return Ok(None);
    }
    let order = json::parse_batch_order(json).map_err(|why| short(&why))?;
    if !is_plain(&order.id) {
        return Err(format!("no product's id is {}; it is 1 to {MAX_ID_BYTES} letters, digits, '-' or '_'", {
            short(&format!("{:?}", order.id))
        }));
    }
    let key = order.key.as_ref().map_or_else(|| format!("{prefix}-{line}"), |key| key.as_str().to_owned());
    Ok(Some(Entry { line, end, text: json::order_line(&order, &key), key }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &'static [u8]) -> Vec<Input> {
        read(input, "shift").unwrap().into_iter().collect()
    }

    #[test]
    fn each_line_is_an_order_under_its_own_key_or_that_of_its_number() {
        let input = b"{\"id\":\"A1\",\"amount\":10}\r\n\n{\"id\":\"B1\",\"amount\":-1e0,\"key\":\"k\",\"note\":7}";
        let [Input::Entry(first), Input::Entry(second)] = &all(input)[..] else { panic!() };
        assert_eq!((first.line, first.end, first.key.as_str()), (1, 25, "shift-1"));
        assert_eq!(first.text, "{\"id\":\"A1\",\"amount\":10,\"key\":\"shift-1\"}\n");
        assert_eq!((second.line, second.end, second.key.as_str()), (3, input.len() as u64, "k"));
        assert_eq!(second.text, "{\"id\":\"B1\",\"amount\":-1,\"key\":\"k\"}\n");
    }

    #[test]
    fn the_first_wrong_line_is_named_and_is_the_last() {
        for (line, part) in [
            (&b"nonsense"[..], "not valid JSON"),
            (b"[1]", "must be a JSON object"),
            (b"{\"amount\":1}", "id is missing"),
            (b"{\"id\":\"A1\"}", "amount is missing"),
            (b"{\"id\":\"A1\",\"amount\":1.5}", "whole number"),
            (b"{\"id\":\"A1\",\"amount\":1,\"key\":\"\"}", "key must have"),
            (b"{\"id\":\"A/1\",\"amount\":1}", "no product's id"),
            (b"\xff\xfe\x00\x1b[2J", "not valid JSON"),
        ] {
            let input = [b"{\"id\":\"A1\",\"amount\":1}\n", line, b"\n{\"id\":\"A1\",\"amount\":1}\n"].concat();
            let all = all(input.leak());
            let [Input::Entry(_), Input::Wrong(2, why)] = &all[..] else { panic!("{all:?}") };
            assert!(why.contains(part) && !why.contains(char::is_control), "{why}");
        }
    }

    #[test]
    fn a_line_of_any_length_takes_bounded_memory() {
        let order = "{\"id\":\"A1\",\"amount\":1}";
        let longest = format!("{}{order}", " ".repeat(MAX_LINE_BYTES as usize - order.len()));
        assert!(matches!(&all(longest.clone().into_bytes().leak())[..], [Input::Entry(_)]));
        let endless = io::repeat(b' ');
        let all: Vec<_> = read(endless, "x").unwrap().into_iter().collect();
        assert!(matches!(&all[..], [Input::Wrong(1, why)] if why.contains("65536 bytes")), "{all:?}");
    }

    #[test]
    fn an_input_that_cannot_be_read_says_behind_which_line() {
        struct Broken(bool);
        impl Read for Broken {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("gone"));
                }
                bytes[..23].copy_from_slice(b"{\"id\":\"A1\",\"amount\":1}\n");
                Ok(23)
            }
        }
        let all: Vec<_> = read(Broken(false), "x").unwrap().into_iter().collect();
        assert!(matches!(&all[..], [Input::Entry(_), Input::Failed(1, _)]), "{all:?}");
    }
}
