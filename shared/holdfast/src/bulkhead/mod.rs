//! Bulkhead: one slow dependency takes its own places, and no others.
//!
//! # Problem
//!
//! The card processor answers in 30 s instead of 50 ms. Every request that needs it waits, and each holds a task, a
//! connection and a place in the server's queue. Soon these requests hold all of them, and customers who only want to
//! look at their orders wait as well: the whole shop is as slow as the slowest company behind it.
//!
//! # Guarantee
//!
//! At most [`Limits::max_concurrent`] calls run at a time; at most [`Limits::max_waiting`] more wait for a place, first
//! come first served, and none longer than [`Limits::max_wait`]. Every other call is rejected at once, by an error of
//! its own ([`Full`]), and never reaches the dependency. A place is freed when its [`Place`] is dropped: after the call
//! returned, in a panic, or because the caller was cancelled.
//!
//! # Not guaranteed
//!
//! That the dependency works on no more calls than that: it may still be working on a call that was dropped here, and
//! other processes have bulkheads of their own. That the calls end: bound them by a
//! [`Deadline`](https://sre.google/sre-book/addressing-cascading-failures/), or the places are never freed.
//!
//! # States
//!
//! Free places; waiting calls, first come first served; and a switch ([`Bulkhead::set_enabled`]).
//!
//! # Failure modes
//!
//! If it is too small, it rejects calls that the dependency could have served: `bulkhead_rejected_total` grows while
//! the dependency is fast. If it is too large, it protects nothing. Little's law gives the size: calls per second,
//! times the seconds that a call takes on a good day, times two or three.
//!
//! ```
//! use std::time::Duration;
//! use holdfast::bulkhead::{Bulkhead, Limits, Reason};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let limits = Limits { max_concurrent: 1, max_waiting: 1, max_wait: Duration::from_millis(50) };
//! let cards = Bulkhead::new("card-processor", limits).unwrap();
//!
//! let place = cards.acquire().await.unwrap();
//! let full = cards.acquire().await.unwrap_err(); // waits for 50 ms
//! assert_eq!(full.reason, Reason::Wait);
//!
//! drop(place);
//! assert!(cards.try_acquire().is_ok());
//! # }
//! ```
//!
//! # Copying this
//!
//! This folder, and the crates `metrics`, `thiserror` and `tokio` (`time`); for its tests `loom` and `tokio` (`macros`,
//! `rt`, `test-util`). `places.rs` counts the places; this file has the limits, the names and the metrics.
//! Alternatives: `tower::limit::ConcurrencyLimit` with `tower::load_shed` (the wait is not bounded), or
//! `tokio::sync::Semaphore`, which locks for each place that is freed, so that two cores that do so at once wait for
//! each other.
//!
//! Sources: Nygard, "Release It!", 2nd edition, chapter 5, "Bulkheads"; the documentation of resilience4j (`Bulkhead`)
//! and of Polly (`ConcurrencyLimiter`); Little, "A Proof for the Queuing Formula: L = λW" (1961).

mod places;

/// The types that `places` is built on. Its test with loom puts loom's in their place.
mod sync {
    pub(super) use std::sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    };

    /// Returns this thread's number. Threads are numbered from 0, in the sequence of their first calls.
    #[inline]
    pub(super) fn thread_number() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        // A thread that is being torn down has no number any more.
        MINE.try_with(|mine| *mine).unwrap_or(0)
    }
}

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, counter, gauge};
use places::{NoRoom, Places, Taken};

/// The numbers of calls that may run and wait, and the time for which they may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The calls that may run at a time: from 1 to 100 000.
    pub max_concurrent: usize,
    /// The calls that may wait for a place, in addition: from 0 (none) to 1 000 000.
    pub max_waiting: usize,
    /// The longest wait: from 0 to an hour.
    pub max_wait: Duration,
}

/// A limit is out of its range. Fix the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLimits {
    /// The number of running calls is zero, or too large to limit anything.
    #[error("max_concurrent of a bulkhead must be from 1 to 100000, not {0}")]
    MaxConcurrent(usize),
    /// The number of waiting calls is too large for a queue.
    #[error("max_waiting of a bulkhead must be from 0 to 1000000, not {0}")]
    MaxWaiting(usize),
    /// The wait is too long for any caller.
    #[error("max_wait of a bulkhead must be from 0 to 3600 s, not {} s", .0.as_secs())]
    MaxWait(Duration),
}

/// All places are taken. The call was not made.
///
/// Another attempt at once would add load: respond without the dependency, or tell the client when to try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bulkhead of {name} is full: {reason}")]
pub struct Full {
    /// The bulkhead's name, which is the dependency's.
    pub name: Arc<str>,
    /// The limit that the call met.
    pub reason: Reason,
}

/// The limit that a call met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// As many calls as permitted wait already.
    Queue,
    /// The call waited for as long as permitted.
    Wait,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Queue => "too many calls wait already",
            Self::Wait => "no place became free in time",
        })
    }
}

/// The places of one dependency. Clones share them.
#[derive(Clone, Debug)]
pub struct Bulkhead(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    limits: Limits,
    places: Places,
    /// False while switched off: every call is admitted, and none is counted.
    enabled: AtomicBool,
    metrics: Metrics,
}

