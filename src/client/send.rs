//! `ordercast post -`: sends the orders of standard input in requests of as many as are there, one request at a time, each
//! again until it is answered. Every order has a key, so that each counts once.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};

use super::ClientError;
use super::attempts::Attempts;
use super::batch::Batch;
use super::input::{self, Input};
use super::interrupt::{self, Reached};
use super::progress::Progress;
use super::server::{Failure, Later, REQUEST, Server};
use super::text::{shell_word, short};
use crate::json;

const MEDIA: &str = "application/x-ndjson";

/// Sends everything.
///
/// # Errors
/// [`ClientError`] says up to which line everything is counted, and how to go on.
pub(super) fn run(server: Server, prefix: &str, timeout: Option<Duration>) -> Result<(), ClientError> {
    let system = |error| ClientError::Failed("the system refuses a thread".to_owned(), error);
    let mut progress = Progress::start(length_of_input());
    let reached = Arc::new(Reached::default());
    let say = progress.speaker();
    let (notice, last_notice) = (say.clone(), say);
    let (for_notice, for_last, own_prefix) = (reached.clone(), reached.clone(), prefix.to_owned());
    let stop = interrupt::watch(
        move || {
            if for_notice.sent.load(Ordering::Relaxed) > for_notice.counted.load(Ordering::Relaxed) {
                notice("waiting for the answer to the orders that were sent; a second signal ends this at once");
            }
        },
        move || last_notice(&message(&[&for_last.text(), &how_to_go_on(&own_prefix)])),
    )
    .map_err(system)?;
    let lines = input::read(io::stdin(), prefix).map_err(system)?;
    let mut sending = Sending { server, timeout, progress: &mut progress, reached, stop, held: None, lines };
    let end = sending.run();
    let reached = sending.reached.text();
    progress.finish();
    let (text, error): (String, fn(String) -> ClientError) = match end {
        End::Done => return Ok(()),
        End::Interrupted(signal) => {
            return Err(ClientError::Interrupted(signal, message(&["interrupted", &reached, &how_to_go_on(prefix)])));
        }
        End::Failed(line, error) => {
            let text = format!("{reached}; standard input cannot be read behind line {line}");
            return Err(ClientError::Failed(text, error));
        }
        End::Wrong(line, why) => (format!("line {line}: {why}"), ClientError::Refused),
        End::Refused(why) => (why, ClientError::Refused),
        End::NoAnswer(why) => (why, ClientError::NoAnswer),
    };
    Err(error(message(&[&text, &reached, &how_to_go_on(prefix)])))
}

/// A message of several lines.
fn message(texts: &[&str]) -> String {
    texts.join("\n")
}

fn how_to_go_on(prefix: &str) -> String {
    format!(
        "to go on, send the same input from its beginning with --key {}: what is counted is not counted again",
        shell_word(prefix)
    )
}

/// The bytes of standard input, if it is a file.
fn length_of_input() -> Option<u64> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = input.metadata().ok()?;
    metadata.is_file().then_some(metadata.len())
}

/// Why sending has ended.
enum End {
    Done,
    Interrupted(i32),
    /// The input cannot be read behind this many lines.
    Failed(u64, io::Error),
    /// A line is wrong.
    Wrong(u64, String),
    /// The server refuses the request as a whole.
    Refused(String),
    /// The server does not answer in time.
    NoAnswer(String),
}

struct Sending<'a> {
    server: Server,
    timeout: Option<Duration>,
    progress: &'a mut Progress,
    reached: Arc<Reached>,
    /// The number of the signal that asks for the end.
    stop: Receiver<i32>,
    lines: Receiver<Input>,
    /// What did not fit into the last batch, or ends the input.
    held: Option<Input>,
}

