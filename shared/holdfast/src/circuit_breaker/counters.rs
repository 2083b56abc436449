//! Counters of calls, spread so that threads seldom share a cache line.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::event::Calls;

/// The number of threads that count without sharing. Further threads share.
const STRIPES: usize = 8;

/// The outcome of a call, as a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
    Slow,
    Ignored,
    Cancelled,
    Rejected,
}

impl Outcome {
    pub(super) const ALL: [Self; 6] = [
        Self::Succeeded,
        Self::Failed,
        Self::Slow,
        Self::Ignored,
        Self::Cancelled,
        Self::Rejected,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Slow => "slow",
            Self::Ignored => "ignored",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

/// The counts of one stripe, by outcome. Two cache lines apart, because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; Outcome::ALL.len()]);

#[derive(Debug, Default)]
pub(super) struct Counters([Stripe; STRIPES]);

impl Counters {
    #[inline]
    pub(super) fn count(&self, outcome: Outcome) {
        let Stripe(counts) = &self.0[stripe() % STRIPES];
        counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the sums over all threads. Each is exact for calls that ended before; together they are no snapshot of
    /// one moment.
    pub(super) fn sum(&self) -> Calls {
        let sum = |outcome: Outcome| {
            let of = |Stripe(counts): &Stripe| counts[outcome as usize].load(Ordering::Relaxed);
            self.0.iter().map(of).sum()
        };
        Calls {
            succeeded: sum(Outcome::Succeeded),
            failed: sum(Outcome::Failed),
            slow: sum(Outcome::Slow),
            ignored: sum(Outcome::Ignored),
            cancelled: sum(Outcome::Cancelled),
            rejected: sum(Outcome::Rejected),
        }
    }
}

impl Calls {
    pub(super) fn of(self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Succeeded => self.succeeded,
            Outcome::Failed => self.failed,
            Outcome::Slow => self.slow,
            Outcome::Ignored => self.ignored,
            Outcome::Cancelled => self.cancelled,
            Outcome::Rejected => self.rejected,
        }
    }
}

/// Returns this thread's number. Threads are numbered from 0, in the sequence of their first calls.
#[inline]
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A thread that is being torn down may still end a call, when its number is gone.
    MINE.try_with(|mine| *mine).unwrap_or(0)
}
