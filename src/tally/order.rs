//! Amounts, totals and idempotency keys. Knows nothing of storage or the network.

use std::fmt;
use std::sync::Arc;

use super::catalog::ProductIndex;

/// The largest magnitude of an amount or a total: 2^53 − 1, the last integer that a browser's `Number` shows exactly
/// (ECMA-262, `Number.MAX_SAFE_INTEGER`).
pub const MAX_TOTAL: i64 = (1 << 53) - 1;

/// Larger exponents count as this one. It exceeds the number of digits that fit into a body, so only its sign matters.
const HUGE_EXPONENT: i64 = 1 << 40;

/// What one order adds to a total, in pieces: at most [`MAX_TOTAL`] in magnitude, negative for returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(i64);

/// Why a number is not an [`Amount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmountError {
    /// The number has a fractional part.
    NotAnInteger,
    /// The number is an integer beyond ±[`MAX_TOTAL`].
    OutOfRange,
    /// The text is not a JSON number (RFC 8259, section 6).
    NotANumber,
}

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnInteger => write!(f, "amount must be a whole number, such as 10"),
            Self::OutOfRange => write!(f, "amount must lie between -{MAX_TOTAL} and {MAX_TOTAL}"),
            Self::NotANumber => write!(f, "amount must be a JSON number without quotes, such as 10"),
        }
    }
}

impl std::error::Error for AmountError {}

impl Amount {
    /// An amount in pieces; `None` beyond ±[`MAX_TOTAL`].
    #[must_use]
    pub fn new(pieces: i64) -> Option<Self> {
        (-MAX_TOTAL..=MAX_TOTAL).contains(&pieces).then_some(Self(pieces))
    }

    /// Reads a JSON number from its decimal text, without rounding: `10`, `10.0` and `1e1` are 10; `1.5` and
    /// `9007199254740991.4` are not integers, although the latter is one as a binary double.
    ///
    /// # Errors
    /// [`AmountError`] says which rule the text breaks.
    pub fn from_json_number(text: &str) -> Result<Self, AmountError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(AmountError::NotANumber),
            None => (mantissa, ""),
        };
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !is_digits(whole) || !is_digits(fraction) {
            return Err(AmountError::NotANumber);
        }
        let exponent = match exponent {
            None => 0,
            Some(text) => {
                let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
                if digits.is_empty() || !is_digits(digits) {
                    return Err(AmountError::NotANumber);
                }
                let size = digits.parse::<i64>().map_or(HUGE_EXPONENT, |size| size.min(HUGE_EXPONENT));
                if text.starts_with('-') { -size } else { size }
            }
        };
        // The value is the digits from `first` to `last`, neither of which is 0, × 10^`shift`.
        let digits = || whole.bytes().chain(fraction.bytes());
        let Some(first) = digits().position(|digit| digit != b'0') else {
            return Ok(Self(0));
        };
        let last = whole.len() + fraction.len() - digits().rev().take_while(|digit| *digit == b'0').count();
        let shift = exponent + whole.len() as i64 - last as i64;
        if shift < 0 {
            return Err(AmountError::NotAnInteger);
        }
        let mut value: i64 = 0;
        let zeros = usize::try_from(shift).unwrap_or(usize::MAX);
        for digit in digits().take(last).skip(first).chain(std::iter::repeat_n(b'0', zeros)) {
            value = value * 10 + i64::from(digit - b'0');
            if value > MAX_TOTAL {
                return Err(AmountError::OutOfRange);
            }
        }
        Ok(Self(if negative { -value } else { value }))
    }

    /// The amount in pieces.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// The longest idempotency key, in bytes: room for a UUID and a prefix.
pub const MAX_KEY_BYTES: usize = 255;

/// An idempotency key: an order that is sent twice under one key is counted once. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// A key of 1 to [`MAX_KEY_BYTES`] bytes without control characters; `None` for any other text.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=MAX_KEY_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then(|| Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The sum of a product's orders, in pieces: at most [`MAX_TOTAL`] in magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total(i64);

impl Total {
    /// A total in pieces; `None` beyond ±[`MAX_TOTAL`].
    #[must_use]
    pub fn new(pieces: i64) -> Option<Self> {
        Amount::new(pieces).map(|amount| Self(amount.0))
    }

    /// The total after one more order; `None` beyond ±[`MAX_TOTAL`].
    #[must_use]
    pub fn plus(self, amount: Amount) -> Option<Self> {
        // Both are below 2^53 in magnitude, so the sum cannot overflow.
        Self::new(self.0 + amount.0)
    }

    /// The total in pieces.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// One committed order, or new product: the product's total after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// The product.
    pub product: ProductIndex,
    /// Its total.
    pub total: Total,
    /// Its sequence number in the order log.
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Result<i64, AmountError> {
        Amount::from_json_number(text).map(Amount::get)
    }

    #[test]
    fn every_spelling_of_an_integer_is_that_integer() {
        for text in ["10", "10.0", "1e1", "1E+1", "1.0e1", "100e-1", "0.1e2", "1000.00e-2"] {
            assert_eq!(amount(text), Ok(10), "{text}");
        }
        assert_eq!(amount("-3"), Ok(-3));
        for text in ["0", "-0", "0.0", "0e400", "0e-99999999999999999999"] {
            assert_eq!(amount(text), Ok(0), "{text}");
        }
    }

    #[test]
    fn every_fraction_is_rejected_however_small() {
        for text in ["1.5", "0.1", "15e-1", "9007199254740991.4", "1e-400", "0.9999999999999999999999"] {
            assert_eq!(amount(text), Err(AmountError::NotAnInteger), "{text}");
        }
    }

    #[test]
    fn the_range_ends_at_the_last_exact_integer() {
        assert_eq!(amount("9007199254740991"), Ok(MAX_TOTAL));
        assert_eq!(amount("-9007199254740991.0"), Ok(-MAX_TOTAL));
        for text in ["9007199254740992", "1e400", "1e99999999999999999999", "-1e16"] {
            assert_eq!(amount(text), Err(AmountError::OutOfRange), "{text}");
        }
    }

    #[test]
    fn other_texts_than_json_numbers_are_rejected() {
        for text in ["", "-", "+1", "01", ".5", "1.", "1e", "1e+", "0x10", "NaN", "1 ", "١", "1.e1", "--1"] {
            assert_eq!(amount(text), Err(AmountError::NotANumber), "{text}");
        }
    }

    #[test]
    fn a_total_never_leaves_its_range() {
        let top = Total::new(MAX_TOTAL).unwrap();
        assert_eq!(top.plus(Amount(1)), None);
        assert_eq!(top.plus(Amount(-1)), Total::new(MAX_TOTAL - 1));
        assert_eq!(Total::new(-MAX_TOTAL).unwrap().plus(Amount(-1)), None);
        assert_eq!(Total::new(MAX_TOTAL + 1), None);
    }
}