impl Sending<'_> {
    fn run(&mut self) -> End {
        loop {
            let sent = self.next_batch().and_then(|batch| self.send(batch));
            if let Err(end) = sent {
                return end;
            }
        }
    }

    /// Waits for an order, and takes with it those that are there.
    fn next_batch(&mut self) -> Result<Batch, End> {
        let mut batch = Batch::default();
        loop {
            if let Ok(signal) = self.stop.try_recv() {
                return Err(End::Interrupted(signal));
            }
            let is_empty = batch.entries().is_empty();
            let input = match self.held.take() {
                Some(input) => input,
                None if is_empty => select! {
                    recv(self.lines) -> input => input.map_err(|_| End::Done)?,
                    recv(self.stop) -> signal => return Err(End::Interrupted(signal.unwrap_or_default())),
                },
                None => match self.lines.try_recv() {
                    Ok(input) => input,
                    Err(_) => return Ok(batch),
                },
            };
            let full = match input {
                Input::Entry(entry) => match batch.push(entry) {
                    Ok(()) => continue,
                    Err(entry) => Input::Entry(entry),
                },
                Input::Wrong(line, why) if is_empty => return Err(End::Wrong(line, why)),
                Input::Failed(line, error) if is_empty => return Err(End::Failed(line, error)),
                other => other,
            };
            self.held = Some(full);
            return Ok(batch);
        }
    }

    /// Sends a batch until it is counted. If one of its orders is wrong, those before it are counted.
    fn send(&mut self, mut batch: Batch) -> Result<(), End> {
        let mut wrong = None;
        while let Some(last) = batch.entries().last() {
            let (line, end) = (last.line, last.end);
            self.reached.sent.store(line, Ordering::Relaxed);
            match self.send_once(&batch) {
                Ok(()) => {
                    self.reached.counted.store(line, Ordering::Relaxed);
                    self.progress.counted(batch.entries().len(), end);
                    break;
                }
                // The server counts all orders of a request or none.
                Err(Rejected::Order(place, why)) => {
                    wrong = Some(End::Wrong(batch.entries()[place].line, why));
                    batch.truncate(place);
                    self.reached.sent.store(self.reached.counted.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                Err(Rejected::All(end)) => return Err(end),
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Sends a batch until it is answered.
    fn send_once(&mut self, batch: &Batch) -> Result<(), Rejected> {
        let mut attempts = Attempts::within(self.timeout);
        let mut may_count = false;
        loop {
            let later = match self.server.post("/orders", MEDIA, batch.body(), attempts.time_left(REQUEST)) {
                Ok(answer) if json::batch_is_counted(&answer, batch.keys()) => return Ok(()),
                Ok(_) => return Err(Rejected::All(End::Refused(self.server.foreign()))),
                Err(Failure::Refused(why, answer)) => {
                    let order = json::first_wrong_order(&answer).filter(|(place, _)| *place < batch.entries().len());
                    if order.is_none() && !may_count {
                        self.forget_sent();
                    }
                    return Err(order
                        .map_or(Rejected::All(End::Refused(why)), |(place, why)| Rejected::Order(place, short(&why))));
                }
                Err(Failure::Later(later)) => later,
            };
            may_count |= later.may_count;
            let end = match attempts.pause(later.after) {
                None => self.given_up(&later),
                Some(pause) => {
                    self.progress.failed(&later.why);
                    // A signal that came during the request is there already.
                    match self.stop.recv_timeout(pause) {
                        Ok(signal) => End::Interrupted(signal),
                        Err(_) if !attempts.are_over() => continue,
                        Err(_) => self.given_up(&later),
                    }
                }
            };
            if !may_count {
                self.forget_sent();
            }
            return Err(Rejected::All(end));
        }
    }

    fn given_up(&self, later: &Later) -> End {
        let seconds = self.timeout.unwrap_or_default().as_secs();
        End::NoAnswer(format!("{}; given up after {seconds} s", later.why))
    }

    /// Nothing of the last batch can be counted.
    fn forget_sent(&self) {
        self.reached.sent.store(self.reached.counted.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Why a batch is not counted.
enum Rejected {
    /// The order at this place is wrong.
    Order(usize, String),
    All(End),
}
