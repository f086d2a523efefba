//! Request heads whose lines two parsers could split differently.

use super::{Shape, expect_all_refused};

const MALFORMED: &[u16] = &[400];
const REQUEST: &str = "GET /categories HTTP/1.1\r\nHost: localhost\r\nX: abc\r\nY: def\r\n\r\n";
/// Every control byte except tab, carriage return and line feed, which have tests of their own.
const CONTROLS: [u8; 30] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127];

/// The request with these bytes inserted at that place.
fn put_in(at: usize, bytes: &[u8]) -> Vec<u8> {
    [&REQUEST.as_bytes()[..at], bytes, &REQUEST.as_bytes()[at..]].concat()
}

/// Where in the request the text begins.
fn place(text: &str) -> usize {
    REQUEST.find(text).expect("it is there")
}

#[test]
fn a_line_that_ends_in_anything_but_cr_lf_is_refused() {
    let ends: Vec<usize> = REQUEST.match_indices("\r\n").map(|(at, _)| at).collect();
    let mut shapes = Vec::new();
    for end in &ends {
        for instead in ["\n", "\r", "\r\r\n", "\n\r", "\r\0\n", "\r \n", "\u{b}\n"] {
            let request = format!("{}{instead}{}", &REQUEST[..*end], &REQUEST[end + 2..]);
            shapes.push(Shape::new(request, MALFORMED));
        }
    }
    for instead in ["\n", "\r"] {
        shapes.push(Shape::new(REQUEST.replace("\r\n", instead), MALFORMED));
        shapes.push(Shape::new(format!("{instead}{REQUEST}"), MALFORMED));
        shapes.push(Shape::new(format!("\r\n{instead}{REQUEST}"), MALFORMED));
    }
    expect_all_refused("line ends", &shapes);
}

#[test]
fn a_bare_line_feed_or_carriage_return_is_refused_at_every_place() {
    let mut shapes = Vec::new();
    for at in 0..place("\r\n\r\n") {
        for bytes in [&b"\n"[..], b"\r", b"\r\r", b"\n\n"] {
            // Next to a line end they would be another line end: the test above has those.
            let beside = &REQUEST[at.saturating_sub(1)..=at];
            if !beside.contains(['\r', '\n']) {
                shapes.push(Shape::new(put_in(at, bytes), MALFORMED));
            }
        }
    }
    expect_all_refused("line ends within lines", &shapes);
}

#[test]
fn misplaced_white_space_is_refused() {
    let mut shapes = Vec::new();
    for space in [" ", "\t", "  ", " \t"] {
        for before in ["Host:", "X:", "Y:"] {
            // Before a colon; within a name; before the first line; before another line, where it would be a folded
            // line.
            let start = place(before);
            shapes.push(Shape::new(put_in(start + before.len() - 1, space.as_bytes()), MALFORMED));
            shapes.push(Shape::new(put_in(start, space.as_bytes()), MALFORMED));
        }
        shapes.push(Shape::new(put_in(place("ost:"), space.as_bytes()), MALFORMED));
        shapes.push(Shape::new(put_in(place("GET"), space.as_bytes()), MALFORMED));
        let folds = ["localhost", "abc", "def"].map(|value| format!("{value}\r\n{space}folded"));
        for (value, folded) in ["localhost", "abc", "def"].iter().zip(folds) {
            shapes.push(Shape::new(REQUEST.replace(value, &folded), MALFORMED));
        }
        // A line of white space is not the end of the head.
        shapes.push(Shape::new(REQUEST.replace("\r\n\r\n", &format!("\r\n{space}\r\n\r\n")), MALFORMED));
    }
    for line in [": y", "X", "X y", "X;: y", "X(a): y", "X/a: y", "X@a: y", "X[a]: y", "{X}: y", "\"X\": y", "X=a: y"] {
        shapes.push(Shape::new(REQUEST.replace("X: abc", line), MALFORMED));
    }
    expect_all_refused("white space", &shapes);
}

#[test]
fn control_bytes_and_other_invalid_bytes_are_refused_everywhere() {
    let mut shapes = Vec::new();
    let long = "v".repeat(70);
    for byte in CONTROLS {
        for at in ["GET", "ET", "/", "categories", "ies", "HTTP", "1.1", "Host", "ost:", "localhost", "host\r", "\r\nX"]
        {
            shapes.push(Shape::new(put_in(place(at), &[byte]), MALFORMED));
        }
        // At the ends of names and values, and at each place of a long value, which parsers read in blocks of bytes.
        shapes.push(Shape::new(put_in(place(": abc"), &[byte]), MALFORMED));
        shapes.push(Shape::new(put_in(place("abc"), &[byte]), MALFORMED));
        shapes.push(Shape::new(put_in(place("abc") + 3, &[byte]), MALFORMED));
        for at in (0..long.len()).step_by(7) {
            for part in ["abc", "categories"] {
                let start = place(part) + part.len();
                let (left, right) = long.split_at(at);
                shapes
                    .push(Shape::new(put_in(start, &[left.as_bytes(), &[byte], right.as_bytes()].concat()), MALFORMED));
            }
        }
    }
    for byte in [0x80, 0xa0, 0xc3, 0xff] {
        for at in ["GET", "ET", "/", "categories", "ies", "HTTP", "1.1", "Host", "ost:", "X:"] {
            shapes.push(Shape::new(put_in(place(at), &[byte]), MALFORMED));
        }
    }
    expect_all_refused("control bytes", &shapes);
}

#[test]
fn heads_that_ask_for_too_much_are_refused() {
    let mut shapes = Vec::new();
    for expected in ["tea", "100-continue, tea", "tea, 100-continue", "200-ok", "100", "\"100-continue\""] {
        shapes.push(Shape::new(REQUEST.replace("X: abc", &format!("Expect: {expected}")), &[417]));
    }
    let long = "y".repeat(16 * 1024);
    for request in [
        REQUEST.replace("X: abc\r\n", &"X: y\r\n".repeat(64)),
        REQUEST.replace("abc", &long),
        REQUEST.replace("X:", &format!("{long}:")),
        REQUEST.replace("/categories", &format!("/{long}")),
        REQUEST.replace("GET", &"G".repeat(16 * 1024)),
        "\r\n".repeat(8 * 1024),
    ] {
        shapes.push(Shape::new(request, &[431]));
    }
    expect_all_refused("too much", &shapes);
}
