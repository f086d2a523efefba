//! What is on disk after a restart, a kill, a power cut, a disk fault or a full disk.
//!
//! A test belongs here if it checks that an order that was answered is kept, or that one that was rejected is not.

#[path = "../common/mod.rs"]
mod common;

#[cfg(target_os = "linux")]
mod catalog_changes;
mod chaos;
mod crash;
mod data_check;
#[cfg(target_os = "linux")]
mod disk_faults;
mod displaced;
mod empty_file;
mod forbidden;
mod full_disk;
mod log_size;
mod no_room;
#[cfg(target_os = "linux")]
mod period_feeds;
mod periods;
mod persistence;
#[cfg(target_os = "linux")]
mod power_loss;
#[cfg(target_os = "linux")]
mod promises;
mod rates;
#[cfg(target_os = "linux")]
mod replay;
#[cfg(target_os = "linux")]
mod shop;
mod torture;
#[cfg(target_os = "linux")]
mod trace;
