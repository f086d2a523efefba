//! Framing: how many bytes of body follow a head (RFC 9112, section 6). Stricter than the standard where two servers
//! could disagree about the end of a request (request smuggling).

use tiny_http::HTTPVersion;

use super::problem::Problem;
use super::request::{BodyLength, MAX_BODY_BYTES, Request};

/// The length of the request's body.
pub(super) fn body_length(request: Request<'_>) -> Result<BodyLength, Problem> {
    let length = request.single_header("Content-Length")?;
    // A tab is white space (RFC 9110, section 5.6.3), but some servers take it for part of the value.
    if request.has_tab("Content-Length") || request.has_tab("Transfer-Encoding") {
        return Err(Problem::new(400, "send no tab in the lines that say how long the body is"));
    }
    let mut encodings = request.headers("Transfer-Encoding");
    match (encodings.next(), length) {
        (None, None) => Ok(BodyLength::Absent),
        (Some(_), Some(_)) => Err(Problem::new(400, "send either Content-Length or Transfer-Encoding, not both")),
        (Some(_), None) if request.head().version < HTTPVersion(1, 1) => {
            Err(Problem::new(400, "HTTP/1.0 has no Transfer-Encoding; send Content-Length"))
        }
        (Some(encoding), None) => {
            if encodings.next().is_none() && encoding.eq_ignore_ascii_case("chunked") {
                Ok(BodyLength::Chunked)
            } else {
                Err(Problem::new(501, "the only Transfer-Encoding that can be read is chunked"))
            }
        }
        (None, Some(length)) => {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Problem::new(400, "Content-Length must be a plain number of bytes"));
            }
            match length.parse() {
                Ok(length) if length <= MAX_BODY_BYTES => Ok(BodyLength::Known(length)),
                // A number that does not fit into usize is too large as well.
                _ => Err(body_too_large()),
            }
        }
    }
}

/// 413 for a body beyond [`MAX_BODY_BYTES`].
pub(super) fn body_too_large() -> Problem {
    Problem::new(413, format!("the body is too large; send at most {MAX_BODY_BYTES} bytes"))
}
