//! The texts of the catalogue: the rules for names, titles, ids and descriptions, each by itself.

use std::fmt;

/// The longest name of a category and the longest product id, in bytes.
pub const MAX_ID_BYTES: usize = 64;
/// The longest product name and price, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// The longest product description, in bytes.
pub const MAX_INFO_BYTES: usize = 2_000;

/// A product's texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The name, such as `Vacuum Cleaner`.
    pub name: String,
    /// The recommended retail price as text, such as `99.99`.
    pub rrp: String,
    /// A description; may be empty.
    pub info: String,
}

/// A broken rule of the catalogue. The text says what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogError(String);

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CatalogError {}

impl CatalogError {
    /// An error with this text.
    #[must_use]
    pub fn new(why: String) -> Self {
        Self(why)
    }
}

pub(super) fn invalid<T>(why: String) -> Result<T, CatalogError> {
    Err(CatalogError(why))
}

impl Details {
    /// The bytes of all texts.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.rrp.len() + self.info.len()
    }

    /// Checks that the name is not empty, and that each text is short enough and has no control characters.
    ///
    /// # Errors
    /// [`CatalogError`] names the text to change.
    pub fn check(&self) -> Result<(), CatalogError> {
        if self.name.trim().is_empty() {
            return invalid("name must not be empty".into());
        }
        for (what, text, limit) in [
            ("name", &self.name, MAX_NAME_BYTES),
            ("rrp", &self.rrp, MAX_NAME_BYTES),
            ("info", &self.info, MAX_INFO_BYTES),
        ] {
            if text.len() > limit {
                return invalid(format!("{what} must be at most {limit} bytes long"));
            }
            if text.chars().any(char::is_control) {
                return invalid(format!("{what} must not contain control characters, such as line ends"));
            }
        }
        Ok(())
    }
}

/// Checks that a category's title is not empty, is short enough, and has no control characters.
///
/// # Errors
/// [`CatalogError`] says what to change.
pub fn check_title(title: &str) -> Result<(), CatalogError> {
    if title.trim().is_empty() || title.len() > MAX_NAME_BYTES || title.chars().any(char::is_control) {
        return invalid(format!("title must have 1 to {MAX_NAME_BYTES} bytes and no control characters"));
    }
    Ok(())
}

/// The title of a category that has been given none: its name with a capital first letter.
pub(super) fn default_title(name: &str) -> String {
    let (first, rest) = name.split_at(name.len().min(1));
    first.to_ascii_uppercase() + rest
}

/// Whether the text is 1 to [`MAX_ID_BYTES`] letters, digits, `-` and `_`, as a product's id is.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.len() <= MAX_ID_BYTES && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_ends_at_its_limit() {
        let check = |name: usize, rrp: usize, info: usize| {
            Details { name: "n".repeat(name), rrp: "r".repeat(rrp), info: "i".repeat(info) }.check()
        };
        assert_eq!((check(1, 0, 0), check(200, 200, 2_000)), (Ok(()), Ok(())));
        for (beyond, what) in [(check(201, 1, 1), "name"), (check(1, 201, 1), "rrp"), (check(1, 1, 2_001), "info")] {
            assert!(beyond.as_ref().is_err_and(|error| error.to_string().starts_with(what)), "{beyond:?}");
        }
        assert!(check(0, 1, 1).is_err());
    }
}
