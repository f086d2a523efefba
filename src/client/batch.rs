//! Orders that are sent in one request.

use super::input::Entry;
use crate::json::MAX_BATCH_ORDERS;

/// The largest body that a server takes, in bytes (docs/api.md, Limits).
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Orders in the sequence of their lines, as many as one request may have.
#[derive(Debug, Default)]
pub(super) struct Batch {
    body: String,
    entries: Vec<Entry>,
}

impl Batch {
    /// Adds an order; gives it back if there is no room.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), Entry> {
        if self.entries.len() == MAX_BATCH_ORDERS || self.body.len() + entry.text.len() > MAX_BODY_BYTES {
            return Err(entry);
        }
        self.body.push_str(&entry.text);
        self.entries.push(entry);
        Ok(())
    }

    /// Keeps only the first orders.
    pub(super) fn truncate(&mut self, length: usize) {
        self.entries.truncate(length);
        self.body = self.entries.iter().map(|entry| entry.text.as_str()).collect();
    }

    pub(super) fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: u64, text: &str) -> Entry {
        Entry { line, end: 0, text: text.to_owned(), key: String::new() }
    }

    #[test]
    fn a_batch_keeps_the_bounds_of_a_request() {
        let mut many = Batch::default();
        let taken = (1..=2_000).take_while(|line| many.push(entry(*line, "x\n")).is_ok()).count();
        assert_eq!((taken, many.body().len()), (1_000, 2_000));
        let mut long = Batch::default();
        let line = "x".repeat(700);
        let taken = (1..=2_000).take_while(|number| long.push(entry(*number, &line)).is_ok()).count();
        assert_eq!(taken, 64 * 1024 / 700);
        assert_eq!(long.push(entry(7, &line)).unwrap_err().line, 7);
        long.truncate(2);
        assert_eq!((long.body().len(), long.entries().len()), (1_400, 2));
    }
}
