//! A session with the database.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use log::warn;
use postgres_protocol::Oid;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::error::{PgError, READ_ONLY, Reason};
use super::startup::{self, server_error, share};
use super::target::Target;
use super::value::{Param, Row};
use super::wire::{Line, MAX_MESSAGE_BYTES, Wire, away};
use crate::log::Throttle;

/// The first statements of a session, the answer to the last of which is read. What a database or a role has as its own
/// defaults must not change what a commit promises: the server waits for the disk and for synchronous standbys, a timeout
/// does not cut this wait short, and a statement sees what was committed while it waited for a lock. And a node that
/// vanishes must not hold a lock for the two hours that TCP takes to notice: the server ends its session after some seconds.
/// One that gives up while it waits for a lock leaves its session behind: the server looks whether its client is there
/// (from PostgreSQL 14 on, and not on every system), and no wait is longer than a call may take.
const SETUP: &str = "SET synchronous_commit = on; SET statement_timeout = 0; SET lock_timeout = '9s'; \
    SELECT set_config(name, '1s', false) FROM pg_settings \
        WHERE name = 'client_connection_check_interval' AND version() LIKE '%linux%'; \
    SET default_transaction_isolation = 'read committed'; SET idle_in_transaction_session_timeout = '10s'; \
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2; \
    SET tcp_user_timeout = '15s'; SET client_min_messages = warning; SHOW transaction_read_only";

/// Notifications that wait to be taken. More of them tell nothing new: each says only that there is something to read.
const MAX_NOTIFICATIONS: usize = 1_024;

/// What a row takes at least, however few bytes it has.
const ROW_BYTES: usize = 256;

/// What `LISTEN` brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The name after `LISTEN`.
    pub channel: String,
    /// The text that was sent.
    pub payload: String,
}

/// A statement that the server has prepared.
#[derive(Debug)]
struct Statement {
    name: String,
    types: Vec<Oid>,
}

/// A connection that is logged in. Every call ends at its deadline. After an error of the connection, a deadline included,
/// every later call fails at once.
#[derive(Debug)]
pub struct Session {
    wire: Wire,
    is_broken: bool,
    statements: HashMap<&'static str, Statement>,
    /// How many statements were prepared; each has a name of its own.
    prepared: u64,
    notifications: VecDeque<Notification>,
    notices: Throttle,
    /// The last message that was sent; kept for its memory.
    message: BytesMut,
}

impl Session {
    /// Tries the servers of the target in turn, each for its share of the time.
    ///
    /// # Errors
    /// [`PgError::Away`] when none can be reached, or takes changes where that is asked for; says why of each.
    /// [`PgError::Server`] when one refuses the login, [`PgError::Unexpected`] when something is configured wrongly.
    pub fn connect(target: &Target, deadline: Instant) -> Result<Session, PgError> {
        let mut reasons = Vec::new();
        for (number, host) in target.hosts.iter().enumerate() {
            let Ok(mut until) = share(deadline, target.hosts.len() - number) else {
                reasons.push((host, Reason::Deadline));
                break;
            };
            if let Some(timeout) = target.connect_timeout {
                until = until.min(Instant::now() + timeout);
            }
            match Session::start(target, number, until) {
                Ok(session) => return Ok(session),
                Err(PgError::Away { reason, .. }) => reasons.push((host, reason)),
                Err(error) => return Err(error),
            }
        }
        let each: Vec<_> = reasons.iter().map(|(host, reason)| format!("{host}: {reason}")).collect();
        Err(PgError::Away { reason: Reason::Connection(each.join("; ")), may_have_run: false })
    }

    fn start(target: &Target, number: usize, deadline: Instant) -> Result<Session, PgError> {
        let wire = startup::start(target, &target.hosts[number], deadline)?;
        let mut session = Session {
            wire,
            is_broken: false,
            statements: HashMap::new(),
            prepared: 0,
            notifications: VecDeque::new(),
            notices: Throttle::default(),
            message: BytesMut::new(),
        };
        let rows = session.simple(SETUP, deadline)?;
        let takes_changes = match rows.last() {
            Some(row) => row.text(0)? == "off",
            None => return Err(PgError::Unexpected("SHOW has no row".to_owned())),
        };
        if target.read_write && !takes_changes {
            let message = "the server takes no changes".to_owned();
            return Err(PgError::of_server(READ_ONLY.to_owned(), message));
        }
        Ok(session)
    }

