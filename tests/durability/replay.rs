//! What a power cut at any point of a trace may leave on the disk.
//!
//! The replay assumes only what a sync guarantees. Synced data is there. Every other sector has any version since the
//! last sync, or the synced one; a file has any size since then; bytes that were never written are zeros or garbage; a
//! file name is as at the last sync of the folder, or as at any time since. Sectors that a failed sync covered count as
//! clean in the page cache: later syncs do not write them until they are written again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use crate::common::Random;
use crate::common::disk::{FOLDER, SHARED_MEMORY};
use crate::trace::{Kind, Record};

const SECTOR: usize = 512;

/// Which of the unsynced writes are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Each with this probability in percent, in any order.
    Subset(u64),
    /// All up to a point, and none after it, across all files.
    InOrder,
}

impl Loss {
    /// Each kind in turn.
    pub fn of(turn: usize) -> Loss {
        use Loss::{InOrder, Subset};
        [InOrder, Subset(100), Subset(0), Subset(50), InOrder, Subset(90), Subset(98), Subset(20)][turn % 8]
    }
}

/// The files of a disk, by name.
pub type Image = Vec<(String, Vec<u8>)>;

/// Unsynced changes, each with the moment of the change.
type Since<T> = Vec<(u64, T)>;

#[derive(Clone, Debug, Default)]
struct Sector {
    /// `None`: never written, or truncated since.
    durable: Option<[u8; SECTOR]>,
    since: Since<[u8; SECTOR]>,
    /// The number of changes in `since` that a failed sync has covered.
    covered: usize,
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// The content in the page cache.
    cache: Vec<u8>,
    sectors: BTreeMap<usize, Sector>,
    /// The indexes of sectors with unsynced changes.
    unsynced: BTreeSet<usize>,
    durable_size: usize,
    sizes: Since<usize>,
}

impl Content {
    fn write(&mut self, now: u64, offset: usize, data: &[u8], kept: bool) {
        let end = offset + data.len();
        let mut cache = if kept { std::mem::take(&mut self.cache) } else { self.cache.clone() };
        if end > cache.len() {
            cache.resize(end, 0);
            self.sizes.push((now, end));
        }
        cache[offset..end].copy_from_slice(data);
        for index in offset / SECTOR..end.div_ceil(SECTOR) {
            let mut bytes = [0; SECTOR];
            let there = &cache[index * SECTOR..cache.len().min((index + 1) * SECTOR)];
            bytes[..there.len()].copy_from_slice(there);
            self.sectors.entry(index).or_default().since.push((now, bytes));
            self.unsynced.insert(index);
        }
        if kept {
            self.cache = cache;
        }
    }

    fn resize(&mut self, now: u64, size: usize) {
        let before = self.cache.len();
        if size > before {
            // A hole reads as zeros.
            return self.write(now, before, &vec![0; size - before], true);
        }
        self.cache.truncate(size);
        self.sizes.push((now, size));
    }

    fn sync(&mut self) {
        let Content { sectors, unsynced, .. } = self;
        unsynced.retain(|index| {
            let sector = sectors.get_mut(index).expect("it was written");
            let stays = sector.since.len() == sector.covered;
            if !stays {
                sector.durable = sector.since.last().map(|(_, bytes)| *bytes);
                sector.since.clear();
                sector.covered = 0;
            }
            stays
        });
        self.durable_size = self.cache.len();
        self.sizes.clear();
        let end = self.durable_size.div_ceil(SECTOR);
        self.sectors.split_off(&end);
        self.unsynced.split_off(&end);
    }

    fn fail_to_sync(&mut self) {
        for index in &self.unsynced {
            let sector = self.sectors.get_mut(index).expect("it was written");
            sector.covered = sector.since.len();
        }
    }

