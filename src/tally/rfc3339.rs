//! Times as RFC 3339 writes them. Knows no clock.

use std::fmt;

/// Minutes of a day.
const DAY: i64 = 24 * 60;
/// Milliseconds of a minute.
const MINUTE_MS: i64 = 60_000;
/// The last time with a year of four digits: the end of 9999, in milliseconds since 1970 (UTC).
const LAST_MS: u64 = 253_402_300_799_999;

/// The time in milliseconds since 1970 (UTC), negative before that; a part of a millisecond is rounded up. `None` for a
/// text of another form (RFC 3339, section 5.6), or of a day or time that does not exist.
///
/// A leap second, which only the last minute of a month in UTC has, counts as the second after it.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let (whole, rest) = text.as_bytes().split_at_checked("YYYY-MM-DDThh:mm:ss".len())?;
    let is_marked = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')].iter().all(|(at, mark)| whole[*at] == *mark);
    if !is_marked || !whole[10].eq_ignore_ascii_case(&b'T') {
        return None;
    }
    let (year, month, day) = (number(&whole[..4])?, number(&whole[5..7])?, number(&whole[8..10])?);
    let (hour, minute, second) = (number(&whole[11..13])?, number(&whole[14..16])?, number(&whole[17..])?);
    let day_number = days_since_1970(year, month, day);
    // A day that the month does not have would be one of the next month.
    let exists = (1..=12).contains(&month) && date(day_number) == (year, month, day);
    if !exists || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_ms, rest) = fraction(rest)?;
    let minutes = day_number * DAY + hour * 60 + minute - offset(rest)?;
    let ends_month = (minutes + 1) % DAY == 0 && date((minutes + 1) / DAY).2 == 1;
    if second == 60 && !ends_month {
        return None;
    }
    Some(minutes * MINUTE_MS + second * 1_000 + fraction_ms)
}

/// A time in milliseconds since 1970 (UTC) as `2026-01-31T12:00:00.000Z`. A year has four digits: later times are
/// written as the end of 9999.
#[must_use]
pub fn format(ms: u64) -> String {
    let ms = ms.min(LAST_MS).cast_signed();
    let (minutes, rest_ms) = (ms / MINUTE_MS, ms % MINUTE_MS);
    let (year, month, day) = date(minutes / DAY);
    let (hour, minute, second) = (minutes % DAY / 60, minutes % 60, rest_ms / 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest_ms % 1_000)
}

/// The difference of local time from UTC, of less than a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UtcOffset {
    minutes: i64,
}

impl UtcOffset {
    /// Reads `Z`, `+hh:mm` or `-hh:mm`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        offset(text.as_bytes()).map(|minutes| Self { minutes })
    }

    /// In milliseconds.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.minutes * MINUTE_MS
    }

    /// The date and the time of day there, as `2026-01-31` and `12:00:00`, of a time in milliseconds since 1970 (UTC).
    /// Times from the year 10000 on are written as the end of 9999.
    #[must_use]
    pub fn date_and_time(self, ms: i64) -> (String, String) {
        let first_ms = days_since_1970(0, 1, 1) * DAY * MINUTE_MS;
        let seconds = ms.saturating_add(self.ms()).clamp(first_ms, LAST_MS.cast_signed()).div_euclid(1_000);
        let minutes = seconds.div_euclid(60);
        let ((year, month, day), minute) = (date(minutes.div_euclid(DAY)), minutes.rem_euclid(DAY));
        let time = format!("{:02}:{:02}:{:02}", minute / 60, minute % 60, seconds.rem_euclid(60));
        (format!("{year:04}-{month:02}-{day:02}"), time)
    }
}

/// As `+02:00`.
impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, size) = (if self.minutes < 0 { '-' } else { '+' }, self.minutes.abs());
        write!(f, "{sign}{:02}:{:02}", size / 60, size % 60)
    }
}

/// The number that these digits are.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

/// The fraction of a second in milliseconds, rounded up, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(length);
    if digits.is_empty() {
        return None;
    }
    let (thousandths, finer) = digits.split_at(length.min(3));
    let ms = number(thousandths)? * [100, 10, 1][thousandths.len() - 1];
    Some((ms + i64::from(finer.iter().any(|digit| *digit != b'0')), rest))
}

/// The offset from UTC in minutes: `Z`, `+hh:mm` or `-hh:mm`.
fn offset(text: &[u8]) -> Option<i64> {
    match text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), time @ ..] if time.len() == 5 && time[2] == b':' => {
            let (hours, minutes) = (number(&time[..2])?, number(&time[3..])?);
            let size = (hours <= 23 && minutes <= 59).then_some(hours * 60 + minutes)?;
            Some(if *sign == b'-' { -size } else { size })
        }
        _ => None,
    }
}

