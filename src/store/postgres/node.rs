//! A server's place at a database that it shares with others: its connection, the numbers of its commits, and what it asks
//! of the functions there. Owns the rule that a commit whose answer is lost is asked for again under its number; knows
//! neither the ledger nor subscribers.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::changes::write_changes;
use super::error::PgError;
use super::hang_up::HangUp;
use super::load::{self, Loaded};
use super::migrate;
use super::page::{Page, Place};
use super::session::Session;
use super::target::Target;
use super::value::{Param, first};
use crate::store::{Change, Figures, Reason, StoreError};
use crate::tally::catalog::ProductIndex;
use crate::tally::order::{Amount, Key};

/// How long a call may take: 10 s. A database that is stopped for longer counts as away.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection may take to be made: 2 s, for all hosts together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// The same at the start: 6 s. A server that does not get it ends.
const FIRST_CONNECT_DEADLINE: Duration = Duration::from_secs(6);
/// How long a commit is asked for again whose answer was lost: 20 s, less than a client waits for the ledger.
const COMMIT_DEADLINE: Duration = Duration::from_secs(20);
/// How long reading everything may take: 60 s.
const LOAD_DEADLINE: Duration = Duration::from_secs(60);
/// The waits between two attempts to reach the database: from 50 ms to 1 s.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The most lines, and news, on one page: 20,000, some 0.1 s.
const PAGE_LINES: i32 = 20_000;
/// Rows that one call deletes at most, of keys and of lines each.
const PRUNED_ROWS: i32 = 4_096;

/// The requests of a commit.
#[derive(Debug, Default)]
pub struct Batch {
    products: Vec<i32>,
    amounts: Vec<i64>,
    keys: Vec<Option<Key>>,
    /// The number of each order's request, from 1.
    requests: Vec<i32>,
    /// Of each request.
    whole_keys: Vec<Option<Key>>,
    digests: Vec<Option<i64>>,
    sizes: Vec<u64>,
}

impl Batch {
    /// Adds a request with one order.
    pub fn push_order(&mut self, product: ProductIndex, amount: Amount, key: Option<Key>) {
        self.begin_request(None, None);
        self.push(product, amount, key);
    }

    /// Adds a request with several orders, with their digest and the key of all of them.
    pub fn push_batch(
        &mut self,
        orders: impl IntoIterator<Item = (ProductIndex, Amount, Option<Key>)>,
        key: Option<Key>,
        digest: i64,
    ) {
        self.begin_request(key, Some(digest));
        for (product, amount, key) in orders {
            self.push(product, amount, key);
        }
    }

    fn begin_request(&mut self, key: Option<Key>, digest: Option<i64>) {
        self.whole_keys.push(key);
        self.digests.push(digest);
        self.sizes.push(0);
    }

    fn push(&mut self, ProductIndex(index): ProductIndex, amount: Amount, key: Option<Key>) {
        self.products.push(index.cast_signed() + 1);
        self.amounts.push(amount.get());
        self.keys.push(key);
        self.requests.push(self.digests.len() as i32);
        if let Some(size) = self.sizes.last_mut() {
            *size += 1;
        }
    }

    /// The number of its orders.
    #[must_use]
    pub fn orders(&self) -> usize {
        self.products.len()
    }

    /// The number of orders of each request.
    #[must_use]
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It counts, with this number of orders that counted before.
    Counted(u64),
    /// It was not counted, for this reason, which an order of the batch at this index gave.
    Refused(Refusal, Option<usize>),
}

/// Why a request was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its key was used for another request.
    KeyReused,
    /// The product is hidden.
    Hidden,
    /// The total would be out of range.
    TotalOutOfRange,
    /// No key more may be stored.
    KeysFull,
}

/// A commit.
#[derive(Debug)]
pub struct Commit {
    /// What became of each request.
    pub verdicts: Vec<Verdict>,
    /// What was committed since the last page, these orders included unless it has more.
    pub page: Page,
}

/// A server's place at the database.
pub struct Node {
    target: Target,
    session: Option<Session>,
    hang_up: Arc<HangUp>,
    connect_deadline: Duration,
    id: i64,
    /// The number of the last commit.
    commits: i64,
    known: Known,
}

