//! Fields of CSV (RFC 4180).

use std::borrow::Cow;

/// What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"), also in full width.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// A text as a field (RFC 4180, section 2).
#[must_use]
pub fn field(text: &str) -> Cow<'_, str> {
    if text.contains(['"', ',', '\r', '\n']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}

/// A text for people as a field: an apostrophe before what would begin a formula makes a spreadsheet show it as text. A
/// formula may also begin behind a semicolon, at which spreadsheets of many languages split a line, quotes or not.
#[must_use]
pub fn text_field(text: &str) -> Cow<'_, str> {
    let mut safe = String::with_capacity(text.len());
    // Whether a field may begin here: behind blanks and quotes at the beginning or behind a semicolon.
    let mut is_beginning = true;
    for letter in text.chars() {
        if is_beginning && FORMULA.contains(&letter) {
            safe.push('\'');
        }
        is_beginning = letter == ';' || is_beginning && (letter.is_whitespace() || letter == '"');
        safe.push(letter);
    }
    if safe.len() == text.len() { field(text) } else { Cow::Owned(field(&safe).into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_where_it_must_be() {
        for (text, written) in
            [("A1", "A1"), ("", ""), ("a,b", "\"a,b\""), ("say \"x\"", "\"say \"\"x\"\"\""), ("=1", "=1")]
        {
            assert_eq!(field(text), written);
        }
    }

    #[test]
    fn a_text_is_no_formula_wherever_a_spreadsheet_begins_a_field() {
        for (text, written) in [
            ("Saw", "Saw"),
            ("", ""),
            ("7-Up + rum", "7-Up + rum"),
            ("=1+1", "'=1+1"),
            ("+49", "'+49"),
            ("-20%", "'-20%"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("＝1", "'＝1"),
            (" \u{a0}=1", " \u{a0}'=1"),
            ("x;=1", "x;'=1"),
            ("a,=1", "\"a,=1\""),
            ("x; \"=1\"", "\"x; \"\"'=1\"\"\""),
            ("\"=1\"", "\"\"\"'=1\"\"\""),
        ] {
            assert_eq!(text_field(text), written);
        }
    }
}
