//! Bearer tokens (RFC 6750) from the operator's files, for reading, writing and administration. A token is found by a hash
//! with a random key, compared in constant time, and never logged.

use std::error::Error;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use subtle::ConstantTimeEq;

use crate::store::Reason;

/// The shortest token, in bytes: a shorter one could be guessed over the network.
pub const MIN_TOKEN_BYTES: usize = 16;
/// The longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 255;
/// The most tokens of one file.
pub const MAX_TOKENS: usize = 1_000;
/// The largest token file, in bytes: room for [`MAX_TOKENS`] of the greatest length, and comments.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads products and totals.
    Read,
    /// Orders.
    Write,
    /// Changes products, categories or the period.
    Admin,
}

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessError {
    /// A token is required, and none was sent.
    NoToken,
    /// The token is in no list.
    UnknownToken,
    /// The token is for reading only.
    ReadOnly,
    /// The token is not for administration.
    NotAdmin,
}

/// A token file that cannot be used. The text says what to do and contains no token.
#[derive(Debug)]
pub struct TokenFileError {
    path: PathBuf,
    reason: Reason,
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token file {} cannot be used: ", self.path.display())?;
        self.reason.fmt(f)
    }
}

impl Error for TokenFileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.cause()
    }
}

/// A token, which `Debug` does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// A token that a client has sent.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The token itself, to check it again.
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
    /// `None`: writing needs no token.
    write: Option<List>,
    /// `None`: reading needs no token.
    read: Option<List>,
    /// `None`: administration needs what writing does.
    admin: Option<List>,
}

/// The tokens of a file.
#[derive(Debug, Clone)]
struct List {
    /// With a random key: nobody can choose a token whose hash is near that of another.
    hasher: RandomState,
    /// Each with its hash, in the order of the hashes.
    tokens: Vec<(u64, Token)>,
}

/// The files of tokens; what has none needs no token.
#[derive(Debug, Clone, Default)]
pub struct TokenFiles {
    /// Tokens that may write, and read.
    pub write: Option<PathBuf>,
    /// Tokens that may read.
    pub read: Option<PathBuf>,
    /// Tokens that may do everything. Without it, those that may write may administer.
    pub admin: Option<PathBuf>,
}

/// The current lists of tokens, and their files.
#[derive(Debug, Default)]
pub struct Tokens {
    files: TokenFiles,
    lists: RwLock<Lists>,
}

