//! Text must be UTF-8, and invalid bytes are rejected as they arrive, against the echo (RFC 6455, sections 5.6 and 8.1;
//! the Autobahn suite's group 6).

use crate::cases::{Case, case, check};
use crate::common::echo::{Echo, binary, pong, text};
use crate::common::websocket::{BINARY, CONTINUATION, PING, TEXT, frame};

/// Valid UTF-8: the first and the last character of each length, and non-characters.
const VALID: [(&str, &str); 18] = [
    ("κόσμε", "the Greek word of Kuhn's test file"),
    ("Hello-µ@ßöäüàá-UTF-8!!", "the sentence of the Autobahn suite"),
    ("\u{0}", "U+0000"),
    ("\u{7F}", "U+007F, the last of one byte"),
    ("\u{80}", "U+0080, the first of two bytes"),
    ("\u{7FF}", "U+07FF, the last of two bytes"),
    ("\u{800}", "U+0800, the first of three bytes"),
    ("\u{D7FF}", "U+D7FF, the last before the surrogates"),
    ("\u{E000}", "U+E000, the first after the surrogates"),
    ("\u{FEFF}", "U+FEFF, the byte order mark, which is content"),
    ("\u{FFFD}", "U+FFFD, the replacement character"),
    ("\u{FDD0}\u{FDEF}", "non-characters of the Arabic block"),
    ("\u{FFFE}", "U+FFFE, a non-character"),
    ("\u{FFFF}", "U+FFFF, a non-character and the last of three bytes"),
    ("\u{10000}", "U+10000, the first of four bytes"),
    ("\u{1FFFE}\u{1FFFF}\u{8FFFF}", "non-characters of higher planes"),
    ("\u{10FFFE}", "U+10FFFE, a non-character"),
    ("\u{10FFFF}", "U+10FFFF, the last of all"),
];

/// What is not: each is wrong before its last byte or with it, so nothing has to follow.
const INVALID: [(&[u8], &str); 31] = [
    (b"\x80", "a continuation byte alone"),
    (b"\xBF", "the last continuation byte alone"),
    (b"\x80\xBF\x80", "three continuation bytes"),
    (b"\xC0\xAF", "a slash in two bytes"),
    (b"\xE0\x80\xAF", "a slash in three bytes"),
    (b"\xF0\x80\x80\xAF", "a slash in four bytes"),
    (b"\xF8\x80\x80\x80\xAF", "a slash in five bytes"),
    (b"\xFC\x80\x80\x80\x80\xAF", "a slash in six bytes"),
    (b"\xC1\xBF", "U+007F in two bytes"),
    (b"\xE0\x9F\xBF", "U+07FF in three bytes"),
    (b"\xF0\x8F\xBF\xBF", "U+FFFF in four bytes"),
    (b"\xC0\x80", "U+0000 in two bytes"),
    (b"\xE0\x80\x80", "U+0000 in three bytes"),
    (b"\xF0\x80\x80\x80", "U+0000 in four bytes"),
    (b"\xED\xA0\x80", "U+D800, the first surrogate"),
    (b"\xED\xAD\xBF", "U+DB7F, a high surrogate"),
    (b"\xED\xBF\xBF", "U+DFFF, the last surrogate"),
    (b"\xED\xA0\x80\xED\xB0\x80", "a pair of surrogates"),
    (b"\xF4\x90\x80\x80", "U+110000, one too far"),
    (b"\xF5\x80\x80\x80", "a lead byte beyond the last plane"),
    (b"\xF7\xBF\xBF\xBF", "U+1FFFFF"),
    (b"\xF8\x88\x80\x80\x80", "five bytes"),
    (b"\xFC\x84\x80\x80\x80\x80", "six bytes"),
    (b"\xFE", "the byte FE"),
    (b"\xFF", "the byte FF"),
    (b"\xC3\x28", "a lead byte of two, then a letter"),
    (b"\xE2\x82\x28", "a lead byte of three, one continuation, then a letter"),
    (b"\xF0\x9F\x98\x28", "a lead byte of four, two continuations, then a letter"),
    (b"\xC3\xC3", "two lead bytes"),
    (b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited", "a surrogate among Greek letters"),
    (b"Hello\xFF", "a byte FF at the end"),
];

/// Incomplete characters: valid in the middle of a text, invalid at its end.
const TRUNCATED: [&[u8]; 8] =
    [b"\xC2", b"\xE0\xA0", b"\xE2", b"\xE2\x82", b"\xF0", b"\xF0\x90", b"\xF0\x9F\x98", b"\xF4\x8F\xBF"];

/// A message in two frames.
fn halves(first: &[u8], second: &[u8]) -> Vec<u8> {
    [frame(TEXT, false, first), frame(CONTINUATION, true, second)].concat()
}

#[test]
fn what_is_utf8_comes_back_whole_and_from_fragments_cut_anywhere() {
    let mut cases: Vec<Case> = Vec::new();
    for (words, name) in VALID {
        let bytes = words.as_bytes();
        cases.push(case("5.6", name).sends(frame(TEXT, true, bytes)).receives(text(words)));
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let name = format!("{name}, in fragments of {cut} and {} bytes", second.len());
            cases.push(case("5.4", name).sends(halves(first, second)).receives(text(words)));
        }
        let single: Vec<u8> = bytes.iter().flat_map(|byte| frame(CONTINUATION, false, &[*byte])).collect();
        let name = format!("{name}, a fragment a byte, with a ping behind each half");
        let sent = [
            frame(TEXT, false, b""),
            single,
            frame(PING, true, b"still"),
            frame(CONTINUATION, false, b""),
            frame(CONTINUATION, true, b""),
        ];
        cases.push(case("5.4", name).sends(sent.concat()).receives(pong("still")).receives(text(words)));
    }
    check(&Echo::start(), &cases);
}

