//! Suggestions for misspelt names: options, variables, parameters.

/// The longest name for which a suggestion is made, in bytes. The work grows with it.
const MAX_NAME_BYTES: usize = 64;

/// ` (did you mean NAME?)` with the known name that is nearest to this one, behind the prefix that all of them have;
/// empty if none is near.
#[must_use]
pub fn suggestion<'a>(prefix: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(name, known);
    near.map(|near| format!(" (did you mean {prefix}{near}?)")).unwrap_or_default()
}

/// The nearest name, if at most a third of its letters differ.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME_BYTES {
        return None;
    }
    let distances = known.into_iter().map(|known| (distance(name.as_bytes(), known.as_bytes()), known));
    let (distance, near) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= near.len() / 3).then_some(near)
}

/// The bytes to insert, remove or replace to get from one name to the other (Levenshtein distance).
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, own) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(own != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_distant_one_is_not() {
        let known = ["after", "limit"];
        for (name, near) in [
            ("limt", Some("limit")),
            ("limits", Some("limit")),
            ("aftr", Some("after")),
            ("since", None),
            ("id", None),
            ("", None),
            (&"limit".repeat(20), None),
        ] {
            assert_eq!(nearest(name, known), near, "{name}");
        }
        assert_eq!(suggestion("--", "limt", known), " (did you mean --limit?)");
        assert_eq!(suggestion("", "since", known), "");
    }

    #[test]
    fn the_distance_counts_single_bytes() {
        for (from, to, expected) in [("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("abc", "abc", 0)] {
            assert_eq!(distance(from.as_bytes(), to.as_bytes()), expected, "{from} {to}");
        }
    }
}