    /// What ends the connection from another thread.
    pub(super) fn line(&self) -> Option<Line> {
        self.wire.line()
    }

    /// Whether an earlier call has broken the session.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Runs one statement in one round trip and returns its rows. It is prepared when it is first run.
    ///
    /// # Errors
    /// [`PgError`] says whether the session goes on.
    pub fn query(&mut self, sql: &'static str, params: &[Param<'_>], deadline: Instant) -> Result<Vec<Row>, PgError> {
        self.begin(deadline)?;
        let known = self.statements.get(sql);
        let known = known.filter(|known| known.types.iter().copied().eq(params.iter().map(Param::oid)));
        let is_new = known.is_none();
        let name = match known {
            Some(known) => known.name.clone(),
            None => {
                self.prepared += 1;
                format!("s{}", self.prepared)
            }
        };
        self.message.clear();
        if is_new {
            let types = params.iter().map(Param::oid);
            frontend::parse(&name, sql, types, &mut self.message).map_err(|error| unsendable(&error))?;
        }
        let encode = |param: &Param<'_>, buffer: &mut BytesMut| param.encode(buffer);
        if frontend::bind("", &name, [1], params, encode, [1], &mut self.message).is_err() {
            return Err(unsendable(&"the parameters are too large"));
        }
        frontend::execute("", 0, &mut self.message).map_err(|error| unsendable(&error))?;
        frontend::sync(&mut self.message);
        let mut is_prepared = false;
        let answer = self.exchange(deadline, &mut is_prepared);
        if is_prepared {
            let types = params.iter().map(Param::oid).collect();
            self.statements.insert(sql, Statement { name, types });
        }
        if let Err(PgError::Server { code, .. }) = &answer
            && matches!(code.as_str(), "0A000" | "26000")
        {
            // The plan does not fit a changed schema, or the server has lost the statement: the next call prepares it anew.
            self.statements.remove(sql);
        }
        answer
    }

    /// Runs statements without parameters, such as those of a migration, `BEGIN` and `COMMIT`. Without a `BEGIN` they are
    /// one transaction.
    ///
    /// # Errors
    /// [`PgError`] says whether the session goes on.
    pub fn script(&mut self, sql: &str, deadline: Instant) -> Result<(), PgError> {
        self.simple(sql, deadline).map(|_| ())
    }

    /// The next notification; `None` at `until`. What has arrived is found even if that has passed.
    ///
    /// # Errors
    /// [`PgError::Away`] when the connection has ended.
    pub fn notification(&mut self, until: Instant) -> Result<Option<Notification>, PgError> {
        if self.is_broken {
            return Err(broken());
        }
        // The least time in which the kernel is asked.
        let until = until.max(Instant::now() + Duration::from_millis(1));
        while self.notifications.is_empty() {
            let message = match self.wire.receive(until) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => return Err(self.breaks(error)),
            };
            if let Message::ErrorResponse(body) = &message {
                // Without a statement only the end of the session is an error.
                let said = server_error(body.fields());
                return Err(self.breaks(ended(Some(said), out_of_turn())));
            }
            if !self.takes_aside(&message)? {
                return Err(self.breaks(out_of_turn()));
            }
        }
        Ok(self.notifications.pop_front())
    }

    fn simple(&mut self, sql: &str, deadline: Instant) -> Result<Vec<Row>, PgError> {
        self.begin(deadline)?;
        self.message.clear();
        frontend::query(sql, &mut self.message).map_err(|error| unsendable(&error))?;
        self.exchange(deadline, &mut false)
    }

    /// Refuses a call on a broken session, and one whose deadline has passed.
    fn begin(&mut self, deadline: Instant) -> Result<(), PgError> {
        if self.is_broken {
            return Err(broken());
        }
        if Instant::now() >= deadline {
            return Err(PgError::Away { reason: Reason::Deadline, may_have_run: false }).inspect_err(|_| {
                // The rule of the type holds without exception.
                self.is_broken = true;
            });
        }
        Ok(())
    }

    /// Marks the session as broken by this error.
    fn breaks(&mut self, error: PgError) -> PgError {
        self.is_broken = true;
        error
    }

    /// Sends the message and reads the answer.
    fn exchange(&mut self, deadline: Instant, is_prepared: &mut bool) -> Result<Vec<Row>, PgError> {
        let message = std::mem::take(&mut self.message);
        let sent = self.wire.send(&message, deadline);
        self.message = message;
        // A server that ends the session may have said why before it closed the connection.
        let answer = self.answer(deadline, is_prepared);
        let result = match (sent, answer) {
            (Ok(()), answer) => answer,
            (Err(sent), Err(said)) => Err(ended(Some(said), sent)),
            (Err(sent), Ok(_)) => Err(sent),
        };
        match result {
            Err(error @ (PgError::Away { .. } | PgError::Unexpected(_))) => Err(self.breaks(error)),
            result => result,
        }
    }

    /// Reads up to the end of an answer.
    fn answer(&mut self, deadline: Instant, is_prepared: &mut bool) -> Result<Vec<Row>, PgError> {
        let (mut rows, mut bytes, mut failed) = (Vec::new(), 0_usize, None);
        loop {
            let message = match self.wire.receive(deadline) {
                Ok(Some(message)) => message,
                Ok(None) => return Err(failed.unwrap_or_else(|| away(Reason::Deadline))),
                // The connection ends behind an error that ends the session.
                Err(error) => return Err(ended(failed, error)),
            };
            match message {
                Message::ParseComplete => *is_prepared = true,
                Message::DataRow(body) => {
                    bytes = bytes.saturating_add(ROW_BYTES + body.buffer().len());
                    if bytes > MAX_MESSAGE_BYTES {
                        return Err(PgError::Unexpected(format!("an answer of more than {MAX_MESSAGE_BYTES} bytes")));
                    }
                    rows.push(Row::new(&body)?);
                }
                Message::ErrorResponse(body) => failed = Some(failed.unwrap_or_else(|| server_error(body.fields()))),
                Message::ReadyForQuery(_) => return failed.map_or(Ok(rows), Err),
                Message::BindComplete
                | Message::CommandComplete(_)
                | Message::EmptyQueryResponse
                | Message::RowDescription(_)
                | Message::NoData => {}
                message if self.takes_aside(&message)? => {}
                _ => return Err(out_of_turn()),
            }
        }
    }

    /// Takes a message that may come at any time; `false` if this is none.
    fn takes_aside(&mut self, message: &Message) -> Result<bool, PgError> {
        match message {
            Message::NotificationResponse(body) => {
                let text = |text: std::io::Result<&str>| {
                    text.map(str::to_owned).map_err(|error| PgError::Unexpected(format!("a notification: {error}")))
                };
                let notification = Notification { channel: text(body.channel())?, payload: text(body.message())? };
                if self.notifications.len() < MAX_NOTIFICATIONS {
                    self.notifications.push_back(notification);
                }
            }
            Message::NoticeResponse(body) => {
                if self.notices.allows() {
                    warn!("PostgreSQL warns: {}", notice(server_error(body.fields())));
                }
            }
            Message::ParameterStatus(_) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_broken {
            self.wire.end();
        }
    }
}

/// The error of a session that ended with `error`: what the server said before, if it said something.
fn ended(said: Option<PgError>, error: PgError) -> PgError {
    match said {
        // It ends a session also for reasons that are not about its state, such as a transaction that was idle too long.
        Some(PgError::Server { code, message }) => away(Reason::Server { code, message }),
        Some(said @ PgError::Away { reason: Reason::Server { .. }, .. }) => said,
        _ => error,
    }
}

/// The text of a notice.
fn notice(said: PgError) -> String {
    match said {
        PgError::Server { message, .. } | PgError::Away { reason: Reason::Server { message, .. }, .. } => message,
        other => other.to_string(),
    }
}

fn broken() -> PgError {
    PgError::Away { reason: Reason::Broken, may_have_run: false }
}

fn out_of_turn() -> PgError {
    PgError::Unexpected("a message out of turn".to_owned())
}

/// A call of which nothing was sent: the session goes on.
fn unsendable(why: &impl std::fmt::Display) -> PgError {
    PgError::Server { code: "22000".to_owned(), message: format!("not sent: {why}") }
}
