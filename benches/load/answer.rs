//! Checks the answer to a POST: status, length and body.

/// The right answer to every order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// 200 with the body `{"ok":true}`, from a server that keeps totals.
    Accepted,
    /// Any 2xx with any body, from a relay.
    Relayed,
}

/// The result of a check.
pub enum Verdict {
    /// A whole answer, and the expected one.
    Accepted,
    /// 503: the order was not counted.
    Rejected,
    /// More bytes are needed.
    Partial,
    /// Any other answer.
    Wrong,
}

/// The length of the head at the start of `bytes`, its empty line included, once that is there.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4)
}

/// Checks `bytes`, which hold at most one answer, because requests are not pipelined.
pub fn check(bytes: &[u8], expected: Expected) -> Verdict {
    let Some(length) = head_length(bytes) else {
        return Verdict::Partial;
    };
    let (head, body) = bytes.split_at(length);
    let Some(status) = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)) else {
        return Verdict::Wrong;
    };
    let Some(length) = content_length(head) else {
        return Verdict::Wrong;
    };
    if body.len() < length {
        return Verdict::Partial;
    }
    let right = match expected {
        Expected::Accepted => status == b"200" && body == br#"{"ok":true}"#,
        Expected::Relayed => status[0] == b'2' && body.len() == length,
    };
    match (right, status) {
        (true, _) => Verdict::Accepted,
        (false, b"503") => Verdict::Rejected,
        (false, _) => Verdict::Wrong,
    }
}

/// Whether `bytes`, which hold at most one answer, are one with the status 200; `None` while it is not complete.
pub fn is_whole_and_ok(bytes: &[u8]) -> Option<bool> {
    let (head, body) = bytes.split_at(head_length(bytes)?);
    let is_ok = head.starts_with(b"HTTP/1.1 200 ");
    match content_length(head) {
        Some(length) if is_ok => (body.len() >= length).then_some(body.len() == length),
        _ => Some(false),
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        if !name.eq_ignore_ascii_case(NAME) {
            return None;
        }
        std::str::from_utf8(value).ok()?.trim().parse().ok()
    })
}