struct Metrics {
    rejected_queue: Counter,
    rejected_wait: Counter,
    in_use: Gauge,
    waiting: Gauge,
}

/// The state of a bulkhead at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The calls that run.
    pub in_use: usize,
    /// The calls that wait for a place.
    pub waiting: usize,
    /// The limits that the bulkhead was made with.
    pub limits: Limits,
    /// False while the bulkhead is switched off.
    pub enabled: bool,
}

/// A place in a bulkhead, freed when this is dropped.
#[derive(Debug)]
#[must_use = "the place is freed when this is dropped"]
pub struct Place<'a>(#[expect(dead_code, reason = "held for its drop")] Option<Taken<'a>>);

impl Bulkhead {
    /// Returns a bulkhead for the dependency `name`, which is a label of its metrics.
    pub fn new(name: impl Into<Arc<str>>, limits: Limits) -> Result<Self, InvalidLimits> {
        if !(1..=100_000).contains(&limits.max_concurrent) {
            return Err(InvalidLimits::MaxConcurrent(limits.max_concurrent));
        }
        if limits.max_waiting > 1_000_000 {
            return Err(InvalidLimits::MaxWaiting(limits.max_waiting));
        }
        if limits.max_wait > Duration::from_secs(3600) {
            return Err(InvalidLimits::MaxWait(limits.max_wait));
        }
        let name = name.into();
        let metrics = Metrics::new(&name);
        Ok(Self(Arc::new(Inner {
            name,
            limits,
            places: Places::new(limits.max_concurrent),
            enabled: AtomicBool::new(true),
            metrics,
        })))
    }

    /// Returns the dependency's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Takes a place if one is free; never waits.
    pub fn try_acquire(&self) -> Result<Place<'_>, Full> {
        match self.free_place() {
            Some(place) => Ok(place),
            None => Err(self.full(Reason::Queue)),
        }
    }

    /// Takes a place; waits for one if the limits permit.
    ///
    /// Cancel safe: a caller that is dropped leaves the queue.
    pub async fn acquire(&self) -> Result<Place<'_>, Full> {
        self.acquire_within(|| self.0.limits.max_wait).await
    }

    /// Takes a place as [`Self::acquire`] does, but waits no longer than the caller's `time`. `time` is called only if
    /// no place is free, because it may read the clock. Cancel safe.
    pub async fn acquire_within(&self, time: impl FnOnce() -> Duration) -> Result<Place<'_>, Full> {
        if let Some(place) = self.free_place() {
            return Ok(place);
        }
        let Limits {
            max_waiting,
            max_wait,
            ..
        } = self.0.limits;
        if max_waiting == 0 {
            return Err(self.full(Reason::Queue));
        }
        let wait = self.0.places.wait(max_waiting);
        match tokio::time::timeout(time().min(max_wait), wait).await {
            Ok(Ok(taken)) => Ok(Place(Some(taken))),
            Ok(Err(NoRoom)) => Err(self.full(Reason::Queue)),
            Err(_) => Err(self.full(Reason::Wait)),
        }
    }

    /// Switches the bulkhead off, so that every call is admitted, or on again. Calls that wait keep waiting.
    ///
    /// For drills, and for the hour in which its limits turn out to be wrong.
    pub fn set_enabled(&self, enabled: bool) {
        self.0.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Returns the current counts, the limits and the switch.
    pub fn snapshot(&self) -> Snapshot {
        let (free, waiting) = self.0.places.free_and_waiting();
        Snapshot {
            in_use: self.0.limits.max_concurrent.saturating_sub(free),
            waiting,
            limits: self.0.limits,
            enabled: self.0.enabled.load(Ordering::Relaxed),
        }
    }

    /// Sets the gauges `bulkhead_in_use` and `bulkhead_waiting`. Call it about once a second.
    pub fn publish(&self) {
        let now = self.snapshot();
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let (in_use, waiting) = (now.in_use as f64, now.waiting as f64);
        self.0.metrics.in_use.set(in_use);
        self.0.metrics.waiting.set(waiting);
    }

    /// Takes a free place, as nearly every call does: no wait, no queue, no clock.
    fn free_place(&self) -> Option<Place<'_>> {
        if !self.0.enabled.load(Ordering::Relaxed) {
            return Some(Place(None));
        }
        self.0.places.try_take().map(|taken| Place(Some(taken)))
    }

    #[cold]
    fn full(&self, reason: Reason) -> Full {
        match reason {
            Reason::Queue => self.0.metrics.rejected_queue.increment(1),
            Reason::Wait => self.0.metrics.rejected_wait.increment(1),
        }
        Full {
            name: Arc::clone(&self.0.name),
            reason,
        }
    }
}

impl Metrics {
    fn new(name: &Arc<str>) -> Self {
        let label = || Arc::clone(name);
        Self {
            rejected_queue: counter!("bulkhead_rejected_total", "name" => label(), "reason" => "queue"),
            rejected_wait: counter!("bulkhead_rejected_total", "name" => label(), "reason" => "wait"),
            in_use: gauge!("bulkhead_in_use", "name" => label()),
            waiting: gauge!("bulkhead_waiting", "name" => label()),
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bulkhead")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