    fn image(&self, random: &mut Random, loss: Loss, cut: u64) -> Vec<u8> {
        let any = matches!(loss, Loss::Subset(1..100)) && random.chance(50);
        let size = match loss {
            Loss::InOrder => until(&self.sizes, cut).copied().unwrap_or(self.durable_size),
            Loss::Subset(_) if any => {
                let turn = random.place(self.sizes.len() + 1);
                self.sizes.get(turn).map_or(self.durable_size, |(_, size)| *size)
            }
            Loss::Subset(_) => self.sizes.last().map_or(self.durable_size, |(_, size)| *size),
        };
        let mut image = vec![0; size];
        if random.chance(50) {
            image.chunks_mut(8).for_each(|eight| eight.copy_from_slice(&random.next().to_ne_bytes()[..eight.len()]));
        }
        for (index, sector) in &self.sectors {
            let lost = match loss {
                Loss::InOrder => until(&sector.since, cut),
                Loss::Subset(chance) if !sector.since.is_empty() && random.chance(chance) => {
                    Some(&random.pick(&sector.since).1)
                }
                Loss::Subset(_) => None,
            };
            let Some(bytes) = lost.or(sector.durable.as_ref()) else { continue };
            let start = index * SECTOR;
            let end = size.min(start + SECTOR);
            if start < end {
                image[start..end].copy_from_slice(&bytes[..end - start]);
            }
        }
        image
    }
}

/// The last change up to `cut`.
fn until<T>(since: &Since<T>, cut: u64) -> Option<&T> {
    since.iter().rev().find(|(at, _)| *at <= cut).map(|(_, it)| it)
}

#[derive(Clone, Debug, Default)]
struct Name {
    /// The index of the content at the last sync of the folder; `None` if there was no such file.
    durable: Option<usize>,
    since: Since<Option<usize>>,
}

impl Name {
    fn now(&self) -> Option<usize> {
        self.since.last().map_or(self.durable, |(_, content)| *content)
    }
}

/// The state of the disk at a point of the trace.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    names: BTreeMap<String, Name>,
    contents: Vec<Content>,
    /// Open descriptors: the index of the content, or `None` for the folder.
    open: HashMap<i32, Option<usize>>,
    /// Calls that have begun and not ended.
    calls: HashMap<u32, Record>,
    now: u64,
    last_number: u32,
    /// Files whose syncs this disk reports as done without doing them.
    lies_about: u32,
}

impl Replay {
    /// A disk that does not do the syncs of these files.
    pub fn of_a_liar(targets: u32) -> Replay {
        Replay { lies_about: targets, ..Replay::default() }
    }

