//! One page of a SQLite file: its kind, its cells, and the records in them. Owns the page and record formats
//! (<https://sqlite.org/fileformat2.html>); knows none of our tables. No byte is trusted: what breaks the format is
//! left out.

/// The length of the file header, which begins the first page.
pub const HEADER_BYTES: usize = 100;

/// One value of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `NULL`; also in the column of the row id.
    Null,
    /// An integer.
    Int(i64),
    /// A text in UTF-8.
    Text(&'a str),
    /// A type that none of our columns has.
    Other,
}

/// The kind of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rows of a table.
    TableLeaf,
    /// Pointers to other pages of a table.
    TableInterior,
    /// Entries of an index.
    IndexLeaf,
    /// Entries of an index, and pointers to other pages of it.
    IndexInterior,
}

/// One page of a table or of an index.
pub struct Page<'a> {
    bytes: &'a [u8],
    /// The offset of the page's own header.
    head: usize,
    /// The page's kind.
    pub kind: Kind,
}

impl<'a> Page<'a> {
    /// `None` unless it is a page of a table or an index.
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

    /// The offset of the list of cell pointers.
    fn pointers(&self) -> usize {
        self.head + if self.is_interior() { 12 } else { 8 }
    }

    fn offsets(&self) -> impl Iterator<Item = usize> {
        (0..self.cells()).map(|cell| usize::from(be16(self.bytes, self.pointers() + 2 * cell)))
    }

    /// The records with their row ids (0 in an index); `None` for each that cannot be read.
    pub fn records(&self) -> impl Iterator<Item = Option<(i64, Vec<Value<'a>>)>> {
        self.offsets().map(|offset| {
            let mut cell = self.bytes.get(offset..)?;
            if self.kind == Kind::IndexInterior {
                cell = cell.get(4..)?;
            }
            let length = usize::try_from(varint(&mut cell)?).ok()?;
            let row = if self.kind == Kind::TableLeaf { varint(&mut cell)? } else { 0 };
            // No record of ours is so long that it continues on another page.
            Some((row, record(cell.get(..length)?)?))
        })
    }

    /// The numbers of the pages that an interior page points to.
    pub fn children(&self) -> Vec<u32> {
        if !self.is_interior() {
            return Vec::new();
        }
        self.offsets().map(|offset| be32(self.bytes, offset)).chain([be32(self.bytes, self.head + 8)]).collect()
    }
}

/// Reads a variable-length integer of one to nine bytes.
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
    // A record fills its cell; bytes that happen to look like one do not.
    body.is_empty().then_some(values)
}

/// A big-endian number; 0 beyond the end.
pub fn be16(bytes: &[u8], offset: usize) -> u16 {
    bytes.get(offset..offset + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
}

/// A big-endian number; 0 beyond the end.
pub fn be32(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..offset + 4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// The page size that a header's number stands for, in bytes; `None` if it is invalid.
pub fn page_size(number: u32) -> Option<usize> {
    // In the file header, 1 stands for 65,536.
    let bytes = if number == 1 { 65_536 } else { number as usize };
    (bytes.is_power_of_two() && (512..=65_536).contains(&bytes)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_are_read_without_a_panic() {
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
