//! The pages of a SQLite file, read without SQLite, in whatever state they are: from the file, and from the write-ahead
//! log (WAL) beside it. Owns the file format (<https://sqlite.org/fileformat2.html>); knows none of our tables.
//!
//! SQLite finds a row from the root of its table downwards, so one damaged page can hide all pages below it, and
//! without the first page nothing is found. But every page holds its own kind and its own records. No byte is trusted:
//! what breaks the format is left out.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::path::Path;

use super::page::{HEADER_BYTES, Kind, Page, Value, be16, be32, page_size};
use super::wal::{WalPages, read_at};
use crate::store::files::{has_orphaned_wal, with_suffix};

/// The first bytes of a SQLite file.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The page size of every file that this program has made.
const PAGE_BYTES: usize = 4096;

/// The pages of a file and of its WAL.
pub struct Pages {
    /// `None` when only the WAL is left.
    file: Option<File>,
    wal: Option<File>,
    page_bytes: usize,
    usable_bytes: usize,
    count: u32,
    /// The offset in the WAL of each page's last committed version.
    wal_offsets: HashMap<u32, u64>,
}

impl Pages {
    /// Opens the file and reads its WAL.
    ///
    /// # Errors
    /// When the file cannot be opened. Parts that cannot be read are no error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && has_orphaned_wal(path) => None,
            file => Some(file?),
        };
        let mut file_bytes = 0;
        let mut header = [0; HEADER_BYTES];
        if let Some(file) = &mut file {
            file_bytes = file.seek(SeekFrom::End(0))?;
            read_at(file, 0, &mut header);
        }
        let has_header = header.starts_with(MAGIC);
        let mut wal = File::open(with_suffix(path, "-wal")).ok();
        let wal_pages = wal.as_mut().and_then(WalPages::read);
        let page_bytes = match &wal_pages {
            Some(wal_pages) => wal_pages.page_bytes,
            None if has_header => page_size(u32::from(be16(&header, 16))).unwrap_or(PAGE_BYTES),
            None => PAGE_BYTES,
        };
        // Bytes at the end of each page that are reserved for extensions; 0 unless the header is damaged.
        let reserved = if has_header { usize::from(header[20]) } else { 0 };
        let in_file = file_bytes.div_ceil(page_bytes as u64).min(u64::from(u32::MAX)) as u32;
        let (in_wal, wal_offsets) = wal_pages.map_or((0, HashMap::new()), |pages| (pages.count, pages.offsets));
        let usable_bytes = page_bytes - if reserved <= page_bytes - 480 { reserved } else { 0 };
        Ok(Self { file, wal, page_bytes, usable_bytes, count: in_file.max(in_wal), wal_offsets })
    }

    /// The number of pages; the first page has number 1.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The size of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// The number of pages that the header counts and that are not there.
    pub fn missing(&mut self) -> u32 {
        let first = self.read(1);
        // Section 1.3.8 of the file format.
        if first.starts_with(MAGIC) { be32(&first, 28).saturating_sub(self.count) } else { 0 }
    }

    /// The offset of a page in the file.
    pub fn offset(&self, number: u32) -> u64 {
        u64::from(number.saturating_sub(1)) * self.page_bytes as u64
    }

    /// The header's `application_id` and `user_version`; `None` if the header is damaged.
    pub fn application(&mut self) -> Option<(i32, i32)> {
        let first = self.read(1);
        let number = |offset| be32(&first, offset).cast_signed();
        first.starts_with(MAGIC).then(|| (number(68), number(60)))
    }

    /// Reads a page. Bytes that cannot be read are zeros.
    pub fn read(&mut self, number: u32) -> Vec<u8> {
        let mut bytes = vec![0; self.page_bytes];
        let offset = self.offset(number);
        match (self.wal_offsets.get(&number), &mut self.wal, &mut self.file) {
            (Some(offset), Some(wal), _) => read_at(wal, *offset, &mut bytes),
            (_, _, Some(file)) => read_at(file, offset, &mut bytes),
            _ => {}
        }
        bytes.truncate(self.usable_bytes);
        bytes
    }

    /// The numbers of free pages, which may still hold old records. `None` when the list of free pages is damaged.
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
            let leaves = page.get(8..)?.get(..(be32(&page, 4) as usize).checked_mul(4)?)?;
            for leaf in leaves.chunks_exact(4) {
                let number = be32(leaf, 0);
                if number == 0 || number > self.count {
                    return None;
                }
                free.insert(number);
            }
            trunk = be32(&page, 0);
        }
        Some(free)
    }

    /// All entries of the index with this root: a text and its row id. Pages that cannot be read are left out.
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
}
