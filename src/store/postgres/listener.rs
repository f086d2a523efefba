//! Hears what other servers commit to a database, and notices when it cannot be reached.

use std::time::{Duration, Instant};

use super::error::PgError;
use super::migrate;
use super::page::Place;
use super::session::Session;
use super::target::Target;
use super::value::first;
use crate::store::StoreError;

/// After this time without a notification the database is asked for its head: 0.7 s. Together with the deadline of the
/// answer it is noticed within 2 s that a database does not answer.
pub const ASK_AFTER: Duration = Duration::from_millis(700);
/// How long the answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_millis(900);
/// How long a connection may take to be made: no longer than it takes to notice that one does not answer.
const CONNECT_DEADLINE: Duration = Duration::from_millis(1_600);

/// A place that no server has followed up to: there is something to follow, whatever is known.
pub const EVERYTHING: Place = Place { seq: u64::MAX, news: u64::MAX };

/// A connection that listens.
pub struct Listener {
    target: Target,
    /// The node whose own commits are no news.
    node: i64,
    session: Option<Session>,
    /// What the head was when it was last asked for.
    head: Place,
}

impl Listener {
    /// One that is not connected yet.
    #[must_use]
    pub fn new(target: Target, node: i64) -> Self {
        Self { target, node, session: None, head: Place::default() }
    }

    /// Waits until another server has committed something, or for this long, at most [`ASK_AFTER`]. Returns up to where
    /// there is something to follow, as there is after every connection.
    ///
    /// # Errors
    /// [`StoreError::Away`] when the database cannot be reached. The next call tries again.
    pub fn listen(&mut self, time: Duration) -> Result<Option<Place>, StoreError> {
        let (session, heard) = match self.session.take() {
            None => (self.connect()?, Some(EVERYTHING)),
            Some(session) => self.hear(session, time)?,
        };
        self.session = Some(session);
        Ok(heard)
    }

    /// Whatever was committed meanwhile has to be followed then.
    fn connect(&mut self) -> Result<Session, PgError> {
        let deadline = Instant::now() + CONNECT_DEADLINE;
        let mut session = Session::connect(&self.target, deadline)?;
        session.script("LISTEN ordercast", deadline)?;
        // So that a database that refuses this is not taken for one that can be reached.
        self.head = head(&mut session, deadline)?;
        Ok(session)
    }

    fn hear(&mut self, mut session: Session, time: Duration) -> Result<(Session, Option<Place>), StoreError> {
        if let Some(notification) = session.notification(Instant::now() + time.min(ASK_AFTER))? {
            let heard = parse(&notification.payload);
            let is_own = heard.is_some_and(|(node, _)| node == self.node);
            return Ok((session, (!is_own).then_some(heard.map_or(EVERYTHING, |(_, place)| place))));
        }
        let head = head(&mut session, Instant::now() + ANSWER_DEADLINE)?;
        Ok((session, (std::mem::replace(&mut self.head, head) != head).then_some(EVERYTHING)))
    }
}

/// The head of a database that has the present tables still.
fn head(session: &mut Session, deadline: Instant) -> Result<Place, PgError> {
    let sql = "SELECT h.seq, h.news, v.version FROM ordercast.head h, ordercast.version v";
    let row = first(session.query(sql, &[], deadline).map_err(migrate::reading)?)?;
    migrate::check_version(row.int4(2)?)?;
    let number = |column| row.int8(column).map(|number| number.max(0).cast_unsigned());
    Ok(Place { seq: number(0)?, news: number(1)? })
}

/// The node that has committed something, and the head after it.
fn parse(payload: &str) -> Option<(i64, Place)> {
    let mut words = payload.split(' ');
    let node = words.next()?.parse().ok()?;
    let mut number = || words.next()?.parse().ok();
    Some((node, Place { seq: number()?, news: number()? }))
}
