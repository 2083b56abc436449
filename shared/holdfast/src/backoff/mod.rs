//! # Backoff: how long to wait before the next try
//!
//! **Problem.** A broker restarts. Forty consumers lost their connection in the same millisecond, so they all reconnect
//! in the same millisecond, and again one second later, and again two seconds later: each wave knocks the broker over
//! before it is up. Doubling the delay does not help, because it keeps the wave together.
//!
//! **Guarantee.** The delay before try `n` is drawn evenly from zero to `min(cap, base * 2^n)`: *full jitter*. The waves
//! spread out, and no wait exceeds the cap.
//!
//! **Not guaranteed.** That there is an end: that is [`retry`](crate::retry)'s question. A lower bound: the draw may be
//! zero. Where a server said when to come back, obey it instead.
//!
//! **States.** None. [`Backoff`] is a rule; [`Delays`] counts the tries for those who do not.
//!
//! **Failure modes.** A `base` of zero would spin, a cap below the base would be a surprise: both are refused by
//! [`Backoff::new`].
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
//! **Copying this.** This file, and the crates `fastrand`, `thiserror` and `tokio` (`time`). The crates people take
//! otherwise are `backon` and `backoff`; both also decide whether to retry, which is kept apart here.
//!
//! Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// Exponential backoff with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

/// The bounds make no sense. Fix the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBackoff {
    /// A base of zero never grows.
    #[error("the base of a backoff must be more than zero")]
    ZeroBase,
    /// The cap is the upper bound of every delay, so it cannot be below the first one's.
    #[error("the cap of a backoff ({cap:?}) must not be below its base ({base:?})")]
    CapBelowBase {
        /// The base that was given.
        base: Duration,
        /// The cap that was given.
        cap: Duration,
    },
}

impl Backoff {
    /// A rule whose first delay is at most `base` and whose every delay is at most `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Result<Self, InvalidBackoff> {
        if base.is_zero() {
            return Err(InvalidBackoff::ZeroBase);
        }
        if cap.as_nanos() < base.as_nanos() {
            return Err(InvalidBackoff::CapBelowBase { base, cap });
        }
        Ok(Self { base, cap })
    }

    /// For reconnecting to a server: up to 200 ms at first, never more than 5 s.
    pub const RECONNECT: Self = Self {
        base: Duration::from_millis(200),
        cap: Duration::from_secs(5),
    };

    /// For running a transaction again that lost a race: up to 5 ms at first, never more than 250 ms.
    pub const CONFLICT: Self = Self {
        base: Duration::from_millis(5),
        cap: Duration::from_millis(250),
    };

    /// The most that [`Self::delay`] can answer after `failures` failed tries.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// A delay after `failures` failed tries: evenly from zero to [`Self::ceiling`].
    pub fn delay(&self, failures: u32) -> Duration {
        self.ceiling(failures).mul_f64(fastrand::f64())
    }

    /// Waits for [`Self::delay`]. Cancel safe: nothing is kept.
    pub async fn wait(&self, failures: u32) {
        pause(self.delay(failures)).await;
    }

    /// Counts the failures for the caller.
    pub const fn delays(self) -> Delays {
        Delays {
            backoff: self,
            failures: 0,
        }
    }
}

/// A [`Backoff`] that counts.
#[derive(Clone, Debug)]
pub struct Delays {
    backoff: Backoff,
    /// Failures since the last success.
    failures: u32,
}

impl Delays {
    /// Counts one more failure and waits. Cancel safe: a wait that is dropped has counted.
    pub async fn wait(&mut self) {
        let failures = self.failures;
        self.failures = self.failures.saturating_add(1);
        self.backoff.wait(failures).await;
    }

    /// It worked: the next failure is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Waits for `delay`. The one place where the project sleeps: to pace, never to wait for something to have happened.
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
    fn nonsense_is_refused() {
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
            // Full jitter: the lower half is used as much as the upper. 1000 draws miss this with odds of 1e-9.
            let low = delays.iter().filter(|delay| **delay < ceiling / 2).count();
            assert!(
                (400..=600).contains(&low),
                "failures {failures}: {low} of 1000 in the lower half"
            );
        }
    }
}
