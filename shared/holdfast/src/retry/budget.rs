//! The share of calls that may be retries.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The cost of one retry, in thousandths, so that a call can put in a part of one.
const RETRY: u64 = 1000;

/// A bucket of retries, shared by all calls to one dependency.
///
/// A call puts `ratio` of a token in, a retry takes one out, and the bucket holds at most `reserve` tokens, with which
/// it also starts. So a dependency that fails for every call gets `1 + ratio` calls for each, not `attempts` times as
/// many, while an occasional failure is always retried. The budget has no clock.
#[derive(Debug)]
pub struct Budget {
    /// The retries that are available, in thousandths; at most `most`.
    tokens: AtomicU64,
    most: u64,
    deposit: u64,
    /// False while switched off: every retry is granted.
    enabled: AtomicBool,
}

/// A bound is out of its range. Fix the configuration.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum InvalidBudget {
    /// The ratio is not from 0 to 1.
    #[error("the ratio of a retry budget must be from 0 to 1, not {0}")]
    Ratio(f64),
}

impl Budget {
    /// Returns a budget of `ratio` retries per call over time (0.2: one in five), with `reserve` retries available at
    /// the start.
    pub fn new(ratio: f64, reserve: u32) -> Result<Self, InvalidBudget> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(InvalidBudget::Ratio(ratio));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 1000"
        )]
        let deposit = (ratio * 1000.0) as u64;
        let most = u64::from(reserve) * RETRY;
        Ok(Self {
            tokens: AtomicU64::new(most),
            most,
            deposit,
            enabled: AtomicBool::new(true),
        })
    }

    /// Returns the number of retries that are available: from 0 to `reserve`.
    #[expect(clippy::cast_precision_loss, reason = "thousandths of at most 2^32")]
    pub fn available(&self) -> f64 {
        self.tokens.load(Ordering::Relaxed) as f64 / RETRY as f64
    }

    /// Switches the budget off, so that every retry is granted, or on again. For drills, which show the load without
    /// it.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Returns true while the budget is switched on.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Adds a call's share.
    pub(super) fn deposit(&self) {
        // While calls succeed the bucket is full, and no thread writes to memory that all of them read.
        if self.tokens.load(Ordering::Relaxed) >= self.most {
            return;
        }
        let add = |tokens: u64| Some((tokens + self.deposit).min(self.most));
        let _ = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes one retry out; returns false if there is none.
    pub(super) fn withdraw(&self) -> bool {
        if !self.is_enabled() {
            return true;
        }
        let take = |tokens: u64| tokens.checked_sub(RETRY);
        self.tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}
