//! The pages of a SQLite file, read without SQLite, in whatever state they are: from the file, and from the log (`-wal`)
//! beside it. Owns the file format (<https://sqlite.org/fileformat2.html>); knows none of our tables.
//!
//! SQLite finds a row from the root of its table downwards, so that one damaged page can hide all that hang on it, and
//! without the first page nothing is found. But every page tells by itself what kind of page it is and which records it
//! holds. Nothing here trusts a byte: what does not fit is not there.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use crate::store::files::{is_orphaned_log, with_suffix};

/// What a SQLite file begins with.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The first page begins with the file's header.
const HEADER_BYTES: usize = 100;
/// The page size of every file that this program has made.
const PAGE_BYTES: usize = 4096;
const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// One value of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `NULL`; also stands where a row's number is its column.
    Null,
    /// An integer.
    Int(i64),
    /// A text in UTF-8.
    Text(&'a str),
    /// What none of our columns hold.
    Other,
}

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rows of a table.
    TableLeaf,
    /// Points to other pages of a table.
    TableInterior,
    /// Entries of an index.
    IndexLeaf,
    /// Entries of an index, and other pages of it between them.
    IndexInterior,
}

/// A file, and what its log says newer.
pub struct Pages {
    /// `None` when the file is gone and its log is not.
    file: Option<File>,
    log: Option<File>,
    page_bytes: usize,
    usable_bytes: usize,
    count: u32,
    /// Where in the log the last committed version of a page begins.
    newer: HashMap<u32, u64>,
}

impl Pages {
    /// Opens the file and reads its log.
    ///
    /// # Errors
    /// When the file cannot be opened. What cannot be read of it is no error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_orphaned_log(path) => None,
            file => Some(file?),
        };
        let mut file_bytes = 0;
        let mut header = [0; HEADER_BYTES];
        if let Some(file) = &mut file {
            file_bytes = file.seek(SeekFrom::End(0))?;
            read_at(file, 0, &mut header);
        }
        let has_header = header.starts_with(MAGIC);
        let mut log = File::open(with_suffix(path, "-wal")).ok();
        let log_pages = log.as_mut().and_then(LogPages::read);
        let page_bytes = match &log_pages {
            Some(log_pages) => log_pages.page_bytes,
            None if has_header => page_size(u32::from(be16(&header, 16))).unwrap_or(PAGE_BYTES),
            None => PAGE_BYTES,
        };
        // Bytes at the end of each page that belong to extensions; there are none unless the header is damaged.
        let reserved = if has_header { usize::from(header[20]) } else { 0 };
        let in_file = file_bytes.div_ceil(page_bytes as u64).min(u64::from(u32::MAX)) as u32;
        let (in_log, newer) = log_pages.map_or((0, HashMap::new()), |pages| (pages.count, pages.newer));
        let usable_bytes = page_bytes - if reserved <= page_bytes - 480 { reserved } else { 0 };
        Ok(Self { file, log, page_bytes, usable_bytes, count: in_file.max(in_log), newer })
    }

    /// How many pages there are; the first has number 1.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Where in the file a page begins.
    #[must_use]
    pub fn offset(&self, number: u32) -> u64 {
        u64::from(number.saturating_sub(1)) * self.page_bytes as u64
    }

    /// What the header says of the file's program (`application_id`) and of its version (`user_version`), if it is one.
    pub fn application(&mut self) -> Option<(i32, i32)> {
        let first = self.read(1);
        let number = |place| be32(&first, place).cast_signed();
        first.starts_with(MAGIC).then(|| (number(68), number(60)))
    }

    /// Reads a page. What the disk does not give is zeros.
    pub fn read(&mut self, number: u32) -> Vec<u8> {
        let mut bytes = vec![0; self.page_bytes];
        match (self.newer.get(&number), &mut self.log) {
            (Some(place), Some(log)) => read_at(log, *place, &mut bytes),
            _ => {
                let place = self.offset(number);
                if let Some(file) = &mut self.file {
                    read_at(file, place, &mut bytes);
                }
            }
        }
        bytes.truncate(self.usable_bytes);
        bytes
    }

    /// The pages that hold nothing any more, although they may look as if they did. `None` when that is not known.
    pub fn free(&mut self) -> Option<HashSet<u32>> {
        let first = self.read(1);
        if !first.starts_with(MAGIC) {
            return None;
        }
        let mut free = HashSet::new();
        let mut trunk = be32(&first, 32);
        while trunk != 0 {
            if trunk > self.count || !free.insert(trunk) {
                return None;
            }
            let page = self.read(trunk);
            let leaves = be32(&page, 4) as usize;
            for leaf in 0..leaves {
                let place = 8 + 4 * leaf;
                if place + 4 > page.len() {
                    return None;
                }
                let number = be32(&page, place);
                if number == 0 || number > self.count {
                    return None;
                }
                free.insert(number);
            }
            trunk = be32(&page, 0);
        }
        Some(free)
    }

    /// All entries of the index with this root: a text and the number of its row. Branches that cannot be read are left
    /// out.
    pub fn index_entries(&mut self, root: u32) -> Vec<(String, i64)> {
        let mut entries = Vec::new();
        let (mut seen, mut next) = (HashSet::new(), vec![root]);
        while let Some(number) = next.pop() {
            if number == 0 || number > self.count || !seen.insert(number) {
                continue;
            }
            let bytes = self.read(number);
            let Some(page) = Page::parse(&bytes, number) else { continue };
            if !matches!(page.kind, Kind::IndexLeaf | Kind::IndexInterior) {
                continue;
            }
            for (_, values) in page.records().flatten() {
                if let [Value::Text(text), Value::Int(row)] = values[..] {
                    entries.push((text.to_owned(), row));
                }
            }
            next.extend(page.children());
        }
        entries
    }
}

