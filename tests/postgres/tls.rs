//! TLS: which modes encrypt, what they check, and that its steps have deadlines too.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ordercast::internal::store::postgres::{Param, PgError, Session, Target};

use crate::common::{Cluster, TempDir, skip};
use crate::{connect, expect_away, later, row, soon, try_connect};

/// Runs openssl in a folder. `None` without it, after a message; where `CI` is `true` that is a failure.
fn openssl(folder: &TempDir, args: &str) -> Option<()> {
    let mut command = Command::new("openssl");
    command.args(args.split(' ')).current_dir(folder.path()).stdin(Stdio::null());
    let Ok(output) = command.output() else {
        skip("openssl is not installed (make deps)", true);
        return None;
    };
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

/// A certificate `NAME.crt` that signs itself, and its key `NAME.key`.
fn make_root(folder: &TempDir, name: &str, more: &str) -> Option<PathBuf> {
    let request = format!("req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 9 -subj /CN={name}");
    openssl(folder, &format!("{request} -keyout {name}.key -out {name}.crt{more}"))?;
    Some(folder.path().join(format!("{name}.crt")))
}

/// A certificate `NAME.crt` for these names, which the root `ca` signs.
fn make_certificate(folder: &TempDir, name: &str, names: &str) -> Option<()> {
    folder.write(&format!("{name}.ext"), format!("subjectAltName={names}\n"));
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";
    openssl(folder, &format!("req -nodes {key} -subj /CN={name} -keyout {name}.key -out {name}.csr"))?;
    let sign = "x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 9";
    openssl(folder, &format!("{sign} -in {name}.csr -extfile {name}.ext -out {name}.crt"))
}

/// The address with parameters.
fn url(cluster: &Cluster, mode: &str, root: Option<&Path>) -> String {
    let root = root.map_or(String::new(), |root| format!("&sslrootcert={}", root.display()));
    format!("{}?sslmode={mode}{root}", cluster.url())
}

/// Whether the session is encrypted, as the server sees it.
fn is_encrypted(url: &str) -> Result<bool, PgError> {
    let mut session = try_connect(url)?;
    row(&mut session, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").bool(0)
}

#[test]
fn each_mode_encrypts_and_checks_what_it_promises() {
    let Some(cluster) = Cluster::start() else { return };
    // Without TLS on the server.
    assert_eq!(is_encrypted(&url(&cluster, "disable", None)), Ok(false));
    assert_eq!(is_encrypted(&url(&cluster, "prefer", None)), Ok(false));
    assert!(expect_away(try_connect(&url(&cluster, "require", None)), false).contains("no TLS"));

    let folder = TempDir::new();
    let Some(root) = make_root(&folder, "ca", "") else { return };
    let other = make_root(&folder, "other", "").expect("openssl");
    make_certificate(&folder, "right", "DNS:localhost,IP:127.0.0.1").expect("openssl");
    make_certificate(&folder, "foreign", "DNS:db.example").expect("openssl");
    let use_certificate = |name: &str| {
        let file = |ending: &str| folder.path().join(format!("{name}.{ending}"));
        cluster.set_tls(&file("crt"), &file("key"));
    };
    use_certificate("right");
    assert_eq!(is_encrypted(&url(&cluster, "disable", None)), Ok(false));
    for (mode, root) in [
        ("prefer", None),
        ("require", None),
        ("require", Some(root.as_path())),
        ("verify-ca", Some(&root)),
        ("verify-full", Some(&root)),
    ] {
        assert_eq!(is_encrypted(&url(&cluster, mode, root)), Ok(true), "{mode} {root:?}");
    }
    let by_name = url(&cluster, "verify-full", Some(&root)).replace("127.0.0.1", "localhost");
    assert_eq!(is_encrypted(&by_name), Ok(true));
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = expect_away(try_connect(&url(&cluster, mode, Some(&other))), false);
        assert!(error.contains("certificate"), "{error}");
    }

    // Another name counts only in the last mode.
    use_certificate("foreign");
    assert_eq!(is_encrypted(&url(&cluster, "verify-ca", Some(&root))), Ok(true));
    let error = expect_away(try_connect(&url(&cluster, "verify-full", Some(&root))), false);
    assert!(error.contains("127.0.0.1"), "{error}");

    // A file without certificates is a mistake here, not a server that is away.
    let empty = folder.write("empty.pem", "");
    for file in [&empty, &folder.path().join("none.pem")] {
        let error = try_connect(&url(&cluster, "verify-full", Some(file))).expect_err("no root");
        assert!(matches!(&error, PgError::Unexpected(why) if why.contains(".pem")), "{error:?}");
    }
}

#[test]
fn a_certificate_that_signs_itself_can_be_its_own_root() {
    let Some(cluster) = Cluster::start() else { return };
    let folder = TempDir::new();
    let Some(root) = make_root(&folder, "own", " -addext subjectAltName=IP:127.0.0.1") else { return };
    cluster.set_tls(&root, &folder.path().join("own.key"));
    assert_eq!(is_encrypted(&url(&cluster, "verify-ca", Some(&root))), Ok(true));
    assert_eq!(is_encrypted(&url(&cluster, "verify-full", Some(&root))), Ok(true));
    let by_name = url(&cluster, "verify-full", Some(&root)).replace("127.0.0.1", "localhost");
    expect_away(try_connect(&by_name), false);
    // Another one is no root, though it has the same names.
    let other = make_root(&folder, "own2", " -addext subjectAltName=IP:127.0.0.1").expect("openssl");
    expect_away(try_connect(&url(&cluster, "verify-full", Some(&other))), false);
}

#[test]
fn calls_over_tls_have_the_same_answers_and_deadlines() {
    let Some(cluster) = Cluster::start() else { return };
    let folder = TempDir::new();
    let Some(root) = make_root(&folder, "own", " -addext subjectAltName=IP:127.0.0.1") else { return };
    cluster.set_tls(&root, &folder.path().join("own.key"));
    cluster.sql("CREATE ROLE node LOGIN PASSWORD 'secret'");
    cluster.set_access("hostssl all all 127.0.0.1/32 scram-sha-256");
    let url = url(&cluster, "verify-full", Some(&root)).replace("postgres@", "node:secret@");
    let mut session = connect(&url);
    let text = "y".repeat(3 << 20);
    for _ in 0..2 {
        let rows = session.query("SELECT $1, length($1)", &[Param::Text(&text)], later()).expect("a row");
        assert_eq!((rows[0].text(0), rows[0].int4(1)), (Ok(text.as_str()), Ok(3 << 20)));
    }
    session.script("LISTEN ordercast", later()).expect("it listens");
    assert_eq!(session.notification(soon()), Ok(None));
    session.script("NOTIFY ordercast", later()).expect("sent");
    assert!(session.notification(later()).is_ok_and(|found| found.is_some()));

    cluster.pause();
    let start = Instant::now();
    expect_away(session.query("SELECT 1", &[], soon()), true);
    expect_away(Session::connect(&Target::parse(&url).expect("an address"), soon()), false);
    assert!(start.elapsed() < Duration::from_secs(4));
    cluster.resume();

    // Without TLS the server takes nobody.
    let plain = url.replace("sslmode=verify-full", "sslmode=disable");
    assert!(matches!(try_connect(&plain), Err(PgError::Server { code, .. }) if code == "28000"));
}

#[test]
fn a_handshake_that_does_not_go_on_ends_at_its_deadline() {
    let start = Instant::now();
    // Silence, what is not TLS, and a message that an attacker put before the handshake.
    for (answer, waits) in
        [(&b"S"[..], true), (b"SHTTP/1.1 400 Bad Request\r\n\r\n", false), (b"SR\0\0\0\x08\0\0\0\0", false)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.read(&mut [0; 8]);
            let _ = stream.write_all(answer);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let url = format!("postgres://node@{address}/orders?sslmode=require");
        let time = Duration::from_millis(if waits { 300 } else { 5_000 });
        let error = Session::connect(&Target::parse(&url).expect("an address"), Instant::now() + time);
        expect_away(error, false);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
