//! Who may write and who may read: bearer tokens (RFC 6750) from the operator's files. Owns the lists, how a token is
//! compared, and that none of them is ever shown; knows neither requests nor sessions.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use subtle::{Choice, ConstantTimeEq};

/// The shortest token, in bytes: fewer could be guessed over the network.
pub const MIN_TOKEN_BYTES: usize = 16;
/// The longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 255;
/// The most tokens in one file: every one is compared with what a client presents.
pub const MAX_TOKENS: usize = 1_000;
/// The largest file that is read, in bytes: all tokens at their longest, with comments.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// See products and totals.
    Read,
    /// Order, or add a product.
    Write,
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No token was presented: present one.
    NoToken,
    /// The token is in no list.
    UnknownToken,
    /// The token may read and not write.
    ReadOnly,
}

/// A token file that cannot be used; the text says what to do, and shows no token.
#[derive(Debug)]
pub struct TokenFileError {
    path: PathBuf,
    why: String,
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token file {} cannot be used: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for TokenFileError {}

/// One token, which never shows itself in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// A token as somebody has presented it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// What was presented, to check it again.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[derive(Debug, Clone, Default)]
struct Lists {
    /// `None`: whoever comes may write.
    write: Option<Vec<Token>>,
    /// `None`: whoever comes may read.
    read: Option<Vec<Token>>,
}

/// The lists that hold now, and the files that they came from.
#[derive(Debug, Default)]
pub struct Tokens {
    write_file: Option<PathBuf>,
    read_file: Option<PathBuf>,
    lists: RwLock<Lists>,
}

impl Tokens {
    /// Reads the files. Without one, whoever comes may do what it would protect. A token that may write may read too.
    ///
    /// # Errors
    /// [`TokenFileError`] says what to write where.
    pub fn load(write_file: Option<&Path>, read_file: Option<&Path>) -> Result<Self, TokenFileError> {
        let lists = Lists { write: write_file.map(read).transpose()?, read: read_file.map(read).transpose()? };
        let owned = |path: Option<&Path>| path.map(Path::to_owned);
        Ok(Self { write_file: owned(write_file), read_file: owned(read_file), lists: RwLock::new(lists) })
    }

    /// Reads the files once more. What it finds holds from the next request on.
    ///
    /// # Errors
    /// [`TokenFileError`], and the tokens stay as they were.
    pub fn reload(&self) -> Result<(), TokenFileError> {
        let read_again = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        let lists = Lists { write: read_again(&self.write_file)?, read: read_again(&self.read_file)? };
        *self.lists.write().unwrap_or_else(PoisonError::into_inner) = lists;
        Ok(())
    }

    /// Whether anybody is asked for a token.
    #[must_use]
    pub fn are_needed(&self) -> bool {
        self.write_file.is_some() || self.read_file.is_some()
    }

    /// Whether whoever presents this token may do that. Takes the same time for every token of the same length.
    ///
    /// # Errors
    /// [`Denied`] says what is missing.
    pub fn check(&self, token: Option<&str>, access: Access) -> Result<(), Denied> {
        // Files are not taken away while the server runs, so this is right without a look at the lists.
        if self.read_file.is_none() && (self.write_file.is_none() || (access == Access::Read && token.is_none())) {
            return Ok(());
        }
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let needed = match access {
            Access::Read => lists.read.is_some(),
            Access::Write => lists.write.is_some(),
        };
        let Some(token) = token else {
            return if needed { Err(Denied::NoToken) } else { Ok(()) };
        };
        let (may_write, may_read) = (contains(lists.write.as_ref(), token), contains(lists.read.as_ref(), token));
        match access {
            _ if may_write => Ok(()),
            Access::Read if may_read => Ok(()),
            Access::Write if may_read && needed => Err(Denied::ReadOnly),
            _ => Err(Denied::UnknownToken),
        }
    }
}

fn contains(list: Option<&Vec<Token>>, token: &str) -> bool {
    let mut found = Choice::from(0);
    // To the end of the list, so that the time tells nothing about the place either.
    for Token(own) in list.into_iter().flatten() {
        found |= own.as_bytes().ct_eq(token.as_bytes());
    }
    found.into()
}

fn read(path: &Path) -> Result<Vec<Token>, TokenFileError> {
    let told = |why: String| TokenFileError { path: path.to_owned(), why };
    let text = read_bounded(path).map_err(|error| told(error.to_string()))?;
    parse(&text).map_err(told)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let read = fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)? as u64;
    if read > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// One token a line; empty lines and lines that begin with `#` are passed over.
fn parse(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !(MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&line.len()) || !line.bytes().all(is_token_byte) {
            return Err(format!(
                "line {} is no token; write {MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES} letters, digits and - . _ ~ +, such \
                 as `openssl rand -hex 16` prints",
                at + 1
            ));
        }
        tokens.push(Token::new(line));
    }
    match tokens.len() {
        0 => Err("it holds no token; write one a line".to_owned()),
        1..=MAX_TOKENS => Ok(tokens),
        _ => Err(format!("it holds more than {MAX_TOKENS} tokens")),
    }
}