/// How far a server has followed the log: by this it notices with a new connection that the log is another one.
#[derive(Debug, Default)]
struct Known {
    /// The id of the run.
    run: Option<String>,
    /// The last line.
    seq: u64,
    /// Its time, if the line was read.
    at_ms: Option<u64>,
}

impl Known {
    fn note(&mut self, page: &Page) {
        if self.run.as_ref() != Some(&page.run) {
            *self = Self { run: Some(page.run.clone()), ..Self::default() };
        }
        if let Some(line) = page.lines.last() {
            (self.seq, self.at_ms) = (line.seq, Some(line.at_ms));
        }
    }
}

impl Node {
    /// Connects, and reads everything but the log.
    ///
    /// # Errors
    /// [`StoreError`] says what to change.
    pub fn open(target: Target) -> Result<(Self, Loaded), StoreError> {
        let mut node = Self {
            target,
            session: None,
            hang_up: Arc::default(),
            connect_deadline: FIRST_CONNECT_DEADLINE,
            id: 0,
            commits: 0,
            known: Known::default(),
        };
        node.id = node.call(CALL_DEADLINE, |session, deadline| {
            let sql = "SELECT ('x' || left(md5(gen_random_uuid()::text), 16))::bit(64)::bigint";
            first(session.query(sql, &[], deadline)?)?.int8(0)
        })?;
        let loaded = node.load()?;
        node.connect_deadline = CONNECT_DEADLINE;
        Ok((node, loaded))
    }

    /// The number by which its commits are told from those of other servers.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// What ends its connection from another thread.
    #[must_use]
    pub fn hang_up(&self) -> Arc<HangUp> {
        self.hang_up.clone()
    }

    /// Counts these requests. When the answer is lost, they are asked for again, also at another primary, until it is known
    /// what became of them.
    ///
    /// # Errors
    /// [`StoreError::Away`] when nothing was counted, [`StoreError::Unknown`] when that is not known after 20 s.
    pub fn commit(&mut self, batch: &Batch, since: Place) -> Result<Commit, StoreError> {
        self.commits += 1;
        let (number, deadline) = (self.commits, Instant::now() + COMMIT_DEADLINE);
        let mut wait = FIRST_WAIT;
        let mut may_have_run = false;
        loop {
            let id = self.id;
            let result = self
                .call(CALL_DEADLINE, |session, deadline| ask_for_commit(session, (id, number), batch, since, deadline));
            let error = match result {
                Ok(commit) => {
                    self.known.note(&commit.page);
                    return Ok(commit);
                }
                Err(error) => error,
            };
            may_have_run |= error.may_have_run();
            if !may_have_run {
                return Err(error.into());
            }
            if Instant::now() + wait >= deadline {
                return Err(StoreError::Unknown(Reason::new(
                    "the database did not tell what became of a commit",
                    error,
                )));
            }
            thread::sleep(wait);
            wait = LONGEST_WAIT.min(wait * 2);
        }
    }

    /// What was committed since, or a part of it. A connection that was lost is made anew.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read now.
    pub fn page(&mut self, since: Place) -> Result<Page, StoreError> {
        let page = self.again(|session, deadline| Page::read(session, since, PAGE_LINES, deadline))?;
        self.known.note(&page);
        Ok(page)
    }

    /// Begins a change that takes several steps: until it ends, no other server commits anything. Returns what was
    /// committed since, or a part of it.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be begun now.
    pub fn begin_change(&mut self, since: Place) -> Result<Page, StoreError> {
        Ok(self.again(|session, deadline| {
            session.script("BEGIN", deadline)?;
            session.query("SELECT seq FROM ordercast.lock()", &[], deadline)?;
            Page::read(session, since, PAGE_LINES, deadline)
        })?)
    }

