//! The checks of the fuzz targets hold for every seed. Each fault that fuzzing has found is a seed, so every test run
//! would find it again. `fuzz/run.sh` says how to fuzz.

#[path = "../../fuzz/checks/mod.rs"]
mod checks;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use checks::http::Head;
use checks::request::{End, Outcome};
use ordercast::internal::http::connection::{Connection, ReadError};

#[test]
fn requests_read_the_same_however_they_are_cut() {
    run("request", checks::request::check);
}

#[test]
fn what_clients_send_as_json_is_read_as_a_strict_reader_reads_it() {
    run("command", checks::command::check);
}

#[test]
fn a_catalogue_file_grows_into_a_catalogue_within_its_bounds() {
    run("catalog", checks::catalog::check);
}

#[test]
fn a_command_line_is_in_range_or_refused_by_name() {
    run("command_line", checks::command_line::check);
}

/// The target `request` repeats the steps of `Connection` without a socket; this test runs `Connection` itself.
#[test]
fn a_connection_reads_what_the_fuzz_target_reads() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    for seed in seeds("request") {
        let (_, stream) = checks::request::take_apart(&fs::read(&seed).expect("a seed can be read"));
        let expected = checks::request::read(&stream, &[stream.len()]);
        assert_eq!(through_a_connection(&listener, &stream), expected, "{}", seed.display());
    }
}

fn through_a_connection(listener: &TcpListener, stream: &[u8]) -> Outcome {
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (server, _) = listener.accept().expect("a connection");
    thread::scope(|scope| {
        scope.spawn(move || {
            // An error is ignored, because a server that has rejected the request does not read on.
            let _ = client.write_all(stream).and_then(|()| client.shutdown(Shutdown::Write));
            // Kept open until here, because closing it with an unread `100 Continue` would reset the connection.
            client
        });
        let mut connection = Connection::new(Arc::new(server), Arc::default(), Arc::default());
        let mut requests = Vec::new();
        let end = loop {
            match read_one(&mut connection) {
                Ok(request) => requests.push(request),
                Err((ReadError::Rejected(problem), _)) => break End::Refused(problem.status()),
                Err((ReadError::Gone | ReadError::Overdue(_), end)) => break end,
            }
        };
        Outcome { requests, end }
    })
}

fn read_one(connection: &mut Connection) -> Result<(Head, Vec<u8>), (ReadError, End)> {
    let head = checks::request::facts(&connection.read_head().map_err(|error| (error, End::InHead))?);
    connection.read_body().map_err(|error| (error, End::InBody))?;
    Ok((head, connection.body().to_vec()))
}

fn run(target: &str, check: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for seed in seeds {
        let input = fs::read(&seed).expect("a seed can be read");
        // The panic of the check does not name the seed.
        if let Err(fault) = panic::catch_unwind(|| check(&input)) {
            eprintln!("this was {}", seed.display());
            panic::resume_unwind(fault);
        }
    }
}

fn seeds(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(folder).expect("the target has seeds");
    let mut seeds: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    seeds.sort();
    seeds
}
