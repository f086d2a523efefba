//! The commands that speak to a server over HTTP: `post` and `watch`, and the connections to it, with which a server
//! follows another one. They know a server only by docs/api.md, so that they work with one of another version, and
//! through a proxy. What a server sends is bounded and shown without control characters.

mod attempts;
mod batch;
pub(crate) mod feed;
mod input;
mod interrupt;
mod lines;
mod post;
mod progress;
mod screen;
mod send;
pub(crate) mod server;
mod table;
mod text;
mod watch;
mod window;

use std::error::Error;
use std::fmt;
use std::io;

pub use post::run as post;
pub use watch::run as watch;

/// Why a command failed. The text says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The server refuses the request, and would again; or the input is wrong.
    Refused(String),
    /// No answer within the time that the command tries.
    NoAnswer(String),
    /// A file, standard input or output, or the system.
    Failed(String, io::Error),
    /// A signal ended the command before it was done.
    Interrupted(i32, String),
}

impl ClientError {
    /// The exit code: 1 refused or failed, 3 no answer, 128 and the number of a signal.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Failed(..) => 1,
            Self::NoAnswer(_) => 3,
            Self::Interrupted(signal, _) => exit_code_of(*signal),
        }
    }
}

/// The exit code after a signal, as shells report it.
fn exit_code_of(signal: i32) -> u8 {
    u8::try_from(signal).unwrap_or_default().saturating_add(128)
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) | Self::NoAnswer(text) | Self::Failed(text, _) | Self::Interrupted(_, text) => {
                f.write_str(text)
            }
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(_, error) => Some(error),
            _ => None,
        }
    }
}