#[test]
fn what_is_not_utf8_is_closed_with_1007() {
    let mut cases: Vec<Case> = Vec::new();
    for (bytes, name) in INVALID {
        cases.push(case("8.1", name).sends(frame(TEXT, true, bytes)).closed_with(1007));
        let behind = [b"valid before ", bytes, b" and behind"].concat();
        cases.push(case("8.1", format!("{name}, in a sentence")).sends(frame(TEXT, true, &behind)).closed_with(1007));
    }
    check(&Echo::start(), &cases);
}

#[test]
fn a_text_that_ends_inside_a_character_is_closed_with_1007() {
    let mut cases: Vec<Case> = Vec::new();
    for bytes in TRUNCATED {
        let name = format!("an end after {bytes:02x?}");
        let words = [b"truncated ", bytes].concat();
        cases.push(case("8.1", name.clone()).sends(frame(TEXT, true, bytes)).closed_with(1007));
        cases.push(case("8.1", format!("{name}, behind words")).sends(frame(TEXT, true, &words)).closed_with(1007));
        let fragmented = halves(&words, b"");
        cases.push(case("8.1", format!("{name}, and an empty last fragment")).sends(fragmented).closed_with(1007));
        // The next message does not complete the character.
        let next = [frame(TEXT, true, bytes), frame(TEXT, true, b"\x80\x80")].concat();
        cases.push(case("8.1", format!("{name}, and another message")).sends(next).closed_with(1007));
    }
    check(&Echo::start(), &cases);
}

#[test]
fn what_is_not_utf8_is_refused_before_the_message_is_complete() {
    let mut cases: Vec<Case> = Vec::new();
    for (bytes, name) in INVALID {
        // The last fragment is never sent.
        let first = frame(TEXT, false, bytes);
        cases.push(case("8.1", format!("{name}, in a first fragment")).sends(first).closed_with(1007));
        for cut in 1..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let sent = [frame(TEXT, false, first), frame(CONTINUATION, false, second)].concat();
            let name = format!("{name}, in unfinished fragments of {cut} and {} bytes", second.len());
            cases.push(case("8.1", name).sends(sent).closed_with(1007));
        }
    }
    // The Autobahn suite's 6.4.1 and 6.4.2.
    let greek = "κόσμε".as_bytes();
    let sent = [frame(TEXT, false, greek), frame(CONTINUATION, false, b"\xF4\x90\x80\x80")].concat();
    cases.push(case("8.1", "a fragment of U+110000 behind Greek letters").sends(sent).closed_with(1007));
    let sent = [frame(TEXT, false, &[greek, b"\xF4"].concat()), frame(CONTINUATION, false, b"\x90")].concat();
    cases.push(case("8.1", "U+110000 in two fragments behind Greek letters").sends(sent).closed_with(1007));
    check(&Echo::start(), &cases);
}

#[test]
fn binary_messages_are_not_checked_for_utf8() {
    let mut cases: Vec<Case> = Vec::new();
    for (bytes, name) in INVALID {
        cases.push(case("5.6", name).sends(frame(BINARY, true, bytes)).receives(binary(bytes)));
    }
    for bytes in TRUNCATED {
        let sent = [frame(BINARY, false, bytes), frame(CONTINUATION, true, b"\xFF")].concat();
        let name = format!("fragments of {bytes:02x?} and ff");
        cases.push(case("5.6", name).sends(sent).receives(binary([bytes, b"\xFF"].concat())));
    }
    check(&Echo::start(), &cases);
}

#[test]
fn every_character_comes_back() {
    // All 1,112,064 characters, one plane in each message.
    let planes: Vec<Case> = (0..=0x10_u32)
        .map(|plane| {
            let words: String = (plane << 16..=plane << 16 | 0xFFFF).filter_map(char::from_u32).collect();
            case("8.1", format!("plane {plane}")).sends(frame(TEXT, true, words.as_bytes())).receives(text(&words))
        })
        .collect();
    check(&Echo::start(), &planes);
}