    /// Writes the changes and ends what was begun.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when it is not known whether they were written, another one when they were not.
    pub fn finish_change(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        // A new connection would not have the lock.
        let Some(session) = &mut self.session else {
            return Err(StoreError::Away("the connection to the database was lost; nothing was changed".into()));
        };
        let deadline = Instant::now() + CALL_DEADLINE;
        if let Err(error) = write_changes(session, self.id, changes, deadline) {
            // Nothing was committed, whether or not that is heard of.
            self.abandon_change();
            return Err(match error {
                PgError::Away { reason, .. } => PgError::Away { reason, may_have_run: false }.into(),
                error => error.into(),
            });
        }
        session.script("COMMIT", deadline).map_err(|error| {
            self.session = None;
            if error.may_have_run() {
                StoreError::Unknown(Reason::new("the database did not tell whether a change was made", error))
            } else {
                error.into()
            }
        })
    }

    /// Ends what was begun without a change.
    pub fn abandon_change(&mut self) {
        if let Some(session) = &mut self.session
            && session.script("ROLLBACK", Instant::now() + CALL_DEADLINE).is_err()
        {
            self.session = None;
        }
    }

    /// Writes something that changes nothing, to find out whether a commit would succeed.
    ///
    /// # Errors
    /// [`StoreError`] when it would not.
    pub fn probe(&mut self) -> Result<(), StoreError> {
        let (id, commits) = (self.id, self.commits);
        self.again(|session, deadline| {
            let sql = "INSERT INTO ordercast.nodes (id, commit, outcomes, places, repeats, used_ms)
                 VALUES ($1, $2, '{}', '{}', '{}', ordercast.now_ms())
                 ON CONFLICT (id) DO UPDATE SET used_ms = excluded.used_ms";
            session.query(sql, &[Param::Int8(id), Param::Int8(commits)], deadline).map(drop)
        })?;
        Ok(())
    }

    /// Deletes some of what need not be kept. Returns whether there was nothing.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be deleted now.
    pub fn prune(&mut self) -> Result<bool, StoreError> {
        let sql = "SELECT ordercast.prune($1)";
        Ok(self.again(|session, deadline| {
            Ok(first(session.query(sql, &[Param::Int4(PRUNED_ROWS)], deadline)?)?.int8(0)? == 0)
        })?)
    }

    /// Reads everything but the log.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read now.
    pub fn load(&mut self) -> Result<Loaded, StoreError> {
        let session = self.session(self.connect_deadline)?;
        let loaded = load::load(session, Instant::now() + LOAD_DEADLINE);
        match &loaded {
            Ok(Loaded { stored, .. }) => {
                let run = stored.runs.last_id().map(str::to_owned);
                self.known = Known { run, seq: stored.last_seq, at_ms: None };
            }
            Err(_) => self.session = None,
        }
        loaded
    }

    /// How much the database holds.
    pub fn measure(&mut self) -> Figures {
        let sql = "SELECT head.seq - (SELECT coalesce(min(seq), head.seq + 1) FROM ordercast.orders) + 1, head.keys,
             pg_total_relation_size('ordercast.orders') + pg_total_relation_size('ordercast.keys')
             FROM ordercast.head";
        let row = self.call(Duration::from_secs(1), |session, deadline| first(session.query(sql, &[], deadline)?));
        let Ok(row) = row else { return Figures::default() };
        let number = |column| row.int8(column).ok().map(|number| number.max(0).cast_unsigned());
        Figures { log_rows: number(0), key_rows: number(1), data_bytes: number(2), ..Figures::default() }
    }

    /// Ends the connection.
    pub fn close(&mut self) {
        self.session = None;
    }

    /// Calls the database, once more if the connection was lost: for what may be done twice.
    fn again<T>(&mut self, mut call: impl FnMut(&mut Session, Instant) -> Result<T, PgError>) -> Result<T, PgError> {
        match self.call(CALL_DEADLINE, &mut call) {
            Err(PgError::Away { .. }) => self.call(CALL_DEADLINE, &mut call),
            result => result,
        }
    }

    fn call<T>(
        &mut self,
        time: Duration,
        call: impl FnOnce(&mut Session, Instant) -> Result<T, PgError>,
    ) -> Result<T, PgError> {
        let session = self.session(self.connect_deadline.min(time))?;
        let result = call(session, Instant::now() + time);
        if let Err(PgError::Away { .. } | PgError::Unexpected(_)) = &result {
            self.session = None;
        }
        result
    }

