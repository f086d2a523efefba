//! Servers that are none, or that are hostile: every call ends in time, and no answer chooses how much memory is used.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ordercast::internal::store::postgres::{PgError, Session, Target};

use crate::common::{Random, seed};
use crate::{later, row};

/// The end of the login, the answer to the first statements (`SHOW` has the row `off`), and that the session is ready.
const LOGIN: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
const SHOWN: &[u8] = b"D\0\0\0\x0d\0\x01\0\0\0\x03offZ\0\0\0\x05I";

/// Reads some bytes, and answers.
fn answer(stream: &mut TcpStream, bytes: &[u8]) {
    let mut received = [0; 4_096];
    let _ = stream.read(&mut received);
    let _ = stream.write_all(bytes);
}

/// A server that gives these answers in turn to one connection, and then neither answers nor closes it.
fn server(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        answers.iter().for_each(|bytes| answer(&mut stream, bytes));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    format!("postgres://node@{address}/orders?sslmode=disable")
}

fn try_connect(answers: &[&[u8]], time: Duration) -> Result<Session, PgError> {
    let url = server(answers.iter().map(|answer| answer.to_vec()).collect());
    Session::connect(&Target::parse(&url).expect("an address"), Instant::now() + time)
}

/// A message of a server.
fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[letter], &length.to_be_bytes()[..], body].concat()
}

/// A session with a server that gives this answer to the first statement.
fn session(bytes: &[u8]) -> Session {
    try_connect(&[LOGIN, SHOWN, bytes], Duration::from_secs(10)).expect("a session")
}

