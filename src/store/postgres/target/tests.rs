//! Tests of the addresses of databases.

use std::time::Duration;

use super::{Host, SslMode, Target};

fn parse(url: &str) -> Target {
    Target::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"))
}

fn hosts(url: &str) -> Vec<(String, u16)> {
    parse(url).hosts.into_iter().map(|host| (host.name, host.port)).collect()
}

fn host(name: &str, port: u16) -> (String, u16) {
    (name.to_owned(), port)
}

#[test]
fn an_address_names_hosts_a_user_and_a_database() {
    let target = parse("postgresql://node:secret@db.example:6543/orders");
    assert_eq!(target.hosts, [Host { name: "db.example".into(), port: 6543 }]);
    assert_eq!((target.user.as_str(), target.database.as_str()), ("node", "orders"));
    assert_eq!(target.password.as_deref(), Some("secret"));
    assert_eq!((target.ssl_mode, target.read_write), (SslMode::Prefer, false));
    assert_eq!(target.application_name, "ordercast");
    // As with libpq, the database has the user's name where there is none.
    assert_eq!(parse("postgres://node@db").database, "node");
    assert_eq!(parse("postgres://db?user=node&dbname=orders&password=p%26q").password.as_deref(), Some("p&q"));
}

#[test]
fn hosts_have_ports_of_their_own_or_one_for_all() {
    assert_eq!(
        hosts("postgres://u@a,b:1,[::1]:2,[fe80::1]/d"),
        [host("a", 5432), host("b", 1), host("::1", 2), host("fe80::1", 5432)]
    );
    assert_eq!(hosts("postgres://u@/d?host=a,b&port=7"), [host("a", 7), host("b", 7)]);
    assert_eq!(hosts("postgres://u@/d?host=a,b&port=7,8"), [host("a", 7), host("b", 8)]);
    assert_eq!(hosts("postgres://u@%2Ftmp%2Fx:9/d"), [host("/tmp/x", 9)]);
    assert_eq!(hosts("postgres://u@/d?host=/tmp/x"), [host("/tmp/x", 5432)]);
    assert_eq!(hosts("postgres://u@/d"), [host("/var/run/postgresql", 5432)]);
    assert_eq!(parse("postgres://u@%2Ftmp/d").hosts[0].to_string(), "/tmp/.s.PGSQL.5432");
}

#[test]
fn percent_encoding_is_decoded_in_every_part() {
    let target = parse("postgres://a%40b:c%3Ad%2F@h/e%20f?application_name=%c3%bc");
    assert_eq!((target.user.as_str(), target.database.as_str()), ("a@b", "e f"));
    assert_eq!(target.password.as_deref(), Some("c:d/"));
    assert_eq!(target.application_name, "ü");
    // A plus sign is no space.
    assert_eq!(parse("postgres://a+b@h/d").user, "a+b");
}

#[test]
fn parameters_are_read() {
    let target = parse(
        "postgres://u@h/d?target_session_attrs=read-write&sslmode=verify-full&sslrootcert=/etc/ca.pem&passfile=/p\
         &connect_timeout=3",
    );
    assert!(target.read_write);
    assert_eq!(target.ssl_mode, SslMode::VerifyFull);
    assert_eq!(target.root_certificates, Some("/etc/ca.pem".into()));
    assert_eq!(target.passfile, Some("/p".into()));
    assert_eq!(target.connect_timeout, Some(Duration::from_secs(3)));
    assert_eq!(parse("postgres://u@h/d?connect_timeout=0").connect_timeout, None);
}

#[test]
fn a_wrong_address_is_refused_with_what_is_wrong() {
    for (url, why) in [
        ("mysql://u@h/d", "postgres://"),
        ("postgres://h/d", "no user"),
        ("postgres://u@h/d?sslcert=x", "\"sslcert\""),
        ("postgres://u@h/d?sslmode=allow", "\"allow\""),
        ("postgres://u@h/d?sslmode=verify-full", "sslrootcert"),
        ("postgres://u@h/d?target_session_attrs=standby", "\"standby\""),
        ("postgres://u@h/d?connect_timeout=soon", "\"soon\""),
        ("postgres://u@h/d?sslmode", "no value"),
        ("postgres://u@h:0/d", "from 1 to 65535"),
        ("postgres://u@h:65536/d", "from 1 to 65535"),
        ("postgres://u@[::1/d", "without ]"),
        ("postgres://u@[::1]5/d", "brackets"),
        ("postgres://u@/d?host=a,b,c&port=1,2", "3 hosts and 2 ports"),
        ("postgres://u%zz@h/d", "the user"),
        ("postgres://u@h/%ff", "the database"),
        ("postgres://u@h/d%2", "the database"),
        ("postgres://u%00@h/d", "%00"),
    ] {
        let error = Target::parse(url).expect_err(url);
        assert!(error.contains(why), "{url}: {error}");
    }
}

#[test]
fn no_text_of_a_target_shows_its_password() {
    let target = parse("postgres://node:hush@a,[::1]:7/orders?sslmode=require");
    assert_eq!(target.to_string(), "postgres://node@a:5432,[::1]:7/orders");
    assert!(!format!("{target:?}").contains("hush"));
    for url in [
        "node:hush%@a/d",
        "node:hush@h:x/d",
        "node:hush",
        "node:hush/d",
        "node:hush@h/d?foo=1",
        "node:hu/hush@h/d",
        "node:hu?hush=1@h/d",
        "node:hu?hush@h/d",
        "node:hush@[h/d",
    ] {
        let error = Target::parse(&format!("postgres://{url}")).expect_err(url);
        assert!(!error.contains("hush"), "{url}: {error}");
    }
}