    /// The connection, which is made if there is none. Then a run begins, if the last one was of another log.
    fn session(&mut self, time: Duration) -> Result<&mut Session, PgError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let session = connect(&self.target, &self.known, Instant::now() + time).map_err(nothing_was_asked)?;
                self.hang_up.note(session.line());
                session
            }
        };
        Ok(self.session.insert(session))
    }
}

/// The error of a connection that was being made, over which nothing was asked yet.
fn nothing_was_asked(error: PgError) -> PgError {
    match error {
        PgError::Away { reason, .. } => PgError::Away { reason, may_have_run: false },
        PgError::Unexpected(what) => PgError::unreachable(what),
        error @ (PgError::Server { .. } | PgError::Schema(_)) => error,
    }
}

fn connect(target: &Target, known: &Known, deadline: Instant) -> Result<Session, PgError> {
    let mut session = Session::connect(target, deadline)?;
    // Before the functions are used: other tables may come while no connection stands.
    migrate::check(&mut session, deadline)?;
    // A server that dies in the middle of a change keeps the others waiting no longer than this.
    session.script("SET idle_in_transaction_session_timeout = '5s'", deadline)?;
    let sql = "SELECT run FROM ordercast.join(left(md5(gen_random_uuid()::text), 16), $1, $2, $3)";
    let params = [
        Param::TextOrNull(known.run.as_deref()),
        Param::Int8(known.seq.cast_signed()),
        Param::Int8OrNull(known.at_ms.map(u64::cast_signed)),
    ];
    session.query(sql, &params, deadline)?;
    Ok(session)
}

fn ask_for_commit(
    session: &mut Session,
    (id, number): (i64, i64),
    batch: &Batch,
    since: Place,
    deadline: Instant,
) -> Result<Commit, PgError> {
    let text = |key: &'_ Option<Key>| key.as_ref().map(Key::as_str).map(str::to_owned);
    let keys: Vec<Option<String>> = batch.keys.iter().map(text).collect();
    let whole_keys: Vec<Option<String>> = batch.whole_keys.iter().map(text).collect();
    let keys: Vec<Option<&str>> = keys.iter().map(Option::as_deref).collect();
    let whole_keys: Vec<Option<&str>> = whole_keys.iter().map(Option::as_deref).collect();
    let params = [
        Param::Int8(id),
        Param::Int8(number),
        Param::Int8(since.seq.cast_signed()),
        Param::Int8(since.news.cast_signed()),
        Param::Int4(PAGE_LINES),
        Param::Int4s(&batch.products),
        Param::Int8s(&batch.amounts),
        Param::Texts(&keys),
        Param::Int4s(&batch.requests),
        Param::Texts(&whole_keys),
        Param::Int8sOrNull(&batch.digests),
    ];
    let sql = "SELECT * FROM ordercast.commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let row = first(session.query(sql, &params, deadline)?)?;
    let (outcomes, places, repeats) = (row.int2s(0)?, row.int4s(1)?, row.int4s(2)?);
    if [outcomes.len(), places.len(), repeats.len()] != [batch.sizes().len(); 3] {
        return Err(PgError::Unexpected("a commit does not have an outcome for each request".into()));
    }
    let verdict = |((outcome, place), repeats): ((i16, i32), i32)| {
        let refusal = match outcome {
            0 | 1 => return Ok(Verdict::Counted(repeats.max(0).cast_unsigned().into())),
            2 => Refusal::KeyReused,
            3 => Refusal::Hidden,
            4 => Refusal::TotalOutOfRange,
            5 => Refusal::KeysFull,
            other => return Err(PgError::Unexpected(format!("a commit has the unknown outcome {other}"))),
        };
        Ok(Verdict::Refused(refusal, usize::try_from(place).ok()))
    };
    let verdicts = outcomes.into_iter().zip(places).zip(repeats).map(verdict).collect::<Result<_, _>>()?;
    Ok(Commit { verdicts, page: Page::of_row(session, &row, 3, since, deadline)? })
}
