//! The table of `watch`, as lines of text for a terminal of a given size.

use std::borrow::Cow;

use console::{Alignment, measure_text_width, pad_str, truncate_str};

use super::text::grouped;

/// Two columns are so far apart.
const GAP: &str = "  ";
/// The shortest useful column of names, in cells.
const SHORTEST_NAME: usize = 8;
const HEADS: [&str; 4] = ["ID", "NAME", "TOTAL", "PER MINUTE"];

/// One product. Its texts have no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) total: i64,
    /// What was ordered in the last minute.
    pub(super) rate: i64,
}

/// Lays out the table: at most `height` lines of at most `width` cells. Where not all products fit, those that were ordered
/// most in the last minute are shown, and the last line says how many are not.
pub(super) fn layout(title: &str, state: &str, rows: &[Row], width: usize, height: usize) -> Vec<String> {
    let room = height.saturating_sub(3);
    let (shown, hidden) = if rows.len() <= room {
        (rows.iter().collect(), 0)
    } else {
        let shown = busiest(rows, room.saturating_sub(1));
        let hidden = rows.len() - shown.len();
        (shown, hidden)
    };
    let mut lines = vec![title.to_owned(), state.to_owned()];
    lines.extend(columns(&shown, width));
    if hidden > 0 {
        lines.push(format!("{hidden} more, with fewer orders in the last minute"));
    }
    lines.truncate(height);
    lines.into_iter().map(|line| truncate_str(&line, width, "").trim_end().to_owned()).collect()
}

/// The products with the greatest rates, in the sequence of the list.
fn busiest(rows: &[Row], count: usize) -> Vec<&Row> {
    let mut places: Vec<usize> = (0..rows.len()).collect();
    places.sort_by_key(|place| std::cmp::Reverse(rows[*place].rate));
    places.truncate(count);
    places.sort_unstable();
    places.into_iter().map(|place| &rows[place]).collect()
}

/// The heads of the columns and the rows. A narrow terminal gets no ids, and a very narrow one no rates.
fn columns(rows: &[&Row], width: usize) -> Vec<String> {
    let cells: Vec<[Cow<'_, str>; 4]> = std::iter::once(HEADS.map(Cow::Borrowed))
        .chain(rows.iter().map(|row| {
            [row.id.as_str().into(), row.name.as_str().into(), grouped(row.total).into(), grouped(row.rate).into()]
        }))
        .collect();
    let widest = |column: usize| cells.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEADS.len()).map(widest).collect();
    let without_name = |columns: &[usize]| columns.iter().map(|column| widths[*column] + GAP.len()).sum::<usize>();
    let fits = |columns: &&[usize]| without_name(columns) + SHORTEST_NAME <= width;
    let others = [&[0, 2, 3][..], &[2, 3]].into_iter().find(fits).unwrap_or(&[2]);
    let name_width = width.saturating_sub(without_name(others)).min(widths[1]);
    let line = |row: &[Cow<'_, str>; 4]| {
        let mut parts = Vec::new();
        if others.contains(&0) {
            parts.push(pad_str(&row[0], widths[0], Alignment::Left, None));
        }
        parts.push(pad_str(&row[1], name_width, Alignment::Left, Some("…")));
        for column in others.iter().filter(|column| **column > 0) {
            parts.push(pad_str(&row[*column], widths[*column], Alignment::Right, None));
        }
        parts.join(GAP)
    };
    cells.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, name: &str, total: i64, rate: i64) -> Row {
        Row { id: id.into(), name: name.into(), total, rate }
    }

    #[test]
    fn columns_are_aligned_by_their_cells() {
        let rows = [row("A1", "Vacuum Cleaner", 1_234, 12), row("B100", "お茶 500 ml", -7, 0)];
        let lines = layout("all", "live", &rows, 80, 24);
        assert_eq!(
            lines,
            [
                "all",
                "live",
                "ID    NAME            TOTAL  PER MINUTE",
                "A1    Vacuum Cleaner  1,234          12",
                "B100  お茶 500 ml        -7           0",
            ]
        );
    }

    #[test]
    fn a_narrow_terminal_gets_shorter_names_and_fewer_columns() {
        let rows = [row("A1", "Vacuum Cleaner", 1_234, 12)];
        let third = |width| layout("all", "live", &rows, width, 24)[3].clone();
        for width in 1..60 {
            for line in layout("a long title", "a state", &rows, width, 24) {
                assert!(measure_text_width(&line) <= width, "{width}: {line}");
            }
        }
        assert!(third(35).starts_with("A1  ") && third(28).starts_with("Vac"), "{}", third(28));
        assert!(!third(18).contains("12") || third(18).contains("1,234"), "{}", third(18));
    }

    #[test]
    fn a_low_terminal_gets_the_busiest_products_in_their_sequence() {
        let rows: Vec<Row> = (0..30).map(|place| row(&format!("P{place}"), "x", place, (place * 7) % 30)).collect();
        let lines = layout("all", "live", &rows, 80, 8);
        assert_eq!(lines.len(), 8);
        let shown: Vec<&str> = lines[3..7].iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(shown, ["P4", "P8", "P17", "P21"]);
        assert_eq!(lines[7], "26 more, with fewer orders in the last minute");
        for height in 0..40 {
            assert!(layout("all", "live", &rows, 80, height).len() <= height);
        }
    }
}
