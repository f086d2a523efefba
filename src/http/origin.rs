//! The rules for `Origin` and `Host` (RFC 6454; RFC 9110, section 7.2). Knows nothing of requests.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Which web pages may use the server, and under which host names it answers.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Allowed origins, such as `https://shop.example`, in lower case.
    origins: Vec<String>,
    /// Allowed host names without a port, in lower case.
    hosts: Vec<String>,
    /// Whether every listen address is a loopback address. If so, only loopback names are answered.
    loopback_only: bool,
}

impl Policy {
    /// The policy for these listen addresses and the operator's lists.
    #[must_use]
    pub fn new(addresses: &[SocketAddr], origins: &[String], hosts: &[String]) -> Self {
        Self {
            origins: origins.iter().map(|origin| canonical_origin(origin)).collect(),
            hosts: hosts.iter().map(|host| host_name(host).unwrap_or(host).to_ascii_lowercase()).collect(),
            loopback_only: addresses.iter().all(|address| address.ip().is_loopback()),
        }
    }

    /// Whether the server answers under this `Host`. On a loopback address, a foreign name means that a web page's own
    /// name resolves to this machine (DNS rebinding).
    #[must_use]
    pub fn allows_host(&self, host: Option<&str>) -> bool {
        let Some(host) = host else { return true };
        let Some(name) = host_name(host) else { return false };
        !self.loopback_only || is_loopback_name(name) || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether a page of `origin` may use the server under `host`: if both have the same host name, on any port, or are
    /// this machine's loopback, or if the operator has listed the origin.
    #[must_use]
    pub fn allows_origin(&self, origin: &str, host: Option<&str>) -> bool {
        if self.origins.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        match (host_name(authority), host.and_then(host_name)) {
            (Some(page), Some(own)) => {
                is_web && (page.eq_ignore_ascii_case(own) || (is_loopback(page) && is_loopback(own)))
            }
            _ => false,
        }
    }
}

/// An origin as browsers send it: in lower case, without the default port (RFC 6454, section 6.2).
fn canonical_origin(origin: &str) -> String {
    let origin = origin.trim_end_matches('/').to_ascii_lowercase();
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")] {
        if let (true, Some(plain)) = (origin.starts_with(scheme), origin.strip_suffix(port)) {
            return plain.to_owned();
        }
    }
    origin
}

/// The name in `name`, `name:port` or `[v6]:port`; `None` for any other text (RFC 3986, section 3.2).
#[must_use]
pub fn host_name(authority: &str) -> Option<&str> {
    let (name, port) = if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        let address = &authority[1..end - 1];
        address.parse::<Ipv6Addr>().ok()?;
        (&authority[..end], authority[end..].strip_prefix(':').or(authority[end..].is_empty().then_some("")))
    } else {
        match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, Some("")),
        }
    };
    let is_port = port?.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_plain = name.starts_with('[') || name.bytes().all(is_name);
    (is_port && is_plain && !name.is_empty()).then_some(name)
}

/// Whether the name is `localhost`, a subdomain of it (RFC 6761, section 6.3), or a loopback address.
fn is_loopback_name(name: &str) -> bool {
    let plain = name.strip_suffix('.').unwrap_or(name);
    let below = plain.len() > 10 && plain.as_bytes()[plain.len() - 10..].eq_ignore_ascii_case(b".localhost");
    below || is_loopback(name)
}

/// Whether the name is `localhost` or a loopback address. Each of them is the machine that the client runs on, so pages
/// of one may use the server under another. A name below `localhost` may belong to another program.
fn is_loopback(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(address: &str, origins: &[&str], hosts: &[&str]) -> Policy {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        Policy::new(&[address.parse().unwrap()], &owned(origins), &owned(hosts))
    }

    #[test]
    fn a_host_name_is_read_with_or_without_a_port() {
        for (authority, name) in [
            ("localhost:3000", Some("localhost")),
            ("shop.example", Some("shop.example")),
            ("[::1]:3000", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("127.0.0.1:", Some("127.0.0.1")),
            ("", None),
            (":3000", None),
            ("[::1", None),
            ("[x]", None),
            ("[::1]x", None),
            ("a b", None),
            ("user@host", None),
            ("host:port", None),
            ("a,b", None),
        ] {
            assert_eq!(host_name(authority), name, "{authority}");
        }
    }

    #[test]
    fn on_loopback_only_loopback_names_are_answered() {
        let policy = policy("127.0.0.1:3000", &[], &["Shop.example:443"]);
        for host in ["localhost:3000", "LOCALHOST", "localhost.", "127.0.0.1:5050", "[::1]:1", "app.localhost"] {
            assert!(policy.allows_host(Some(host)), "{host}");
        }
        assert!(policy.allows_host(None) && policy.allows_host(Some("shop.example")));
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "notlocalhost", "x@localhost", ""] {
            assert!(!policy.allows_host(Some(host)), "{host}");
        }
    }

    #[test]
    fn on_a_network_every_name_is_answered() {
        assert!(policy("0.0.0.0:3000", &[], &[]).allows_host(Some("shop.example")));
        assert!(!policy("0.0.0.0:3000", &[], &[]).allows_host(Some("a b")));
    }

    #[test]
    fn a_page_of_the_same_host_may_and_a_foreign_one_may_not() {
        let policy = policy("127.0.0.1:3000", &["https://shop.example/"], &[]);
        for origin in ["http://localhost:5050", "http://localhost:8000", "https://LOCALHOST", "https://shop.example"] {
            assert!(policy.allows_origin(origin, Some("localhost:3000")), "{origin}");
        }
        for origin in [
            "http://evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://app.localhost",
            "http://10.0.0.1:3000",
            "null",
            "file://localhost",
            "https://shop.example:444",
            "localhost",
            "",
        ] {
            assert!(!policy.allows_origin(origin, Some("localhost:3000")), "{origin}");
        }
        assert!(!policy.allows_origin("http://localhost", None));
    }

    #[test]
    fn the_names_of_loopback_are_one_machine() {
        let policy = policy("0.0.0.0:3000", &[], &[]);
        let names = ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "127.0.0.2"];
        for (page, own) in names.iter().flat_map(|page| names.map(|own| (page, own))) {
            assert!(policy.allows_origin(&format!("http://{page}:5050"), Some(&format!("{own}:3000"))), "{page} {own}");
        }
        for (page, own) in [("localhost", "shop.example"), ("shop.example", "localhost"), ("127.0.0.1", "10.0.0.1")] {
            assert!(!policy.allows_origin(&format!("http://{page}"), Some(own)), "{page} {own}");
        }
        assert!(!policy.allows_origin("ftp://localhost", Some("127.0.0.1")));
    }

    #[test]
    fn a_listed_origin_matches_what_browsers_send() {
        let policy = policy("127.0.0.1:3000", &["HTTP://Shop.example:80", "https://a.example:443/"], &[]);
        assert!(policy.allows_origin("http://shop.example", None) && policy.allows_origin("https://a.example", None));
        assert!(!policy.allows_origin("https://shop.example", None));
    }
}
