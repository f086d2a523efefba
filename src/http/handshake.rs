//! The server's side of the WebSocket opening handshake (RFC 6455, section 4.2). No I/O.

use tiny_http::{HTTPVersion, Method};

use super::problem::Problem;
use super::request::{BodyLength, Request, is_token};
use super::response::{HEAD_BYTES, NAME};

/// The subprotocol with which a browser sends a token: it offers `bearer, TOKEN`, because a page cannot set the
/// `Authorization` line of a handshake. The messages are the same as without it.
pub const BEARER: &str = "bearer";

/// A valid handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The client's `Sec-WebSocket-Key`.
    pub key: String,
    /// The selected subprotocol; the server supports only [`BEARER`].
    pub protocol: Option<&'static str>,
}

impl Handshake {
    /// The head of the answer (RFC 6455, section 4.2.2).
    ///
    /// Not printed by tiny_http: its headers take about twenty small allocations, which the allocator keeps for the
    /// thread after they are freed: 1.3 KB for the life of each session. RFC 9110, section 6.6.1, makes the `Date` line
    /// of a 1xx answer optional.
    #[must_use]
    pub fn answer(&self) -> Vec<u8> {
        let mut head = String::with_capacity(HEAD_BYTES);
        head.push_str("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n");
        let accept_key = tungstenite::handshake::derive_accept_key(self.key.as_bytes());
        let lines = [
            Some(("Server", NAME)),
            Some(("Sec-WebSocket-Accept", &accept_key)),
            self.protocol.map(|protocol| ("Sec-WebSocket-Protocol", protocol)),
        ];
        for (name, value) in lines.into_iter().flatten() {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// The handshake of a request for a WebSocket, or the [`Problem`] with it; `None` for any other request.
#[must_use]
pub fn handshake(request: Request<'_>) -> Option<Result<Handshake, Problem>> {
    let asks = request.head().method == Method::Get && request.has_token("Upgrade", "websocket");
    // The token is read here and not in `check`, so that the frames of both are not on the stack at once.
    asks.then(|| check(request).map(|key| Handshake { key, protocol: offered_token(request).map(|_| BEARER) }))
}

/// The token of a handshake that offers the pair `bearer, TOKEN`.
#[must_use]
pub fn offered_token(request: Request<'_>) -> Option<&str> {
    let mut offered = request.items("Sec-WebSocket-Protocol");
    match (offered.next(), offered.next(), offered.next()) {
        (Some(BEARER), Some(token), None) => Some(token),
        _ => None,
    }
}

/// Checks the header lines of a handshake. Returns its key.
fn check(request: Request<'_>) -> Result<String, Problem> {
    if request.head().version < HTTPVersion(1, 1) || !request.has_token("Connection", "upgrade") {
        return Err(Problem::new(400, "a WebSocket handshake is HTTP/1.1 and has the header Connection: Upgrade"));
    }
    if !matches!(request.head().body, BodyLength::Absent | BodyLength::Known(0)) {
        return Err(Problem::new(400, "a WebSocket handshake has no body"));
    }
    let mut versions = request.headers("Sec-WebSocket-Version");
    if versions.next() != Some("13") || versions.next().is_some() {
        return Err(Problem::new(426, "use WebSocket version 13")
            .with("Sec-WebSocket-Version", "13")
            .with("Upgrade", "websocket"));
    }
    let mut keys = request.headers("Sec-WebSocket-Key");
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => key.to_owned(),
        _ => return Err(Problem::new(400, "a WebSocket handshake has one Sec-WebSocket-Key of 16 bytes in base64")),
    };
    // RFC 6455, section 4.1, item 10.
    if !request.items("Sec-WebSocket-Protocol").all(|name| is_token(name.as_bytes())) {
        return Err(Problem::new(400, "Sec-WebSocket-Protocol lists names, separated by commas"));
    }
    Ok(key)
}

/// Whether the key is 16 bytes in base64: 22 characters, of which the last encodes only two bits, and `==`.
fn is_key(key: &str) -> bool {
    let digits = key.strip_suffix("==").unwrap_or_default();
    digits.len() == 22
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        && digits.ends_with(['A', 'Q', 'g', 'w'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::Head;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn shake(lines: &str) -> Option<Result<Handshake, u16>> {
        let bytes = format!("GET /orders HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        let head = Head::parse(bytes.as_bytes()).unwrap().unwrap();
        let request = head.request(bytes.as_bytes());
        handshake(request).map(|result| result.map_err(|problem| problem.status()))
    }

    #[test]
    fn tokens_in_any_case_and_over_several_lines_make_a_handshake() {
        for lines in [
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "connection: keep-alive, UPGRADE\r\nUPGRADE: WebSocket\r\n",
            "Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: h2c, websocket\r\n",
        ] {
            let result = shake(&format!("{lines}Sec-WebSocket-Version: 13\r\n{KEY}"));
            assert_eq!(result.unwrap().unwrap().key, "dGhlIHNhbXBsZSBub25jZQ==", "{lines}");
        }
        assert_eq!(shake("Connection: Upgrade\r\nUpgrade: h2c\r\n"), None);
    }

    #[test]
    fn each_error_has_its_status() {
        let base = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        for (lines, status) in [
            (format!("{base}{KEY}"), 426),
            (format!("{base}{KEY}Sec-WebSocket-Version: 8\r\n"), 426),
            (format!("{base}{KEY}Sec-WebSocket-Version: 13, 8\r\n"), 426),
            (format!("{base}{KEY}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n"), 426),
            (format!("{base}Sec-WebSocket-Version: 13\r\n"), 400),
            (format!("{base}Sec-WebSocket-Version: 13\r\n{KEY}{KEY}"), 400),
            (format!("{base}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n"), 400),
            (format!("{base}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n"), 400),
            (format!("{base}Sec-WebSocket-Version: 13\r\n{KEY}Content-Length: 1\r\n"), 400),
            (format!("{base}Sec-WebSocket-Version: 13\r\n{KEY}Sec-WebSocket-Protocol: a,,b\r\n"), 400),
            (format!("{base}Sec-WebSocket-Version: 13\r\n{KEY}Sec-WebSocket-Protocol: a b\r\n"), 400),
            (format!("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{KEY}"), 400),
        ] {
            assert_eq!(shake(&lines), Some(Err(status)), "{lines}");
        }
    }

    #[test]
    fn the_only_supported_subprotocol_is_bearer_with_a_token() {
        for (offered, expected) in [
            ("bearer, abc", Some(BEARER)),
            ("chat", None),
            ("bearer", None),
            ("bearer, a, b", None),
            ("chat, bearer", None),
            ("Bearer, abc", None),
        ] {
            let lines = format!("Sec-WebSocket-Protocol: {offered}\r\nSec-WebSocket-Version: 13\r\n{KEY}");
            let result = shake(&format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{lines}"));
            assert_eq!(result.unwrap().unwrap().protocol, expected, "{offered}");
        }
    }

    #[test]
    fn the_answer_has_the_accept_key_and_no_length() {
        // The example of RFC 6455, section 1.3.
        let mut handshake = Handshake { key: "dGhlIHNhbXBsZSBub25jZQ==".into(), protocol: None };
        let head = String::from_utf8(handshake.answer()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"));
        assert!(
            head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") && !head.contains("Content-Length"),
            "{head}"
        );
        assert!(!head.contains("Protocol:"), "{head}");
        handshake.protocol = Some("bearer");
        assert!(String::from_utf8(handshake.answer()).unwrap().contains("\r\nSec-WebSocket-Protocol: bearer\r\n"));
    }
}
