//! Backoff: the wait before the next attempt.
//!
//! # Problem
//!
//! A broker restarts. Forty consumers lost their connection in the same millisecond, so they all reconnect in the same
//! millisecond, and again one second later, and again two seconds later: each wave knocks the broker over before it is
//! up. Doubling the delay does not help, because it keeps the wave together.
//!
//! # Guarantee
//!
//! The delay before attempt `n` is drawn evenly from zero to `min(cap, base * 2^n)`: *full jitter*. The waves spread
//! out, and no wait exceeds the cap.
//!
//! # Not guaranteed
//!
//! An end: [`retry`](crate::retry) decides that. A lower bound: the draw may be zero. If a server said when to try
//! again, obey that instead.
//!
//! # States
//!
//! None. [`Backoff`] is a rule; [`Delays`] counts the failures for callers that do not.
//!
//! # Failure modes
//!
//! A `base` of zero would never wait, and a cap below the base would contradict it: [`Backoff::new`] refuses both.
//!
//! ```
//! use std::time::Duration;
//! use holdfast::backoff::Backoff;
//!
//! let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5))?;
//! assert_eq!(backoff.ceiling(0), Duration::from_millis(100));
//! assert_eq!(backoff.ceiling(3), Duration::from_millis(800));
//! assert_eq!(backoff.ceiling(40), Duration::from_secs(5));
//! assert!(backoff.delay(3) <= Duration::from_millis(800));
//! # Ok::<(), holdfast::backoff::InvalidBackoff>(())
//! ```
//!
//! # Copying this
//!
//! This file, and the crates `fastrand`, `thiserror` and `tokio` (`time`). Alternatives: `backon` and `backoff`; both
//! also decide whether to retry, which is kept apart here.
//!
//! Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// Exponential backoff with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

/// The bounds are not valid. Fix the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBackoff {
    /// The base is zero, and would never grow.
    #[error("the base of a backoff must be more than zero")]
    ZeroBase,
    /// The cap is below the base. It is the upper bound of every delay, the first one included.
    #[error("the cap of a backoff ({cap:?}) must not be below its base ({base:?})")]
    CapBelowBase {
        /// The rejected base.
        base: Duration,
        /// The rejected cap.
        cap: Duration,
    },
}

impl Backoff {
    /// Returns a rule whose first delay is at most `base` and whose every delay is at most `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Result<Self, InvalidBackoff> {
        if base.is_zero() {
            return Err(InvalidBackoff::ZeroBase);
        }
        if cap.as_nanos() < base.as_nanos() {
            return Err(InvalidBackoff::CapBelowBase { base, cap });
        }
        Ok(Self { base, cap })
    }

    /// The rule for reconnecting to a server: up to 200 ms at first, never more than 5 s.
    pub const RECONNECT: Self = Self {
        base: Duration::from_millis(200),
        cap: Duration::from_secs(5),
    };

    /// The rule for repeating a transaction that lost a race: up to 5 ms at first, never more than 250 ms.
    pub const CONFLICT: Self = Self {
        base: Duration::from_millis(5),
        cap: Duration::from_millis(250),
    };

    /// Returns the longest possible [`Self::delay`] after `failures` failed attempts.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// Returns a delay after `failures` failed attempts, drawn evenly from zero to [`Self::ceiling`].
    pub fn delay(&self, failures: u32) -> Duration {
        self.ceiling(failures).mul_f64(fastrand::f64())
    }

    /// Waits for [`Self::delay`]. Cancel safe: it keeps no state.
    pub async fn wait(&self, failures: u32) {
        pause(self.delay(failures)).await;
    }

    /// Returns a counter of failures that waits by this rule.
    pub const fn delays(self) -> Delays {
        Delays {
            backoff: self,
            failures: 0,
        }
    }
}

/// A [`Backoff`] that counts the failures.
#[derive(Clone, Debug)]
pub struct Delays {
    backoff: Backoff,
    /// The number of failures since the last success.
    failures: u32,
}

impl Delays {
    /// Counts one more failure, and waits. Cancel safe: a wait that is dropped has counted.
    pub async fn wait(&mut self) {
        let failures = self.failures;
        self.failures = self.failures.saturating_add(1);
        self.backoff.wait(failures).await;
    }

    /// Records a success: the next failure is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the number of failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Waits for `delay`. The only place where the project sleeps: to pace itself, never to wait for an event. Cancel safe.
#[expect(
    clippy::disallowed_methods,
    reason = "pacing is what this module is for"
)]
pub async fn pause(delay: Duration) {
    tokio::time::sleep(delay).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_bounds_are_refused() {
        let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
        assert_eq!(Backoff::new(zero, second), Err(InvalidBackoff::ZeroBase));
        assert!(matches!(
            Backoff::new(second * 2, second),
            Err(InvalidBackoff::CapBelowBase { .. })
        ));
    }

    #[test]
    fn delays_fill_the_range_and_stay_in_it() {
        let backoff =
            Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).expect("valid");
        for failures in [0, 1, 3, 4, 31, 32, u32::MAX] {
            let ceiling = backoff.ceiling(failures);
            let delays: Vec<_> = (0..1000).map(|_| backoff.delay(failures)).collect();
            assert!(
                delays.iter().all(|delay| *delay <= ceiling),
                "failures {failures}"
            );
            // Full jitter draws from the lower half as often as from the upper. 1000 draws miss this with odds of 1e-9.
            let low = delays.iter().filter(|delay| **delay < ceiling / 2).count();
            assert!(
                (400..=600).contains(&low),
                "failures {failures}: {low} of 1000 in the lower half"
            );
        }
    }
}
