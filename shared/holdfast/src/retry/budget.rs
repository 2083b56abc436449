//! The share of calls that may be retries.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One retry costs this much; in thousandths, so that a call can put in a part of one.
const RETRY: u64 = 1000;

/// A bucket of retries, shared by all calls to one dependency.
///
/// A call puts `ratio` of a token in, a retry takes one out, and the bucket holds at most `reserve` tokens, with which
/// it also starts. So a dependency that fails for every call gets `1 + ratio` calls for each, not `attempts` times as
/// many, while the odd failure is always retried. There is no clock in it.
#[derive(Debug)]
pub struct Budget {
    /// Thousandths of a retry; never above `most`.
    tokens: AtomicU64,
    most: u64,
    deposit: u64,
    /// Off: every retry is granted.
    enabled: AtomicBool,
}

/// The bounds make no sense. Fix the configuration.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum InvalidBudget {
    /// A share is between nothing and everything.
    #[error("the ratio of a retry budget must be from 0 to 1, not {0}")]
    Ratio(f64),
}

impl Budget {
    /// `ratio` retries per call (0.2: one in five) over time, and `reserve` retries in hand.
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

    /// The retries in hand: from 0 to `reserve`.
    #[expect(clippy::cast_precision_loss, reason = "thousandths of at most 2^32")]
    pub fn available(&self) -> f64 {
        self.tokens.load(Ordering::Relaxed) as f64 / RETRY as f64
    }

    /// Switches it off, so that every retry is granted, and on again. For drills: what it is good for shows without it.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Whether it is on.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// A call begins.
    pub(super) fn deposit(&self) {
        // On a good day it is full, and nobody writes to what everybody reads.
        if self.tokens.load(Ordering::Relaxed) >= self.most {
            return;
        }
        let add = |tokens: u64| Some((tokens + self.deposit).min(self.most));
        let _ = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes one retry out, if there is one.
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
