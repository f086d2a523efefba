//! The store in one SQLite file. Owns the folder's lock and what happens where the file cannot be opened for writing;
//! `session` owns the file once it is open. Knows nothing of threads or the network.

mod changes;
mod integrity;
mod key_index;
mod keys;
mod rewrite;
mod session;
#[cfg(test)]
mod tests;
mod totals;
mod unwritable;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;

use super::files::{DATA_FILE, data_file, folder_of, has_room, lock_to_make, lock_to_read, must_be_made, write_id};
use super::retention::Retention;
use super::{Change, Figures, KeyUse, Reason, Rest, Store, StoreError, Stored};
use crate::tally::order::Key;
use crate::tally::position::RunList;

pub(crate) use changes::write_changes;
pub use integrity::{IntegrityCheck, LogSize};

use session::Session;

/// A data folder opened for one server.
pub struct SqliteStore {
    /// The data file's path as the operator has named it.
    named: PathBuf,
    /// The same without links.
    path: PathBuf,
    retention: Retention,
    /// `None` while the file cannot be opened for writing, as on a full disk: each commit tries again.
    session: Option<Session>,
    /// What the file held when it was read, for a session that is opened later.
    last_seq: u64,
    products: usize,
    runs: RunList,
    /// Held for as long as the store lives.
    lock: Option<File>,
}

impl SqliteStore {
    /// Opens the data folder, making it and its file if they do not exist, and reads what is stored. Where the file can be
    /// read but not opened for writing, as on a full disk, the store rejects changes until it can be.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server owns the folder; [`StoreError::Damaged`]; [`StoreError::Unusable`] when
    /// the file is of another program or of a newer version; otherwise the disk's error.
    pub fn open(folder: &Path, retention: Retention) -> Result<(Self, Stored), StoreError> {
        fs::create_dir_all(folder).map_err(|error| {
            let path = folder.display();
            if folder.exists() {
                return StoreError::Unusable(format!("{path} is not a folder; name one with --data").into());
            }
            StoreError::unusable(format!("cannot make the data folder {path}"), error)
        })?;
        let path = data_file(folder)?;
        let mut store = Self {
            named: folder.join(DATA_FILE),
            path,
            retention,
            session: None,
            last_seq: 0,
            products: 0,
            runs: RunList::default(),
            lock: None,
        };
        let stored = match store.open_session() {
            Ok(stored) => stored,
            Err(error) if error.forbids_writing_only() => {
                if store.lock.is_none() {
                    store.lock = lock_to_read(folder_of(&store.path))?;
                }
                // The reason why it cannot be written says more than the one why it cannot be read either.
                let Ok(stored) = unwritable::read(&store.path) else { return Err(error) };
                stored
            }
            Err(error) => return Err(error),
        };
        (store.last_seq, store.products, store.runs) = (stored.last_seq, stored.totals.len(), stored.runs.clone());
        Ok((store, stored))
    }

    /// Takes the folder's lock, unless it is held, and opens the file for writing.
    fn open_session(&mut self) -> Result<Stored, StoreError> {
        let folder = folder_of(&self.path);
        let was_locked = self.lock.is_some();
        let lock = match &mut self.lock {
            Some(lock) => lock,
            lock => lock.insert(lock_to_make(&self.path)?),
        };
        let is_made = must_be_made(&self.path, lock)?;
        if !is_made && !was_locked {
            write_id(lock, folder)?;
        }
        let (session, stored) = Session::open(&self.named, &self.path, self.retention).map_err(|error| {
            // SQLite does not say that a file beside the data file cannot be made or grow for lack of space.
            let may_be_full = matches!(error.sqlite_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen));
            if may_be_full && !has_room(folder_of(&self.path)) {
                StoreError::Full(Reason::new(format!("no space left for {}", self.path.display()), error))
            } else {
                error
            }
        })?;
        if is_made {
            write_id(lock, folder)?;
        }
        self.session = Some(session);
        Ok(stored)
    }

    /// Whether all pages are known to be sound: after a stop in order, or a check.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_sound)
    }

    /// A check of all pages, which another thread may run; `None` while the file is not open.
    #[must_use]
    pub fn integrity_check(&self) -> Option<IntegrityCheck> {
        self.session.as_ref().map(Session::integrity_check)
    }

    /// The path of the data file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file; opens it if it could not be opened before.
    fn session(&mut self) -> Result<&mut Session, StoreError> {
        if self.session.is_none() {
            let stored = self.open_session()?;
            let session = self
                .session
                .as_mut()
                .filter(|_| (stored.last_seq, stored.totals.len()) == (self.last_seq, self.products));
            let Some(session) = session else {
                self.session = None;
                let text = "the data file was changed while it could not be opened; restart the server";
                return Err(StoreError::Displaced(text.into()));
            };
            session.continue_run(self.runs.clone());
            log::info!("the data file has been opened for writing");
        }
        Ok(self.session.as_mut().expect("it has just been opened"))
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.session()?.commit(changes)
    }

    fn find_key(&mut self, key: &Key) -> Result<Option<KeyUse>, StoreError> {
        self.session()?.find_key(key)
    }

    fn has_room_for_key(&mut self, pending: usize) -> Result<bool, StoreError> {
        self.session()?.has_room_for_key(pending)
    }

    fn sync_time(&self) -> Option<Duration> {
        self.session.as_ref().and_then(|session| session.sync_time)
    }

    fn measure(&mut self) -> Figures {
        let mut figures = Figures::of_files(&self.path);
        if let Some(session) = &self.session {
            session.measure(&mut figures);
        }
        figures
    }

    fn inspect(&mut self) -> Result<(), StoreError> {
        self.session()?.compare_files()
    }

    fn rest(&mut self) -> Rest {
        self.session.as_mut().map_or(Rest::Done, Session::rest)
    }

    fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}