    /// A disk with the files of this folder, all of them synced.
    pub fn of_folder(folder: &Path) -> Replay {
        let mut replay = Replay::default();
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let mut content = Content::default();
            content.write(0, 0, &fs::read(&path).expect("the file can be read"), true);
            content.sync();
            let name = Name { durable: Some(replay.contents.len()), since: Vec::new() };
            replay.names.insert(name_of(path.as_os_str().as_encoded_bytes()), name);
            replay.contents.push(content);
        }
        replay
    }

    /// Processes the next record.
    pub fn feed(&mut self, record: &Record) {
        // Shared memory is not on the disk.
        if record.target == SHARED_MEMORY {
            return;
        }
        self.now += 1;
        if record.kind == Kind::Done {
            let call = self.calls.remove(&record.number);
            return call.into_iter().for_each(|call| self.finish(&call, record.result));
        }
        // Another process has begun, whose calls are numbered from 1. Open calls of the one before may have been done
        // or not.
        if record.number < self.last_number {
            let calls: Vec<Record> = self.calls.drain().map(|(_, call)| call).collect();
            calls.iter().for_each(|call| self.leave_open(call));
            self.open.clear();
        }
        self.last_number = record.number;
        match record.kind {
            Kind::Close => drop(self.open.remove(&record.fd)),
            Kind::Send | Kind::Done => {}
            _ => drop(self.calls.insert(record.number, record.clone())),
        }
    }

    fn content(&mut self, fd: i32) -> &mut Content {
        let place = self.open[&fd].expect("a file and no folder");
        &mut self.contents[place]
    }

    fn finish(&mut self, call: &Record, result: i32) {
        let now = self.now;
        if result < 0 && call.kind != Kind::Sync {
            return;
        }
        match call.kind {
            Kind::Open if call.target == FOLDER => drop(self.open.insert(result, None)),
            Kind::Open => {
                const O_TRUNC: u64 = 0o1000;
                let name = self.names.entry(name_of(&call.data)).or_default();
                let place = name.now().unwrap_or_else(|| {
                    self.contents.push(Content::default());
                    name.since.push((now, Some(self.contents.len() - 1)));
                    self.contents.len() - 1
                });
                if call.offset & O_TRUNC != 0 {
                    self.contents[place].resize(now, 0);
                }
                self.open.insert(result, Some(place));
            }
            Kind::Write => {
                let written = &call.data[..result as usize];
                self.content(call.fd).write(now, call.offset as usize, written, true);
            }
            Kind::Truncate => self.content(call.fd).resize(now, call.offset as usize),
            Kind::Sync if call.target & self.lies_about != 0 => {}
            Kind::Sync => match self.open[&call.fd] {
                Some(place) if result == 0 => self.contents[place].sync(),
                Some(place) => self.contents[place].fail_to_sync(),
                None if result == 0 => {
                    for name in self.names.values_mut() {
                        name.durable = name.now();
                        name.since.clear();
                    }
                }
                None => {}
            },
            Kind::Unlink => self.names.entry(name_of(&call.data)).or_default().since.push((now, None)),
            Kind::Rename => panic!("the server does not rename files of the folder"),
            Kind::Send | Kind::Done | Kind::Close => {}
        }
    }

    /// A write that has begun may be on the disk; other calls that have begun change nothing.
    fn leave_open(&mut self, call: &Record) {
        if call.kind == Kind::Write {
            let now = self.now;
            self.content(call.fd).write(now, call.offset as usize, &call.data, false);
        }
    }

    /// A random image of the disk after a power cut here.
    pub fn image(&self, random: &mut Random, loss: Loss) -> Image {
        let mut replay = self.clone_if_calls_are_open();
        let replay = replay.as_mut().map_or(self, |it| it);
        let mut moments: Vec<u64> = Vec::new();
        for content in &replay.contents {
            moments.extend(content.sizes.iter().map(|(at, _)| *at));
            moments.extend(content.sectors.values().flat_map(|sector| sector.since.iter().map(|(at, _)| *at)));
        }
        moments.extend(replay.names.values().flat_map(|name| name.since.iter().map(|(at, _)| *at)));
        moments.sort_unstable();
        moments.dedup();
        // Before the first change, or right after any.
        let cut = random.place(moments.len() + 1).checked_sub(1).map_or(0, |place| moments[place]);
        let mut image = Image::new();
        for (name, its) in &replay.names {
            let place = match loss {
                Loss::InOrder => until(&its.since, cut).unwrap_or(&its.durable),
                Loss::Subset(chance) if !its.since.is_empty() && random.chance(chance) => &random.pick(&its.since).1,
                Loss::Subset(_) => &its.durable,
            };
            if let Some(place) = place {
                image.push((name.clone(), replay.contents[*place].image(random, loss, cut)));
            }
        }
        image
    }

    fn clone_if_calls_are_open(&self) -> Option<Replay> {
        let open: Vec<&Record> = self.calls.values().filter(|call| call.kind == Kind::Write).collect();
        (!open.is_empty()).then(|| {
            let mut replay = self.clone();
            open.iter().for_each(|call| replay.leave_open(call));
            replay
        })
    }
}

fn name_of(path: &[u8]) -> String {
    let path = Path::new(std::str::from_utf8(path).expect("the names are ASCII"));
    path.file_name().and_then(|name| name.to_str()).expect("a file's name").to_owned()
}
