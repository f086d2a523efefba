//! `ordercast post`: one order, or the orders on standard input.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use tungstenite::handshake::client::generate_key;

use super::ClientError;
use super::attempts::Attempts;
use super::send;
use super::server::{Failure, REQUEST, Server};
use super::text::shell_word;
use crate::config::client::{Access, Orders, Post, SERVER};
use crate::json;
use crate::tally::order::{Amount, Key};

/// How long one order is tried, unless `--timeout` says otherwise: 30 s, about as long as a person waits.
const ONE_ORDER: Duration = Duration::from_secs(30);

/// Posts orders, and returns when all of them are counted.
///
/// # Errors
/// [`ClientError`] says what is counted.
pub fn run(options: &Post) -> Result<(), ClientError> {
    let server = Server::new(&options.access)?;
    match &options.orders {
        Orders::One { id, amount, key } => {
            let timeout = options.access.timeout.unwrap_or(ONE_ORDER);
            post_one(server, &arguments(&options.access), id, *amount, key.clone(), timeout)
        }
        Orders::Input { prefix } => {
            send::run(server, &prefix.clone().unwrap_or_else(random_key), options.access.timeout)
        }
    }
}

/// A key that nobody else uses: 128 random bits, without characters that a shell or a URL would change.
fn random_key() -> String {
    // Base64 of 16 bytes.
    let random = generate_key().trim_end_matches('=').replace('+', "-").replace('/', "_");
    format!("post-{random}")
}

/// The arguments that say which server and token are meant, each behind a space.
fn arguments(access: &Access) -> String {
    let server = (access.server != SERVER).then(|| format!(" --server {}", shell_word(&access.server)));
    let file = access.token_file.as_ref().and_then(|file| file.to_str());
    let file = file.map(|file| format!(" --token-file {}", shell_word(file)));
    [server, file].into_iter().flatten().collect()
}

fn post_one(
    mut server: Server,
    access: &str,
    id: &str,
    amount: Amount,
    key: Option<Key>,
    timeout: Duration,
) -> Result<(), ClientError> {
    let new_key = || Key::new(&random_key()).ok_or(ClientError::Refused("no key could be made".to_owned()));
    let key = key.map_or_else(new_key, Ok)?;
    let body = json::order_body(amount, Some(&key));
    let again = format!("ordercast post {id} {} --key {}{access}", amount.get(), shell_word(key.as_str()));
    let mut attempts = Attempts::within(Some(timeout));
    let (mut is_announced, mut may_count) = (false, false);
    loop {
        let time = attempts.time_left(REQUEST);
        let later = match server.post(&format!("/orders/{id}"), "application/json", body.as_bytes(), time) {
            Ok(answer) if json::is_ok(&answer) => return print_ok(),
            Ok(_) => return Err(refused(server.foreign(), may_count, &again)),
            Err(Failure::Refused(why, _)) => return Err(refused(why, may_count, &again)),
            Err(Failure::Later(later)) => later,
        };
        may_count |= later.may_count;
        let pause = attempts.pause(later.after);
        if pause.is_some() && !is_announced {
            is_announced = true;
            let _ = writeln!(
                io::stderr(),
                "ordercast: {}; trying again for {} s, under the key {}",
                later.why,
                timeout.as_secs(),
                key.as_str()
            );
        }
        thread::sleep(pause.unwrap_or_default());
        if pause.is_none() || attempts.are_over() {
            let why = format!("{}; given up after {} s", later.why, timeout.as_secs());
            let order = if may_count { "whether the order counts is not known" } else { "the order is not counted" };
            return Err(ClientError::NoAnswer(format!("{why}; {order}\nto go on: {again}")));
        }
    }
}

/// A refusal of the last attempt, which says nothing of one before it.
fn refused(why: String, may_count: bool, again: &str) -> ClientError {
    ClientError::Refused(if may_count {
        format!("{why}; whether an attempt before it counts is not known\nto go on: {again}")
    } else {
        why
    })
}

fn print_ok() -> Result<(), ClientError> {
    let mut output = io::stdout().lock();
    match writeln!(output, "{}", json::OK).and_then(|()| output.flush()) {
        // The exit code is enough for a script that closes standard output.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(ClientError::Failed("the order is counted, but standard output cannot be written".to_owned(), error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_key_is_valid_and_needs_no_quotes() {
        let (one, other) = (random_key(), random_key());
        assert_ne!(one, other);
        assert!(one.len() == 27 && Key::new(&one).is_some() && shell_word(&one) == one, "{one}");
    }
}
