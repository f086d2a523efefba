//! What the outbox's hand-over is made of: the standard library's atomics and mutex, and crossbeam's channel. For
//! `make model` they are exchanged for ones whose every interleaving loom explores. Imports nothing of ours.

#[cfg(all(test, loom))]
mod modelled;

#[cfg(not(all(test, loom)))]
pub use crossbeam_channel::{Receiver, Sender, bounded};
#[cfg(not(all(test, loom)))]
pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
#[cfg(not(all(test, loom)))]
pub use std::sync::{Mutex, MutexGuard};

#[cfg(all(test, loom))]
pub use loom::sync::atomic::fence;
#[cfg(all(test, loom))]
pub use modelled::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Receiver, Sender, bounded};
