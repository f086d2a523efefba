//! The options of the commands that speak to a server, and what each value may be. They are read in every build, so that
//! one without the feature `client` can say what it lacks.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use crate::store::Reason;
use crate::tally::catalog::{MAX_ID_BYTES, is_plain};
use crate::tally::order::{Amount, AmountError, Key, MAX_KEY_BYTES};

/// The default server.
pub const SERVER: &str = "http://127.0.0.1:3000";
/// The longest prefix of keys, in bytes: room for a dash and the number of a line.
pub const MAX_PREFIX_BYTES: usize = MAX_KEY_BYTES - 21;

/// The server that a command speaks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Its URL, such as `http://box.lan:3000/shop`: with a scheme and a host, without a slash at its end.
    pub server: String,
    /// A file whose first token is sent.
    pub token_file: Option<PathBuf>,
    /// How long the command tries while the server does not answer; `None` for the command's default.
    pub timeout: Option<Duration>,
}

impl Default for Access {
    fn default() -> Self {
        Self { server: SERVER.to_owned(), token_file: None, timeout: None }
    }
}

/// The options of `ordercast post`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// The server.
    pub access: Access,
    /// The orders.
    pub orders: Orders,
}

/// What `ordercast post` sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Orders {
    /// One order.
    One {
        /// The product's id.
        id: String,
        /// The amount.
        amount: Amount,
        /// Its key; `None` for a random one.
        key: Option<Key>,
    },
    /// The orders on standard input, one a line.
    Input {
        /// What their keys begin with, up to [`MAX_PREFIX_BYTES`]; `None` for something random.
        prefix: Option<String>,
    },
}

/// The options of `ordercast watch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The server.
    pub access: Access,
    /// The category; `None` for all.
    pub category: Option<String>,
}

/// The argument that may be a negative number.
pub(super) const AMOUNT: &str = "AMOUNT";

/// Whether an argument is a negative number and not an option.
pub(super) fn is_negative(argument: &OsStr) -> bool {
    matches!(argument.as_encoded_bytes(), [b'-', digit, ..] if digit.is_ascii_digit())
}

/// Checks a server's URL, and removes slashes at its end.
pub(super) fn server(url: &str) -> Result<String, Reason> {
    const EXAMPLE: &str = "http://127.0.0.1:3000 or http://box.lan/shop";
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let rest = match scheme.as_deref() {
        Some("http") => &url["http://".len()..],
        Some("https") => {
            return Err(
                "https is not supported, because this program has no TLS; name an http address, such as that of a \
                        proxy on this machine that adds TLS, or use curl"
                    .into(),
            );
        }
        _ => return Err(format!("must be a URL such as {EXAMPLE}").into()),
    };
    let rest = rest.trim_end_matches('/');
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, "80"),
    };
    // In brackets there is an IPv6 address.
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|it| it.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(is_host_byte),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_path_byte = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    if !is_host || !is_port || !rest.bytes().all(is_path_byte) {
        return Err(format!("must be a host with an optional port and path, such as {EXAMPLE}").into());
    }
    Ok(format!("http://{rest}"))
}

/// Checks a key as far as both uses of `--key` need it.
pub(super) fn key(text: &str) -> Result<String, Reason> {
    match Key::new(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("must have 1 to {MAX_KEY_BYTES} bytes and no control characters").into()),
    }
}

/// `post ID AMOUNT` or `post -`.
pub(super) fn post(access: Access, key: Option<String>, words: &[OsString]) -> Result<Post, Reason> {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let orders = match &words[..] {
        [input] if input == "-" => {
            if key.as_ref().is_some_and(|prefix| prefix.len() > MAX_PREFIX_BYTES) {
                return Err(format!("--key has at most {MAX_PREFIX_BYTES} bytes for post -").into());
            }
            Orders::Input { prefix: key }
        }
        [id, amount] => {
            if !is_plain(id) {
                return Err(format!(
                    "{id:?} is no product's id, which is 1 to {MAX_ID_BYTES} letters, digits, '-' or '_'"
                )
                .into());
            }
            let amount = Amount::from_json_number(amount).map_err(|error| match error {
                // Nobody at a prompt writes JSON, or sees the quotes that the shell has taken away.
                AmountError::NotANumber => format!("{amount:?}: {}", AmountError::NotAnInteger),
                _ => format!("{amount:?}: {error}"),
            })?;
            Orders::One { id: id.as_ref().to_owned(), amount, key: key.as_deref().and_then(Key::new) }
        }
        _ => {
            return Err(
                "post needs a product and an amount, such as ordercast post A1 10, or a dash for orders on standard \
                        input"
                    .into(),
            );
        }
    };
    Ok(Post { access, orders })
}

