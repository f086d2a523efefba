//! Why a server did not start, or ended by itself.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::api::tokens::TokenFileError;
use crate::store::{Reason, StoreError};

/// Why a server did not start, or ended by itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// An address cannot be listened on: choose another, or stop the program that uses it.
    Listen(SocketAddr, io::Error),
    /// The data folder cannot be used; the text says what to do.
    Store(StoreError),
    /// The catalogue cannot be used; the text says where it is wrong.
    Catalog(Reason),
    /// A token file cannot be used.
    Tokens(TokenFileError),
    /// The folder of the web app cannot be used.
    StaticDir(PathBuf, io::Error),
    /// The token file for the server that this one follows cannot be used. The text says what to do.
    FollowToken(Reason),
    /// The program was built without the feature `client`, which following another server needs.
    CannotFollow,
    /// The system refused a thread or a poll.
    System(io::Error),
    /// One of the server's threads ended too early, which is a bug: the server has stopped.
    Broken(&'static str),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {address}: it is in use; stop the other server or choose with --listen")
            }
            Self::Listen(address, _) => write!(f, "cannot listen on {address}"),
            Self::Store(error) => error.fmt(f),
            Self::Tokens(error) => error.fmt(f),
            Self::Catalog(reason) => write!(f, "the catalogue cannot be used: {reason}"),
            Self::StaticDir(path, _) => write!(f, "cannot serve files from {}", path.display()),
            Self::FollowToken(reason) => reason.fmt(f),
            Self::CannotFollow => {
                write!(f, "this program was built without following other servers (the feature client)")
            }
            Self::System(_) => write!(f, "the system refused what the server needs"),
            Self::Broken(thread) => write!(f, "the {thread} thread has ended; this is a bug"),
        }
    }
}

impl Error for ServerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The text contains the cause.
            Self::Listen(_, error) if error.kind() == io::ErrorKind::AddrInUse => None,
            Self::Listen(_, error) | Self::StaticDir(_, error) | Self::System(error) => Some(error),
            // `Display` prints these themselves, so their cause comes next.
            Self::Store(error) => error.source(),
            Self::Tokens(error) => error.source(),
            Self::Catalog(reason) | Self::FollowToken(reason) => reason.cause(),
            Self::Broken(_) | Self::CannotFollow => None,
        }
    }
}

impl From<StoreError> for ServerError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TokenFileError> for ServerError {
    fn from(error: TokenFileError) -> Self {
        Self::Tokens(error)
    }
}
