//! Request targets (RFC 9112, section 3.2).

use super::problem::Problem;

/// A request target in its parts.
pub(super) struct Target<'a> {
    pub(super) path: &'a str,
    /// What follows the question mark.
    pub(super) query: &'a str,
    /// The host and port of the absolute form.
    pub(super) authority: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Parses the origin form, `*`, or the absolute form with the scheme `http`, whose authority the caller compares with
    /// the `Host` line.
    pub(super) fn parse(target: &'a str) -> Result<Self, Problem> {
        if !target.is_ascii() || target.contains('#') {
            return Err(Problem::new(400, "the request target must be ASCII and have no fragment"));
        }
        let (authority, origin) = match split_absolute(target) {
            Some((authority, origin)) => (Some(authority), origin),
            None => (None, target),
        };
        let (path, query) = origin.split_once('?').unwrap_or((origin, &origin[origin.len()..]));
        // An absolute form without a path means the root: the slash is one of those behind the scheme.
        let path = if authority.is_some() && path.is_empty() { &target[SCHEME.len() - 1..SCHEME.len()] } else { path };
        if !path.starts_with('/') && target != "*" {
            return Err(Problem::new(400, "the request target must be a path such as /orders/A1; Host names the host"));
        }
        check_escapes(path)?;
        Ok(Self { path, query, authority })
    }
}

/// How the absolute form begins, in any case.
const SCHEME: &str = "http://";

/// The authority, and what follows it, of a target in absolute form (RFC 9112, section 3.2.2).
fn split_absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_at_checked(SCHEME.len())?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    scheme.eq_ignore_ascii_case(SCHEME).then(|| rest.split_at(end))
}

/// Rejects escapes that another server could decode to a different path: malformed ones, and those of a slash,
/// backslash, dot, percent sign or control character (RFC 3986, section 2.1). No path of this server needs an escape.
fn check_escapes(path: &str) -> Result<(), Problem> {
    for escape in path.split('%').skip(1) {
        let digits = escape.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            None => {
                return Err(Problem::new(400, "a percent sign in the path must be followed by two hexadecimal digits"));
            }
            Some(b'/' | b'\\' | b'.' | b'%' | 0..=0x1f | 0x7f) => {
                return Err(Problem::new(
                    400,
                    "send slashes and dots of the path as they are, and no control characters",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_could_be_read_as_another_is_rejected() {
        for target in [
            "https://x/orders",
            "http:/x",
            "http:x",
            "http://x/a%2fb",
            "x:80",
            "//a%2fb",
            "/a%2Fb",
            "/%2e%2e/x",
            "/%2E",
            "/a%5cb",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a%252e",
            "/a#b",
            "orders",
            "?x",
            "*x",
        ] {
            assert_eq!(Target::parse(target).err().map(|problem| problem.status()), Some(400), "{target}");
        }
        for target in
            ["/", "*", "/a%20b", "/orders?x=%2F%2e", "/a?b?c", "/a~b", "http://x", "HTTP://x:1/a?b", "http://?"]
        {
            assert!(Target::parse(target).is_ok(), "{target}");
        }
    }
}
