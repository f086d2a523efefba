//! The answer to a POST, parsed as far as it must be checked: status, length, body.

/// What is expected of every answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// 200 with the body `{"ok":true}`, from a server that keeps totals.
    Accepted,
    /// Any 2xx, from a relay that answers in its own words.
    Relayed,
}

/// What the bytes at hand say.
pub enum Verdict {
    /// A whole answer, and the right one.
    Accepted,
    /// 503: the server declined this order and says so.
    Refused,
    /// More bytes are needed.
    Partial,
    /// A whole answer, but the wrong one.
    Wrong,
}

/// Judges `bytes`, which must hold at most one answer: nothing is pipelined.
pub fn judge(bytes: &[u8], expected: Expected) -> Verdict {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Verdict::Partial;
    };
    let (head, body) = bytes.split_at(head_end + 4);
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
        (false, b"503") => Verdict::Refused,
        (false, _) => Verdict::Wrong,
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