/// `watch [CATEGORY]`.
pub(super) fn watch(access: Access, words: &[OsString]) -> Result<Watch, Reason> {
    let category = match words.first() {
        None => None,
        Some(word) => match word.to_str() {
            Some(name) if is_plain(name) => Some(name.to_owned()),
            _ => return Err(format!("{:?} is no category's name, such as electronics", word.to_string_lossy()).into()),
        },
    };
    Ok(Watch { access, category })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command, parse};

    fn parsed(words: &[&str], environment: &[(&str, &str)]) -> Result<Command, String> {
        let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        parse(words.iter().map(OsString::from), environment).map_err(|error| error.to_string())
    }

    fn one(id: &str, amount: i64, key: Option<&str>) -> Orders {
        Orders::One { id: id.into(), amount: Amount::new(amount).unwrap(), key: key.and_then(Key::new) }
    }

    #[test]
    fn post_takes_an_order_or_a_dash_and_watch_a_category() {
        let post = |orders| Ok(Command::Post(Post { access: Access::default(), orders }));
        assert_eq!(parsed(&["post", "A1", "10"], &[]), post(one("A1", 10, None)));
        assert_eq!(parsed(&["post", "A1", "-3", "--key", "-k"], &[]), post(one("A1", -3, Some("-k"))));
        assert_eq!(parsed(&["post", "--key=k", "--", "A1", "-3e1"], &[]), post(one("A1", -30, Some("k"))));
        assert_eq!(parsed(&["post", "-"], &[]), post(Orders::Input { prefix: None }));
        let access =
            Access { server: "http://box".into(), token_file: Some("t".into()), timeout: Some(Duration::from_secs(7)) };
        let environment =
            [("ORDERCAST_SERVER", "http://box/"), ("ORDERCAST_TOKEN_FILE", "t"), ("ORDERCAST_TIMEOUT", "7")];
        let watch = |category| Ok(Command::Watch(Watch { access: access.clone(), category }));
        assert_eq!(parsed(&["watch"], &environment), watch(None));
        assert_eq!(parsed(&["watch", "toys"], &environment), watch(Some("toys".into())));
        // A server ignores them.
        assert!(matches!(parsed(&["serve"], &environment), Ok(Command::Serve(..))));
    }

    #[test]
    fn an_amount_that_is_no_number_is_refused_in_words_without_json() {
        for amount in ["ten", "+10", "1.5"] {
            let error = parsed(&["post", "A1", amount], &[]).unwrap_err();
            assert_eq!(error, format!("{amount:?}: amount must be a whole number, such as 10"));
        }
    }

    #[test]
    fn a_prefix_of_keys_leaves_room_for_the_number_of_a_line() {
        let long = "x".repeat(MAX_PREFIX_BYTES);
        assert!(Key::new(&format!("{long}-{}", u64::MAX)).is_some());
        assert!(parsed(&["post", "-", "--key", &long], &[]).is_ok());
        let error = parsed(&["post", "-", "--key", &(long.clone() + "x")], &[]).unwrap_err();
        assert!(error.contains("--key has at most 234 bytes"), "{error}");
        assert!(parsed(&["post", "A1", "1", "--key", &(long + "x")], &[]).is_ok());
    }

    #[test]
    fn a_server_is_an_http_url_without_a_slash_at_its_end() {
        for (written, kept) in [
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://127.0.0.1:3000/", "http://127.0.0.1:3000"),
            ("HTTP://box.lan/shop//", "http://box.lan/shop"),
            ("http://[::1]:3000/a%20b/c", "http://[::1]:3000/a%20b/c"),
            ("http://[::1]", "http://[::1]"),
            ("http://my_box", "http://my_box"),
        ] {
            assert_eq!(server(written).ok().as_deref(), Some(kept), "{written}");
        }
        for wrong in [
            "",
            "127.0.0.1:3000",
            "localhost",
            "ws://localhost",
            "http://",
            "http:///shop",
            "http://user:secret@box",
            "http://box:port",
            "http://box:+80",
            "http://box:0",
            "http://box:70000",
            "http://[::1",
            "http://[box]",
            "http://box/a b",
            "http://box/?a",
            "http://box/#a",
            "http://b\u{e4}x",
            "http://box/\u{7}",
        ] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
        let error = server("https://box.lan").unwrap_err().to_string();
        assert!(error.contains("no TLS") && error.contains("proxy") && error.contains("curl"), "{error}");
    }

    #[test]
    fn only_a_dash_and_a_digit_begin_a_negative_number() {
        for (argument, expected) in [("-3", true), ("-0.5e1", true), ("-", false), ("--3", false), ("-h", false)] {
            assert_eq!(is_negative(OsStr::new(argument)), expected, "{argument}");
        }
    }
}