/// Reads as much as there is; the rest of `bytes` stays as it was.
fn read_at(file: &mut File, place: u64, bytes: &mut [u8]) {
    if file.seek(SeekFrom::Start(place)).is_err() {
        return;
    }
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(length) => filled += length,
        }
    }
}

/// The numbers of SQLite's headers; 0 beyond the end.
fn be16(bytes: &[u8], place: usize) -> u16 {
    bytes.get(place..place + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
}

fn be32(bytes: &[u8], place: usize) -> u32 {
    bytes.get(place..place + 4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

fn page_size(number: u32) -> Option<usize> {
    // In the file's header, 1 stands for 65,536.
    let bytes = if number == 1 { 65_536 } else { number as usize };
    (bytes.is_power_of_two() && (512..=65_536).contains(&bytes)).then_some(bytes)
}

/// What a log says of a file.
struct LogPages {
    page_bytes: usize,
    /// How many pages the file has after the last commit.
    count: u32,
    newer: HashMap<u32, u64>,
}

impl LogPages {
    /// Reads the log up to its last whole transaction: the checksum of each frame goes over all that are before it.
    fn read(log: &mut File) -> Option<Self> {
        let mut header = [0; LOG_HEADER_BYTES];
        read_at(log, 0, &mut header);
        let is_big_endian = match be32(&header, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        let page_bytes = page_size(be32(&header, 8))?;
        let mut sum = (0, 0);
        add_to_sum(&mut sum, &header[..24], is_big_endian);
        if sum != (be32(&header, 24), be32(&header, 28)) {
            return None;
        }
        let mut pages = Self { page_bytes, count: 0, newer: HashMap::new() };
        let mut uncommitted = Vec::new();
        let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
        let mut place = LOG_HEADER_BYTES as u64;
        loop {
            frame.fill(0);
            read_at(log, place, &mut frame);
            let (number, count) = (be32(&frame, 0), be32(&frame, 4));
            add_to_sum(&mut sum, &frame[..8], is_big_endian);
            add_to_sum(&mut sum, &frame[FRAME_HEADER_BYTES..], is_big_endian);
            let is_ours = frame[8..16] == header[16..24] && sum == (be32(&frame, 16), be32(&frame, 20));
            if !is_ours || number == 0 {
                return Some(pages);
            }
            uncommitted.push((number, place + FRAME_HEADER_BYTES as u64));
            if count > 0 {
                pages.count = count;
                pages.newer.extend(uncommitted.drain(..));
            }
            place += frame.len() as u64;
        }
    }
}

fn add_to_sum(sum: &mut (u32, u32), bytes: &[u8], is_big_endian: bool) {
    let word = |four: &[u8]| {
        let four = [four[0], four[1], four[2], four[3]];
        if is_big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    };
    for pair in bytes.chunks_exact(8) {
        sum.0 = sum.0.wrapping_add(word(&pair[..4])).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(word(&pair[4..])).wrapping_add(sum.0);
    }
}

/// One page of a table or of an index.
pub struct Page<'a> {
    bytes: &'a [u8],
    /// Where the page's own header begins.
    head: usize,
    /// What it is.
    pub kind: Kind,
}

impl<'a> Page<'a> {
    /// `None` for what is no page of a table or an index.
    #[must_use]
    pub fn parse(bytes: &'a [u8], number: u32) -> Option<Self> {
        let head = if number == 1 { HEADER_BYTES } else { 0 };
        let kind = match bytes.get(head)? {
            2 => Kind::IndexInterior,
            5 => Kind::TableInterior,
            10 => Kind::IndexLeaf,
            13 => Kind::TableLeaf,
            _ => return None,
        };
        let page = Self { bytes, head, kind };
        (page.pointers() + 2 * page.cells() <= bytes.len()).then_some(page)
    }

    fn cells(&self) -> usize {
        usize::from(be16(self.bytes, self.head + 3))
    }

    fn is_interior(&self) -> bool {
        matches!(self.kind, Kind::TableInterior | Kind::IndexInterior)
    }

    /// Where the list of cells begins.
    fn pointers(&self) -> usize {
        self.head + if self.is_interior() { 12 } else { 8 }
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        (0..self.cells()).map(|cell| usize::from(be16(self.bytes, self.pointers() + 2 * cell)))
    }

    /// The records with the numbers of their rows, which is 0 in an index; `None` for each that cannot be read.
    pub fn records(&self) -> impl Iterator<Item = Option<(i64, Vec<Value<'a>>)>> {
        self.places().map(|place| {
            let mut cell = self.bytes.get(place..)?;
            if self.kind == Kind::IndexInterior {
                cell = cell.get(4..)?;
            }
            let length = usize::try_from(varint(&mut cell)?).ok()?;
            let row = if self.kind == Kind::TableLeaf { varint(&mut cell)? } else { 0 };
            // A record that goes on in another page is longer than any of ours.
            Some((row, record(cell.get(..length)?)?))
        })
    }

    fn children(&self) -> Vec<u32> {
        if !self.is_interior() {
            return Vec::new();
        }
        self.places().map(|place| be32(self.bytes, place)).chain([be32(self.bytes, self.head + 8)]).collect()
    }
}

/// Takes one of SQLite's numbers of one to nine bytes.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value: u64 = 0;
    for place in 0..9 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if place == 8 {
            return Some(((value << 8) | u64::from(byte)).cast_signed());
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value.cast_signed())
}

fn record(bytes: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut head = bytes;
    let head_bytes = usize::try_from(varint(&mut head)?).ok()?;
    let (mut types, mut body) = (bytes.get(bytes.len() - head.len()..head_bytes)?, bytes.get(head_bytes..)?);
    let mut values = Vec::new();
    while !types.is_empty() {
        let (value, length) = match varint(&mut types)? {
            0 => (Value::Null, 0),
            number @ 1..=6 => {
                let length = usize::try_from(number).map_or(0, |number| [0, 1, 2, 3, 4, 6, 8][number]);
                let digits = body.get(..length)?;
                let sign = if digits[0] & 0x80 == 0 { 0 } else { -1 };
                (Value::Int(digits.iter().fold(sign, |value, digit| (value << 8) | i64::from(*digit))), length)
            }
            number @ (8 | 9) => (Value::Int(number - 8), 0),
            7 => (Value::Other, 8),
            number if number >= 12 => {
                let length = usize::try_from((number - 12) / 2).ok()?;
                match str::from_utf8(body.get(..length)?) {
                    Ok(text) if number % 2 == 1 => (Value::Text(text), length),
                    _ => (Value::Other, length),
                }
            }
            _ => return None,
        };
        body = body.get(length..)?;
        values.push(value);
    }
    // A record fills its cell; one that does not is a chance find.
    body.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_read_as_sqlite_writes_them() {
        let file = std::env::temp_dir().join(format!("ordercast-pages-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let numbers = [0, 1, -1, 127, -128, 32_767, -8_388_608, 1 << 40, i64::MIN, i64::MAX];
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.execute_batch("CREATE TABLE t (row INTEGER PRIMARY KEY, n INTEGER, s TEXT UNIQUE) STRICT").unwrap();
        for number in numbers {
            connection.execute("INSERT INTO t VALUES (?1, ?1, 'ä' || ?1)", [number]).unwrap();
        }
        drop(connection);
        let mut pages = Pages::open(&file).unwrap();
        let mut rows = Vec::new();
        for number in 2..=pages.count() {
            let bytes = pages.read(number);
            let page = Page::parse(&bytes, number).unwrap();
            for (row, values) in page.records().map(Option::unwrap).filter(|_| page.kind == Kind::TableLeaf) {
                assert_eq!(values, [Value::Null, Value::Int(row), Value::Text(&format!("ä{row}"))]);
                rows.push(row);
            }
        }
        let mut sorted = numbers;
        sorted.sort_unstable();
        assert_eq!(rows, sorted);
        let mut indexed: Vec<i64> = pages.index_entries(3).into_iter().map(|(_, row)| row).collect();
        indexed.sort_unstable();
        assert_eq!(indexed, sorted);
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn chance_bytes_are_read_without_harm() {
        let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
        for round in 0..20_000 {
            let mut bytes = vec![0; 512];
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (state >> 56) as u8;
            }
            bytes[0] = [2, 5, 10, 13][round % 4];
            bytes[3] = 0;
            let page = Page::parse(&bytes, 2);
            let _ = page.map(|page| (page.records().count(), page.children().len()));
        }
    }
}
