//! The write-ahead log (WAL) of a SQLite file, read without SQLite (<https://sqlite.org/fileformat2.html#walformat>).

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

use super::page::{be32, page_size};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The committed pages in a WAL.
pub struct WalPages {
    /// The page size.
    pub page_bytes: usize,
    /// The number of pages of the file after the last commit.
    pub count: u32,
    /// The offset in the WAL of each page's last version.
    pub offsets: HashMap<u32, u64>,
}

impl WalPages {
    /// Reads the WAL up to its last complete transaction: the checksum of each frame covers all frames before it.
    pub fn read(wal: &mut File) -> Option<Self> {
        let mut header = [0; HEADER_BYTES];
        read_at(wal, 0, &mut header);
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
        let mut pages = Self { page_bytes, count: 0, offsets: HashMap::new() };
        let mut uncommitted = Vec::new();
        let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
        let mut offset = HEADER_BYTES as u64;
        loop {
            frame.fill(0);
            read_at(wal, offset, &mut frame);
            let (number, count) = (be32(&frame, 0), be32(&frame, 4));
            add_to_sum(&mut sum, &frame[..8], is_big_endian);
            add_to_sum(&mut sum, &frame[FRAME_HEADER_BYTES..], is_big_endian);
            let is_ours = frame[8..16] == header[16..24] && sum == (be32(&frame, 16), be32(&frame, 20));
            if !is_ours || number == 0 {
                return Some(pages);
            }
            uncommitted.push((number, offset + FRAME_HEADER_BYTES as u64));
            if count > 0 {
                pages.count = count;
                pages.offsets.extend(uncommitted.drain(..));
            }
            offset += frame.len() as u64;
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

/// Reads as many bytes as possible; the rest of `bytes` is unchanged.
pub fn read_at(file: &mut File, offset: u64, bytes: &mut [u8]) {
    if file.seek(SeekFrom::Start(offset)).is_err() {
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