#[test]
fn a_server_that_ends_or_says_nothing_is_away() {
    let start = Instant::now();
    let cut: [&[u8]; 2] = [b"R\0\0\0\x08\0\0", b"D\0\0"];
    for answers in [&[][..], &cut[..1], &[LOGIN], &[LOGIN, cut[1]]] {
        let error = try_connect(answers, Duration::from_millis(200)).expect_err("no session");
        assert!(matches!(error, PgError::Away { may_have_run: false, .. }), "{error:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn garbage_at_the_login_is_an_error() {
    let sasl = |body: &[u8]| message(b'R', &[&[0, 0, 0, 10], body].concat());
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"R\0\0\0\x03".to_vec(),
        b"R\0\0\0\x08\0\0\0\x63".to_vec(),
        b"R\0\0\0\x08\0\0\0\x07".to_vec(),
        b"Z\0\0\0\x05I".to_vec(),
        b"R\x7f\xff\xff\xff\0\0\0\0".to_vec(),
        b"\0\0\0\0\0\0".to_vec(),
        sasl(b""),
        sasl(b"SCRAM-SHA-1\0\0"),
        sasl(b"SCRAM-SHA-256"),
    ] {
        let error = try_connect(&[&bytes], Duration::from_secs(5)).expect_err("no session");
        assert!(matches!(error, PgError::Unexpected(_)), "{bytes:?}: {error:?}");
    }
}

#[test]
fn a_scram_exchange_that_proves_nothing_is_refused() {
    let url_with_password = |answers: Vec<Vec<u8>>| server(answers).replace("node@", "node:secret@");
    let sasl = |kind: u8, body: &[u8]| message(b'R', &[&[0, 0, 0, kind], body].concat());
    let first = sasl(10, b"SCRAM-SHA-256\0\0");
    for second in [
        sasl(11, b"r=foreign,s=AAAA,i=4096"),
        sasl(11, b"\xff\xff"),
        sasl(11, b""),
        sasl(12, b"v=AAAA"),
        // The login is not over before the server has proven itself.
        message(b'R', &[0, 0, 0, 0]),
    ] {
        let url = url_with_password(vec![first.clone(), second]);
        let error = Session::connect(&Target::parse(&url).expect("an address"), later()).expect_err("no session");
        assert!(matches!(error, PgError::Unexpected(_)), "{error:?}");
    }
}

#[test]
fn garbage_in_an_answer_breaks_the_session() {
    for bytes in [
        // A letter that no message has, and lengths that are too small, too large, or not those of the content.
        message(b'?', b""),
        b"1\0\0\0\0".to_vec(),
        b"1\xff\xff\xff\xff".to_vec(),
        b"D\x7f\xff\xff\xff\0\x01".to_vec(),
        b"D\x04\x00\x00\x01\0\x01".to_vec(),
        message(b'1', b"more"),
        message(b'D', b""),
        message(b'D', b"\0\x02\0\0\0\x01x"),
        message(b'D', b"\0\x01\0\0\0\x09x"),
        message(b'D', b"\xff\xff\0\0\0\x01x"),
        message(b'A', b"\0\0\0\0no end"),
        // A login in the middle, and a copy that nobody asked for.
        message(b'R', &[0, 0, 0, 0]),
        message(b'G', &[0, 0, 0]),
    ] {
        let mut session = session(&bytes);
        let error = session.query("SELECT 1", &[], later()).expect_err("garbage");
        assert!(matches!(error, PgError::Unexpected(_)), "{bytes:?}: {error:?}");
        assert!(session.is_broken() && error.may_have_run());
    }
}

#[test]
fn an_array_that_claims_too_much_is_an_error() {
    let array = |numbers: &[i32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    for value in [
        array(&[1, 0, 20, i32::MAX, 1]),
        array(&[1, 0, 20, -1, 1]),
        array(&[2, 0, 20, 1, 1, 1, 1]),
        array(&[-1, 0, 20]),
        array(&[1, 0, 20, 1, 1, 4, 7]),
        array(&[1, 0, 20, 1, 1, i32::MAX, 7]),
        array(&[1, 0, 20, 1, 1, -2]),
        array(&[1, 0, 20, 1, 1, 8, 0, 7, 9]),
        array(&[1, 0, 23, 1, 1, 8, 0, 7]),
        array(&[1, 0]),
    ] {
        let length = u32::try_from(value.len()).expect("a short array");
        let body = [&[0, 1], &length.to_be_bytes()[..], &value].concat();
        let bytes = [message(b'D', &body), message(b'Z', b"I")].concat();
        let row = row(&mut session(&bytes), "SELECT 1");
        assert!(matches!(row.int8s(0), Err(PgError::Unexpected(_))), "{value:?}");
    }
}

#[test]
fn no_change_of_an_answer_makes_a_call_panic_or_hang() {
    let mut random = Random::new(seed(), 0);
    let values = message(b'D', b"\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x07\xff\xff\xff\xff");
    let notification = message(b'A', b"\0\0\0\x01ordercast\0text\0");
    let refusal = message(b'E', b"SERROR\0C22012\0Mdivision by zero\0\0");
    let end = message(b'Z', b"I");
    let sound = [message(b'1', b""), message(b'2', b""), notification, values, message(b'C', b"SELECT 1\0"), end];
    let refused = [message(b'1', b""), refusal, message(b'Z', b"I")];
    for round in 0..300 {
        let mut bytes = if round % 2 == 0 { sound.concat() } else { refused.concat() };
        for _ in 0..=random.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = random.place(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.below(256) as u8,
                1 => drop(bytes.drain(at..)),
                _ => bytes.insert(at, random.below(256) as u8),
            }
        }
        let mut session = session(&bytes);
        let start = Instant::now();
        if let Ok(rows) = session.query("SELECT 1", &[], start + Duration::from_millis(20)) {
            for row in rows {
                let _ = (row.int8(0), row.int8_or_null(1), row.text(0), row.int8s(0), row.texts_or_null(1));
            }
        }
        let _ = session.notification(Instant::now());
        assert!(start.elapsed() < Duration::from_secs(3), "{bytes:?}");
    }
}

/// A session with a server that writes this after the login, whatever it is asked.
fn endless(write: impl FnOnce(&mut TcpStream) + Send + 'static) -> Session {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        answer(&mut stream, LOGIN);
        answer(&mut stream, SHOWN);
        write(&mut stream);
    });
    let url = format!("postgres://node@{address}/orders?sslmode=disable");
    Session::connect(&Target::parse(&url).expect("an address"), later()).expect("a session")
}

#[test]
fn an_answer_of_rows_without_columns_does_not_choose_how_much_memory_is_used() {
    let rows = message(b'D', &[0, 0]).repeat(10_000);
    let mut session = endless(move |stream| while stream.write_all(&rows).is_ok() {});
    let error = session.query("SELECT 1", &[], later()).expect_err("no answer");
    assert!(matches!(&error, PgError::Unexpected(what) if what.contains("an answer of more than")), "{error:?}");
}

#[test]
fn an_answer_without_an_end_is_cut_at_the_deadline() {
    // Notices for ever, and a byte at a time.
    let mut session = endless(|stream| {
        let notice = message(b'N', b"C01000\0Mslow\0\0");
        while notice.iter().all(|byte| stream.write_all(&[*byte]).is_ok()) {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let start = Instant::now();
    let error = session.query("SELECT 1", &[], start + Duration::from_millis(400)).expect_err("no answer");
    assert!(matches!(error, PgError::Away { may_have_run: true, .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3));
}
