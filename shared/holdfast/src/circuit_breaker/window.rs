//! The latest results, and the share of bad ones among them.

use std::time::Duration;

use tokio::time::Instant;

use super::config;

/// The number of parts of a window of time. Polly has ten as well; resilience4j has one for each second.
const PARTS: u32 = 10;

/// The counts of some results. One call can be both failed and slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
}

impl Tally {
    pub(super) fn one(failed: bool, slow: bool) -> Self {
        Self {
            calls: 1,
            failed: failed.into(),
            slow: slow.into(),
        }
    }

    pub(super) fn failure_rate(self) -> f64 {
        share(self.failed, self.calls)
    }

    pub(super) fn slow_call_rate(self) -> f64 {
        share(self.slow, self.calls)
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.slow += other.slow;
    }

    fn remove(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failed -= other.failed;
        self.slow -= other.slow;
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "no window holds 2^52 calls, and a share needs no more digits"
)]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / (whole.max(1)) as f64
}

/// The latest results. All of its memory is allocated when it is made.
#[derive(Debug)]
pub(super) enum Window {
    Count {
        /// The largest number of results that it keeps.
        size: usize,
        /// The last results, at most `size`: failed, slow.
        latest: Vec<(bool, bool)>,
        /// The index of the oldest result, once there are `size`.
        oldest: usize,
        /// The sum over `latest`, always.
        sum: Tally,
    },
    Time {
        begun: Instant,
        /// The duration of one part.
        part: Duration,
        /// The results of part `n` since `begun` are at index `n % PARTS`, together with `n`, until a later part needs
        /// the index.
        parts: Box<[(u64, Tally)]>,
    },
}

impl Window {
    pub(super) fn new(window: config::Window, now: Instant) -> Self {
        match window {
            config::Window::Count(calls) => Self::Count {
                size: calls as usize,
                latest: Vec::with_capacity(calls as usize),
                oldest: 0,
                sum: Tally::default(),
            },
            config::Window::Time(span) => Self::Time {
                begun: now,
                part: span / PARTS,
                parts: vec![Default::default(); PARTS as usize].into(),
            },
        }
    }

    /// Adds a result, and returns the sum of the window with it. Reads the clock only if it needs to.
    pub(super) fn record(
        &mut self,
        failed: bool,
        slow: bool,
        now: impl FnOnce() -> Instant,
    ) -> Tally {
        match self {
            Self::Count {
                size,
                latest,
                oldest,
                sum,
            } => {
                sum.add(Tally::one(failed, slow));
                if latest.len() < *size {
                    latest.push((failed, slow));
                } else {
                    let (failed, slow) = std::mem::replace(&mut latest[*oldest], (failed, slow));
                    sum.remove(Tally::one(failed, slow));
                    *oldest = (*oldest + 1) % *size;
                }
                *sum
            }
            Self::Time { begun, part, parts } => {
                let now = now();
                let current = number(*begun, *part, now);
                let (number, tally) = &mut parts[place(current)];
                // If two threads read the clock and then took the lock the other way round, this result is added to the
                // newer part.
                if *number < current {
                    (*number, *tally) = (current, Tally::default());
                }
                tally.add(Tally::one(failed, slow));
                self.tally(now)
            }
        }
    }

    /// Returns the sum of the window.
    pub(super) fn tally(&self, now: Instant) -> Tally {
        match self {
            Self::Count { sum, .. } => *sum,
            Self::Time { begun, part, parts } => {
                let current = number(*begun, *part, now);
                let mut sum = Tally::default();
                for (number, tally) in parts {
                    if number + u64::from(PARTS) > current {
                        sum.add(*tally);
                    }
                }
                sum
            }
        }
    }
}

/// Returns the number of the part that contains `now`.
fn number(begun: Instant, part: Duration, now: Instant) -> u64 {
    let elapsed = now.saturating_duration_since(begun).as_nanos();
    // A part is at least a millisecond, so the numbers suffice for half a billion years.
    u64::try_from(elapsed / part.as_nanos()).expect("fewer parts than that")
}

fn place(number: u64) -> usize {
    usize::try_from(number % u64::from(PARTS)).expect("below ten")
}
