//! The trace of calls on a data folder that the preloaded shim of [`crate::common::disk`] writes, and its reader.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The size of the shim's `struct record`.
const RECORD_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Open,
    Write,
    Truncate,
    Sync,
    Unlink,
    Rename,
    /// Bytes sent to a socket; the result is the port of the peer.
    Send,
    /// The end of the call with the same number.
    Done,
    Close,
}

/// One record of the trace.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its offset in the trace, in bytes.
    pub place: u64,
    pub kind: Kind,
    pub target: u32,
    pub fd: i32,
    pub result: i32,
    pub offset: u64,
    pub number: u32,
    pub data: Vec<u8>,
}

/// Reads a trace while it is written.
#[derive(Debug)]
pub struct Trace {
    file: File,
    /// The offset of the next record.
    offset: u64,
}

impl Trace {
    /// # Panics
    /// If no server with the shim has created it.
    #[track_caller]
    pub fn open(path: &Path) -> Trace {
        Trace { file: File::open(path).expect("the shim is preloaded and writes a trace"), offset: 0 }
    }

    /// The records since the last call. An incomplete record is read again by the next call.
    pub fn more(&mut self) -> Vec<Record> {
        self.file.seek(SeekFrom::Start(self.offset)).expect("the trace can be read");
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).expect("the trace can be read");
        let mut records = Vec::new();
        let mut used = 0;
        while let Some(record) = record(&bytes[used..], self.offset + used as u64) {
            used += RECORD_BYTES + record.data.len();
            records.push(record);
        }
        self.offset += used as u64;
        records
    }
}

fn record(bytes: &[u8], place: u64) -> Option<Record> {
    let number = |at: usize| bytes.get(at..at + 4).map(|four| u32::from_ne_bytes(four.try_into().expect("four bytes")));
    let length = number(28)? as usize;
    let data = bytes.get(RECORD_BYTES..RECORD_BYTES + length)?.to_vec();
    use Kind::{Close, Done, Open, Rename, Send, Sync, Truncate, Unlink, Write};
    Some(Record {
        place,
        kind: [Open, Write, Truncate, Sync, Unlink, Rename, Send, Done, Close][number(0)? as usize - 1],
        target: number(4)?,
        fd: number(8)?.cast_signed(),
        result: number(12)?.cast_signed(),
        offset: u64::from_ne_bytes(bytes[16..24].try_into().expect("eight bytes")),
        number: number(24)?,
        data,
    })
}
