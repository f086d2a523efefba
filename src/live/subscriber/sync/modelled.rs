//! Atomics, the mutex and the channel for loom. They promise no more than what the real ones do.
//!
//! Atomics are loom's with a turn before each access. loom 0.7 remembers only the last access of an atomic when it looks
//! for what else could have happened, and takes two loads for exchangeable; so a load that comes before a thread's own
//! store hides another thread's load from that store, and interleavings are left out (tokio-rs/loom#166, #392). Taking a
//! turn is a change, of which loom leaves none out, and which orders no memory.
//!
//! loom's own mutex is not used, because each of its steps acts as a `SeqCst` fence, which would hide that the code has
//! lost one of its own. For the mutex and the channel here:
//!
//! - Each step is one access of one loom atomic, so loom sees every conflict; the values themselves lie in a mutex of
//!   the standard library, which is never waited for, because loom changes threads at its own accesses only.
//! - A try of the lock may read a stale "held", as a failed compare-and-exchange may.
//! - Sending releases and receiving acquires, and nothing else; the length is a load that may be stale.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{self, Arc, LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

use loom::sync::atomic::{self, Ordering};
use loom::thread::yield_now;

macro_rules! atomic {
    ($name:ident, $value:ty $(, $add:ident, $sub:ident)?) => {
        /// Stands for the one of the standard library.
        #[derive(Debug)]
        pub struct $name {
            turn: atomic::AtomicBool,
            value: atomic::$name,
        }

        #[allow(dead_code, reason = "not every kind needs every access")]
        impl $name {
            pub fn new(value: $value) -> Self {
                Self { turn: atomic::AtomicBool::new(false), value: atomic::$name::new(value) }
            }

            pub fn load(&self, order: Ordering) -> $value {
                self.turn.swap(false, Ordering::Relaxed);
                self.value.load(order)
            }

            /// The turn stands for the change: between the two nobody else comes.
            fn change<R>(&self, change: impl FnOnce(&atomic::$name) -> R) -> R {
                self.turn.swap(false, Ordering::Relaxed);
                loom::stop_exploring();
                let result = change(&self.value);
                loom::explore();
                result
            }

            pub fn store(&self, value: $value, order: Ordering) {
                self.change(|atomic| atomic.store(value, order));
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.change(|atomic| atomic.swap(value, order))
            }

            fn exchange(&self, from: $value, to: $value) -> bool {
                self.change(|atomic| atomic.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok())
            }

            $(pub fn $add(&self, value: $value, order: Ordering) -> $value {
                self.change(|atomic| atomic.$add(value, order))
            }

            pub fn $sub(&self, value: $value, order: Ordering) -> $value {
                self.change(|atomic| atomic.$sub(value, order))
            })?
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicUsize, usize, fetch_add, fetch_sub);
atomic!(AtomicU64, u64, fetch_add, fetch_sub);

/// Stands for `std::sync::Mutex`.
#[derive(Debug)]
pub struct Mutex<T> {
    held: AtomicBool,
    value: sync::Mutex<T>,
}

/// Stands for `std::sync::MutexGuard`.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    held: &'a AtomicBool,
    value: Option<sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: sync::Mutex::new(value) }
    }

    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if self.held.load(Ordering::Relaxed) {
            return Err(TryLockError::WouldBlock);
        }
        self.try_now().ok_or(TryLockError::WouldBlock)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the real one may be poisoned")]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        loop {
            if let Some(frame_check) = self.try_now() {
                return Ok(frame_check);
            }
            yield_now();
        }
    }

    fn try_now(&self) -> Option<MutexGuard<'_, T>> {
        if !self.held.exchange(false, true) {
            return None;
        }
        let value = self.value.try_lock().expect("the flag says that it is free");
        Some(MutexGuard { held: &self.held, value: Some(value) })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until the drop")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until the drop")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        // A model that has failed is torn down outside of loom.
        if !std::thread::panicking() {
            self.held.store(false, Ordering::Release);
        }
    }
}

#[derive(Debug)]
struct Queue<T> {
    /// Counts sends and receives: the one thing that loom sees.
    steps: AtomicUsize,
    capacity: usize,
    inner: sync::Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    values: VecDeque<T>,
    /// The length after so many steps.
    lengths: Vec<usize>,
}

/// Stands for `crossbeam_channel::Sender`.
#[derive(Debug)]
pub struct Sender<T>(Arc<Queue<T>>);

/// Stands for `crossbeam_channel::Receiver`.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Queue<T>>);

pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let inner = sync::Mutex::new(Inner { values: VecDeque::new(), lengths: vec![0] });
    let queue = Arc::new(Queue { steps: AtomicUsize::new(0), capacity, inner });
    (Sender(queue.clone()), Receiver(queue))
}

impl<T> Queue<T> {
    /// One step: what `change` does, and that it is done.
    fn step<R>(&self, order: Ordering, change: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        self.steps.fetch_add(1, order);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut inner.values);
        let length = inner.values.len();
        inner.lengths.push(length);
        result
    }
}

impl<T> Sender<T> {
    pub fn try_send(&self, value: T) -> Result<(), T> {
        self.0.step(Ordering::Release, |values| {
            if values.len() == self.0.capacity {
                return Err(value);
            }
            values.push_back(value);
            Ok(())
        })
    }

    /// Waits for room for ever: a model in which the deadline would pass does not end.
    pub fn send_timeout(&self, mut value: T, _: Duration) -> Result<(), T> {
        loop {
            match self.try_send(value) {
                Ok(()) => return Ok(()),
                Err(again) => value = again,
            }
            yield_now();
        }
    }
}

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Result<T, ()> {
        self.0.step(Ordering::Acquire, VecDeque::pop_front).ok_or(())
    }

    pub fn len(&self) -> usize {
        let steps = self.0.steps.load(Ordering::Relaxed);
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner).lengths[steps]
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