impl Tokens {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TokenFileError`] says what to write.
    pub fn load(files: TokenFiles) -> Result<Self, TokenFileError> {
        let lists = RwLock::new(Lists::read(&files)?);
        Ok(Self { files, lists })
    }

    /// Reads the files again. The new tokens apply from the next request on.
    ///
    /// # Errors
    /// [`TokenFileError`]; the tokens stay as they were.
    pub fn reload(&self) -> Result<(), TokenFileError> {
        let lists = Lists::read(&self.files)?;
        *self.lists.write().unwrap_or_else(PoisonError::into_inner) = lists;
        Ok(())
    }

    /// Whether any access needs a token.
    #[must_use]
    pub fn are_required(&self) -> bool {
        let TokenFiles { write, read, admin } = &self.files;
        write.is_some() || read.is_some() || admin.is_some()
    }

    /// Checks whether the token allows the access. The time that it takes tells nothing of the tokens in the files.
    ///
    /// # Errors
    /// [`AccessError`] says what is missing.
    pub fn check(&self, token: Option<&str>, access: Access) -> Result<(), AccessError> {
        // The set of files does not change while the server runs, so this needs no lock.
        let (access, is_required) = match access {
            Access::Admin if self.files.admin.is_some() => (access, true),
            Access::Admin | Access::Write => (Access::Write, self.files.write.is_some()),
            Access::Read => (access, self.files.read.is_some()),
        };
        let Some(token) = token.filter(|_| self.are_required()) else {
            return if is_required { Err(AccessError::NoToken) } else { Ok(()) };
        };
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let [is_admin, is_writer, is_reader] = [&lists.admin, &lists.write, &lists.read]
            .map(|list| list.as_ref().is_some_and(|list| list.contains(token)));
        match access {
            _ if is_admin => Ok(()),
            Access::Read if is_writer || is_reader => Ok(()),
            Access::Write if is_writer => Ok(()),
            Access::Write if is_reader => Err(AccessError::ReadOnly),
            Access::Admin if is_writer || is_reader => Err(AccessError::NotAdmin),
            _ => Err(AccessError::UnknownToken),
        }
    }
}

impl Lists {
    fn read(files: &TokenFiles) -> Result<Self, TokenFileError> {
        let list = |file: &Option<PathBuf>| file.as_deref().map(|file| read(file).map(List::new)).transpose();
        Ok(Self { write: list(&files.write)?, read: list(&files.read)?, admin: list(&files.admin)? })
    }
}

impl List {
    fn new(tokens: Vec<Token>) -> Self {
        let hasher = RandomState::new();
        let mut tokens: Vec<_> = tokens.into_iter().map(|token| (hasher.hash_one(token.text()), token)).collect();
        tokens.sort_unstable_by_key(|(hash, _)| *hash);
        Self { hasher, tokens }
    }

    /// Whether the list has the token. The time of the search depends on the hash, which tells nothing of the token; a token
    /// with another hash is not compared.
    fn contains(&self, token: &str) -> bool {
        let hash = self.hasher.hash_one(token);
        let first = self.tokens.partition_point(|(own, _)| *own < hash);
        let found = self.tokens[first..].iter().take_while(|(own, _)| *own == hash);
        found.fold(false, |is_in, (_, own)| is_in | bool::from(own.text().as_bytes().ct_eq(token.as_bytes())))
    }
}

fn read(path: &Path) -> Result<Vec<Token>, TokenFileError> {
    let error = |reason| TokenFileError { path: path.to_owned(), reason };
    let text = read_bounded(path).map_err(|cause| error(Reason::new("it cannot be read", cause)))?;
    parse(&text).map_err(|why| error(why.into()))
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

/// Reads one token per line. Empty lines and lines that begin with `#` are ignored.
fn parse(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !(MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&line.len()) || !line.bytes().all(is_token_byte) {
            return Err(format!(
                "line {} is no token; write {MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES} letters, digits and - . _ ~ +, such \
                 as `openssl rand -hex 16` prints",
                index + 1
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

/// Whether the byte is allowed both in an `Authorization` line (RFC 6750, section 2.1) and in the name of a WebSocket
/// subprotocol (RFC 6455, section 4.1).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: &str = "writer-0123456789";
    const READER: &str = "reader-0123456789";
    const ADMIN: &str = "admin-00123456789";

    fn tokens(write: bool, read: bool) -> Tokens {
        let list = |token: &str| Some(List::new(vec![Token::new("another-0123456789"), Token::new(token)]));
        Tokens {
            files: TokenFiles { write: write.then(|| "w".into()), read: read.then(|| "r".into()), admin: None },
            lists: RwLock::new(Lists {
                write: list(WRITER).filter(|_| write),
                read: list(READER).filter(|_| read),
                admin: None,
            }),
        }
    }

    /// The same with a file for administration.
    fn administered(write: bool, read: bool) -> Tokens {
        let mut tokens = tokens(write, read);
        tokens.files.admin = Some("a".into());
        tokens.lists.get_mut().unwrap().admin = Some(List::new(vec![Token::new(ADMIN)]));
        tokens
    }

    #[test]
    fn without_a_file_for_administration_it_needs_what_writing_does() {
        for (write, read) in [(false, false), (true, false), (true, true)] {
            let tokens = tokens(write, read);
            for token in [None, Some(WRITER), Some(READER), Some("another-0000000000")] {
                assert_eq!(tokens.check(token, Access::Admin), tokens.check(token, Access::Write), "{token:?}");
            }
        }
    }

    #[test]
    fn with_a_file_for_administration_only_its_tokens_administer_and_they_do_everything() {
        for (write, read) in [(false, false), (true, false), (true, true)] {
            let tokens = administered(write, read);
            for access in [Access::Read, Access::Write, Access::Admin] {
                assert_eq!(tokens.check(Some(ADMIN), access), Ok(()), "{access:?}");
            }
            assert_eq!(tokens.check(None, Access::Admin), Err(AccessError::NoToken));
            assert_eq!(tokens.check(Some("another-0000000000"), Access::Admin), Err(AccessError::UnknownToken));
            let of_writer = if write { AccessError::NotAdmin } else { AccessError::UnknownToken };
            assert_eq!(tokens.check(Some(WRITER), Access::Admin), Err(of_writer));
            let of_reader = if read { AccessError::NotAdmin } else { AccessError::UnknownToken };
            assert_eq!(tokens.check(Some(READER), Access::Admin), Err(of_reader));
            let without = |is_required: bool| if is_required { Err(AccessError::NoToken) } else { Ok(()) };
            assert_eq!(tokens.check(None, Access::Write), without(write));
            assert_eq!(tokens.check(None, Access::Read), without(read));
            assert_eq!(tokens.check(Some(WRITER), Access::Write).is_ok(), write);
        }
    }

    #[test]
    fn without_files_no_token_is_required() {
        let open = Tokens::default();
        for token in [None, Some("x"), Some("")] {
            assert_eq!(open.check(token, Access::Write), Ok(()));
            assert_eq!(open.check(token, Access::Read), Ok(()));
        }
    }

    #[test]
    fn with_a_file_for_writing_alone_reading_needs_no_token() {
        let tokens = tokens(true, false);
        assert_eq!(tokens.check(None, Access::Read), Ok(()));
        assert_eq!(tokens.check(Some(WRITER), Access::Read), Ok(()));
        assert_eq!(tokens.check(None, Access::Write), Err(AccessError::NoToken));
        assert_eq!(tokens.check(Some(WRITER), Access::Write), Ok(()));
        // An unknown token is rejected even where none is required.
        assert_eq!(tokens.check(Some(READER), Access::Read), Err(AccessError::UnknownToken));
        for wrong in ["", "w", "writer-012345678", "writer-01234567890", "writer-012345678x", "Writer-0123456789"] {
            assert_eq!(tokens.check(Some(wrong), Access::Write), Err(AccessError::UnknownToken), "{wrong}");
        }
    }

    #[test]
    fn a_token_for_reading_reads_and_one_for_writing_does_both() {
        let tokens = tokens(true, true);
        assert_eq!(tokens.check(None, Access::Read), Err(AccessError::NoToken));
        assert_eq!(tokens.check(Some(READER), Access::Read), Ok(()));
        assert_eq!(tokens.check(Some(READER), Access::Write), Err(AccessError::ReadOnly));
        assert_eq!(tokens.check(Some(WRITER), Access::Read), Ok(()));
        assert_eq!(tokens.check(Some(WRITER), Access::Write), Ok(()));
    }

    #[test]
    fn a_file_has_one_token_per_line_and_errors_do_not_contain_them() {
        let read = parse("# tills\n\nabcdefghij-0123456\r\n  0123456789._~+AB  \n").unwrap();
        assert_eq!(read, [Token::new("abcdefghij-0123456"), Token::new("0123456789._~+AB")]);
        for (text, part) in [
            ("", "no token"),
            ("# only\n", "no token"),
            ("short", "line 1"),
            ("abcdefghij-0123456\nwith a space in the middle", "line 2"),
            ("abcdefghijklmnop=", "line 1"),
            ("abcdefghij/0123456", "line 1"),
            (&"x".repeat(256), "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("short") && !error.contains("space") && !error.contains("abcdef"), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_to_its_end_or_rejected() {
        let path = std::env::temp_dir().join(format!("ordercast-tokens-{}", std::process::id()));
        let write =
            |bytes: u64| fs::write(&path, format!("#{}\n{WRITER}", "x".repeat(bytes as usize - 2 - WRITER.len())));
        write(MAX_FILE_BYTES).unwrap();
        assert_eq!(read(&path).unwrap(), [Token::new(WRITER)]);
        write(MAX_FILE_BYTES + 1).unwrap();
        assert!(read(&path).is_err());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn each_of_many_tokens_is_found_and_no_other_one() {
        let token = |number: usize| format!("till-{number}-0123456789");
        let list = List::new((0..MAX_TOKENS).map(|number| Token::new(&token(number))).collect());
        assert!((0..MAX_TOKENS).all(|number| list.contains(&token(number))));
        assert!((MAX_TOKENS..2 * MAX_TOKENS).all(|number| !list.contains(&token(number))));
    }

    #[test]
    fn debug_output_contains_no_token() {
        assert!(!format!("{:?}", administered(true, true)).contains("0123456789"));
    }
}