/// What both an `Authorization` line (RFC 6750, section 2.1) and a WebSocket subprotocol's name (RFC 6455, section 4.1)
/// may consist of.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: &str = "writer-0123456789";
    const READER: &str = "reader-0123456789";

    fn tokens(write: bool, read: bool) -> Tokens {
        let list = |token: &str| Some(vec![Token::new("another-0123456789"), Token::new(token)]);
        Tokens {
            write_file: write.then(|| "w".into()),
            read_file: read.then(|| "r".into()),
            lists: RwLock::new(Lists { write: list(WRITER).filter(|_| write), read: list(READER).filter(|_| read) }),
        }
    }

    #[test]
    fn without_files_everybody_may_do_everything() {
        let open = Tokens::default();
        for token in [None, Some("x"), Some("")] {
            assert_eq!(open.check(token, Access::Write), Ok(()));
            assert_eq!(open.check(token, Access::Read), Ok(()));
        }
    }

    #[test]
    fn a_list_of_writers_leaves_reading_open() {
        let tokens = tokens(true, false);
        assert_eq!(tokens.check(None, Access::Read), Ok(()));
        assert_eq!(tokens.check(Some(WRITER), Access::Read), Ok(()));
        assert_eq!(tokens.check(None, Access::Write), Err(Denied::NoToken));
        assert_eq!(tokens.check(Some(WRITER), Access::Write), Ok(()));
        // A token that is wrong is told so at once, and not only when it is needed.
        assert_eq!(tokens.check(Some(READER), Access::Read), Err(Denied::UnknownToken));
        for wrong in ["", "w", "writer-012345678", "writer-01234567890", "writer-012345678x", "Writer-0123456789"] {
            assert_eq!(tokens.check(Some(wrong), Access::Write), Err(Denied::UnknownToken), "{wrong}");
        }
    }

    #[test]
    fn a_reader_may_read_and_a_writer_may_do_both() {
        let tokens = tokens(true, true);
        assert_eq!(tokens.check(None, Access::Read), Err(Denied::NoToken));
        assert_eq!(tokens.check(Some(READER), Access::Read), Ok(()));
        assert_eq!(tokens.check(Some(READER), Access::Write), Err(Denied::ReadOnly));
        assert_eq!(tokens.check(Some(WRITER), Access::Read), Ok(()));
        assert_eq!(tokens.check(Some(WRITER), Access::Write), Ok(()));
    }

    #[test]
    fn a_file_has_one_token_a_line_and_its_faults_are_told_without_them() {
        let read = parse("# tills\n\nabcdefghij-0123456\r\n  0123456789._~+AB  \n").unwrap();
        assert_eq!(read, [Token::new("abcdefghij-0123456"), Token::new("0123456789._~+AB")]);
        for (text, told) in [
            ("", "no token"),
            ("# only\n", "no token"),
            ("short", "line 1"),
            ("abcdefghij-0123456\nwith a space in the middle", "line 2"),
            ("abcdefghijklmnop=", "line 1"),
            ("abcdefghij/0123456", "line 1"),
            (&"x".repeat(256), "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains("short") && !error.contains("space") && !error.contains("abcdef"), "{error}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        assert!(!format!("{:?}", tokens(true, true)).contains("0123456789"));
    }
}
