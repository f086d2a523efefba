//! The file of passwords, by libpq's rules: <https://www.postgresql.org/docs/current/libpq-pgpass.html>.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// More is not read from a file of passwords.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What a line has to match.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// A host name, an address, or the folder of a Unix socket.
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The file that is used without the parameter `passfile`: that of `PGPASSFILE`, or `.pgpass` in the home folder.
pub(super) fn default_path() -> Option<PathBuf> {
    let named = env::var_os("PGPASSFILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(env::var_os("HOME").filter(|home| !home.is_empty())?).join(".pgpass")))
}

/// The password of the first line that matches; `None` without such a line or without a file.
///
/// # Errors
/// A sentence, when the file cannot be read, or when others than its owner may read it.
pub(super) fn find(path: &Path, wanted: Wanted<'_>) -> Result<Option<String>, String> {
    let fail = |error: &io::Error| format!("the password file {} cannot be read: {error}", path.display());
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(&error)),
    };
    if !metadata.is_file() {
        return Err(format!("the password file {} is not a plain file", path.display()));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!("the password file {} can be read by others than its owner: chmod 600 it", path.display()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| fail(&error))?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    Ok(String::from_utf8_lossy(&bytes).lines().find_map(|line| password(line, wanted)))
}

/// The password of a line, if its other fields match.
fn password(line: &str, wanted: Wanted<'_>) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    let port = wanted.port.to_string();
    for value in [wanted.host, &port, wanted.database, wanted.user] {
        let (field, after) = field(rest);
        if field != "*" && unescaped(field) != value {
            return None;
        }
        rest = after?;
    }
    // The password ends with the line: what stands behind a further colon does not belong to it.
    let password = unescaped(field(rest).0);
    (!password.is_empty()).then_some(password)
}

/// The text before the first colon that is not escaped, and the text behind it.
fn field(text: &str) -> (&str, Option<&str>) {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ':' => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

/// The text without the backslashes that escape a letter.
fn unescaped(text: &str) -> String {
    let (mut plain, mut letters) = (String::with_capacity(text.len()), text.chars());
    while let Some(letter) = letters.next() {
        plain.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{Wanted, find, password};

    const WANTED: Wanted<'_> = Wanted { host: "db.example", port: 5432, database: "orders", user: "node" };

    fn of(line: &str) -> Option<String> {
        password(line, WANTED)
    }

    #[test]
    fn a_line_matches_by_every_field_or_a_star() {
        assert_eq!(of("db.example:5432:orders:node:secret"), Some("secret".into()));
        assert_eq!(of("*:*:*:*:secret"), Some("secret".into()));
        for line in [
            "db:5432:orders:node:secret",
            "db.example:5433:orders:node:secret",
            "*:*:other:*:secret",
            "*:*:*:postgres:secret",
            "#*:*:*:*:secret",
            "*:*:*:*",
            "*:*:*:*:",
            "",
            ":",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn colons_backslashes_and_stars_are_escaped() {
        let ipv6 = Wanted { host: "::1", user: "*", ..WANTED };
        assert_eq!(password(r"\:\:1:5432:orders:\*:a\:b\\c\*", ipv6), Some(r"a:b\c*".into()));
        assert_eq!(password(r"\:\:1:5432:orders:\*:x", Wanted { user: "any", ..ipv6 }), None);
        assert_eq!(of(r"*:*:*:*:a\"), Some(r"a\".into()));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("ordercast-passfile-{}", std::process::id()));
        assert_eq!(find(&path, WANTED), Ok(None));
        std::fs::write(&path, "# a comment\nother:*:*:*:no\n*:*:*:node:first\n*:*:*:*:second\n").unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            find(&path, WANTED)
        };
        assert_eq!(with_mode(0o600), Ok(Some("first".into())));
        for mode in [0o640, 0o604, 0o620] {
            assert!(with_mode(mode).is_err_and(|why| why.contains("chmod 600")));
        }
        std::fs::remove_file(&path).unwrap();
    }
}
