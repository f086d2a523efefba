//! Texts of a server or of an input as messages and tables show them: short, and without control characters. Numbers with
//! commas, and words for a shell.

/// The longest text of a server that a message repeats, in characters: a line or two of a terminal.
const MAX_CHARACTERS: usize = 300;

/// The text on one line without control characters, which could change a terminal, and without those that change the
/// direction of what follows (Unicode, UAX #9, section 2).
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if is_shown(letter) { letter } else { '\u{fffd}' }).collect()
}

/// The same of at most [`MAX_CHARACTERS`].
pub(super) fn short(text: &str) -> String {
    let mut short: String = plain(text).chars().take(MAX_CHARACTERS).collect();
    if text.chars().nth(MAX_CHARACTERS).is_some() {
        short.push('…');
    }
    short
}

fn is_shown(letter: char) -> bool {
    let changes_direction =
        matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !letter.is_control() && !matches!(letter, '\u{2028}' | '\u{2029}') && !changes_direction
}

/// A number with a comma behind each thousand.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A text as one word of a shell.
pub(super) fn shell_word(text: &str) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.,:/@%+=".contains(&byte);
    if text.bytes().all(is_safe) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_left() {
        assert_eq!(plain("Lamp \u{1b}[31mred\u{7}\r\n\u{9b}2J\u{202e}x"), "Lamp �[31mred���\u{fffd}2J\u{fffd}x");
        assert_eq!(plain("Käse 🧀 ab"), "Käse 🧀 ab");
        assert_eq!(short(&"ä".repeat(300)), "ä".repeat(300));
        assert_eq!(short(&"ä".repeat(301)), "ä".repeat(300) + "…");
    }

    #[test]
    fn thousands_are_separated() {
        for (number, text) in [
            (0, "0"),
            (-7, "-7"),
            (999, "999"),
            (1_000, "1,000"),
            (-123_456, "-123,456"),
            (i64::MIN, "-9,223,372,036,854,775,808"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_key_is_one_word_of_a_shell() {
        assert_eq!(shell_word("till-7:0042"), "till-7:0042");
        assert_eq!(shell_word("it's $5"), r"'it'\''s $5'");
    }
}
