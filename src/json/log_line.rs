//! Lines of the order log as NDJSON.

use std::fmt::Write;

use super::quoted;
use crate::store::order_log::Entry;

/// Appends a line: `{"seq":1,"time":"…","id":"A1","amount":2,"total":13,"key":"…"}`; without `key` if the order had
/// none.
pub fn push_log_line(lines: &mut String, Entry { seq, time, id, amount, total, key }: &Entry) {
    let (time, id) = (quoted(time), quoted(id));
    // Writing to a String never fails.
    let _ = write!(lines, r#"{{"seq":{seq},"time":{time},"id":{id},"amount":{amount},"total":{total}"#);
    if let Some(key) = key {
        let _ = write!(lines, r#","key":{}"#, quoted(key));
    }
    lines.push_str("}\n");
}