/// The days from 1970-01-01 to a day of the Gregorian calendar, which is also used before its introduction.
///
/// Counts from March, so that the leap day is the last of a year, in eras of 400 years
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The year, month and day that is so many days after 1970-01-01; the inverse of [`days_since_1970`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_its_offset_and_fraction() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            // The examples of RFC 3339, section 5.8.
            ("1985-04-12T23:20:50.52Z", 482_196_050_520),
            ("1996-12-19T16:39:57-08:00", 851_042_397_000),
            ("1990-12-31T23:59:60Z", 662_688_000_000),
            ("1990-12-31T15:59:60-08:00", 662_688_000_000),
            ("1937-01-01T12:00:27.87+00:20", -1_041_337_172_130),
            ("2000-02-29t12:00:00z", 951_825_600_000),
            ("2024-02-29T00:00:00+23:59", 1_709_164_800_000 - 86_340_000),
            ("2026-01-31T12:00:00-00:00", 1_769_860_800_000),
            ("2026-01-31T12:00:00.0009Z", 1_769_860_800_001),
            ("2026-01-31T12:00:00.9990000Z", 1_769_860_800_999),
            ("2026-01-31T12:00:00.99900000000000000000000001Z", 1_769_860_801_000),
            ("2026-06-30T23:59:60.5Z", 1_782_864_000_500),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59.999Z", LAST_MS.cast_signed()),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn a_text_of_another_form_and_a_time_that_does_not_exist_are_none() {
        for text in [
            "",
            "Z",
            "now",
            "1769860800",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00Z",
            "2026-01-31 12:00:00Z",
            "2026-01-31T12:00:00 Z",
            " 2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00ZZ",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00,5Z",
            "2026-01-31T12:00:00.5",
            "2026-01-31T12:00:00.-5Z",
            "2026-1-31T12:00:00Z",
            "02026-01-31T12:00:00Z",
            "+026-01-31T12:00:00Z",
            "20260131T120000Z",
            "2026-00-31T12:00:00Z",
            "2026-13-31T12:00:00Z",
            "2026-01-00T12:00:00Z",
            "2026-01-32T12:00:00Z",
            "2026-02-29T12:00:00Z",
            "2024-02-30T12:00:00Z",
            "2100-02-29T12:00:00Z",
            "2026-04-31T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:60:00Z",
            "2026-01-31T12:00:61Z",
            "2026-01-31T12:00:60Z",
            "2026-01-30T23:59:60Z",
            "2026-01-31T23:59:60+01:00",
            "2026-01-31T12:00:00+1:00",
            "2026-01-31T12:00:00+01",
            "2026-01-31T12:00:00+0100",
            "2026-01-31T12:00:00+24:00",
            "2026-01-31T12:00:00+01:60",
            "2026-01-31T12:00:00+01:0x",
            "2026-01-31T12:00:00−01:00",
            "２026-01-31T12:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut expected, first) = ((1_900, 1, 1), days_since_1970(1_900, 1, 1));
        for days in first..first + 146_097 + 366 {
            assert_eq!(date(days), expected);
            let (year, month, day) = expected;
            assert_eq!(days_since_1970(year, month, day), days);
            let last = match month {
                2 => 28 + i64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                (_, day) => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn a_time_is_written_as_it_is_read() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (68_169_599_999, "1972-02-28T23:59:59.999Z"),
            (68_169_600_000, "1972-02-29T00:00:00.000Z"),
            (951_825_600_007, "2000-02-29T12:00:00.007Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_767_225_599_007, "2025-12-31T23:59:59.007Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format(ms), text);
        }
        // Steps of a prime number of milliseconds, some 31 years each.
        for ms in (0..=LAST_MS).step_by(999_999_999_989) {
            assert_eq!(parse(&format(ms)), Some(ms.cast_signed()), "{ms}");
        }
    }

    #[test]
    fn an_offset_moves_the_day_and_the_hour() {
        for (offset, ms, date, time) in [
            ("Z", 0, "1970-01-01", "00:00:00"),
            ("-00:01", 0, "1969-12-31", "23:59:00"),
            ("+14:00", 1_769_860_800_999, "2026-02-01", "02:00:00"),
            ("-09:30", 1_709_164_800_000, "2024-02-28", "14:30:00"),
            ("+23:59", LAST_MS.cast_signed(), "9999-12-31", "23:59:59"),
            ("-23:59", i64::MIN, "0000-01-01", "00:00:00"),
        ] {
            let offset = UtcOffset::parse(offset).unwrap();
            assert_eq!(offset.date_and_time(ms), (date.to_owned(), time.to_owned()), "{offset}");
        }
        for (text, written) in [("z", "+00:00"), ("-03:30", "-03:30"), ("+00:00", "+00:00"), ("-00:00", "+00:00")] {
            assert_eq!(UtcOffset::parse(text).unwrap().to_string(), written);
        }
        for wrong in ["", "2", "+2", "+0200", "02:00", "+24:00", "+02:60", "+2:00", "UTC", "+02:00 "] {
            assert_eq!(UtcOffset::parse(wrong), None, "{wrong}");
        }
    }
}
