//! The limit of the disk: writes of as many bytes as SQLite's log gets for an order, each with `fdatasync`, without a
//! server.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;

/// Bytes before the first frame of SQLite's log.
const LOG_HEAD: u64 = 32;
/// Bytes of a frame, its head and a page. An order that is committed alone writes one, as strace shows: the last page of
/// the order log. It reaches into two pages of the file, which is what the disk gets.
const FRAME: usize = 24 + 4096;
/// Frames after which SQLite copies its log into the data file and writes it again from its beginning.
const LOG_FRAMES: usize = 1_000;
/// How long writes go on before they count.
const WARM_UP: Duration = Duration::from_millis(100);

/// Times of a write with its `fdatasync`.
pub struct BareSyncs {
    /// At the end of a file, which grows.
    pub append: Histogram,
    /// From the beginning of a file again and again, as SQLite does after its log was copied.
    pub write_over: Histogram,
}

/// Measures both one after the other, each for this time, in files that are removed again.
pub fn measure(folder: &Path, measured: Duration) -> io::Result<BareSyncs> {
    let path = folder.join("bare-syncs");
    let result = (|| {
        let append = write(&File::create(&path)?, u64::MAX, measured)?;
        let file = File::create(&path)?;
        file.write_all_at(&vec![1; LOG_HEAD as usize + LOG_FRAMES * FRAME], 0)?;
        file.sync_all()?;
        Ok(BareSyncs { append, write_over: write(&file, LOG_FRAMES as u64, measured)? })
    })();
    let removed = fs::remove_file(&path);
    result.and_then(|syncs| removed.map(|()| syncs))
}

/// Writes of an order, one behind the other; after each `orders` of them from the beginning again.
fn write(file: &File, orders: u64, measured: Duration) -> io::Result<Histogram> {
    let mut bytes = [0; FRAME];
    let (began, mut times) = (Instant::now(), Histogram::default());
    for number in 0_u64.. {
        let start = Instant::now();
        if start - began >= WARM_UP + measured {
            break;
        }
        bytes[..8].copy_from_slice(&number.to_ne_bytes());
        file.write_all_at(&bytes, LOG_HEAD + number % orders * bytes.len() as u64)?;
        file.sync_data()?;
        if start - began >= WARM_UP {
            times.record(start.elapsed().as_nanos() as u64);
        }
    }
    Ok(times)
}
