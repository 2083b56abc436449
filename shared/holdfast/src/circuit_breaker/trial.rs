//! The probes of a half-open breaker.

use tokio::time::Instant;

use super::{config::HalfOpen, verdict::Verdict};

/// One half-open phase. An undecided trial always has a place free, or a probe out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trial {
    /// The places taken: by probes that are out, and by those that succeeded or failed. At most as many as permitted. A
    /// probe that was ignored or cancelled frees its place.
    taken: u32,
    succeeded: u32,
    failed: u32,
    /// The time since which the trial waits for a probe to succeed or fail: the time of the last one that did, or of
    /// the first admission after that. A probe that is cancelled or ignored does not restart this clock: callers that
    /// give up one after the other are the sign of a dependency that hangs.
    waiting: Option<Instant>,
}

impl Trial {
    pub(super) fn admit(&mut self, now: Instant) {
        self.taken += 1;
        self.waiting.get_or_insert(now);
    }

    pub(super) fn record(&mut self, verdict: Verdict, now: Instant) {
        match verdict {
            Verdict::Success { slow: false } => self.succeeded += 1,
            // A success that is too slow is no sign of health.
            Verdict::Success { slow: true } | Verdict::Failure { .. } => self.failed += 1,
            Verdict::Ignored | Verdict::Cancelled => {
                self.taken -= 1;
                return;
            }
        }
        let out = self.taken - self.succeeded - self.failed;
        self.waiting = (out > 0).then_some(now);
    }

    pub(super) fn is_full(&self, wanted: HalfOpen) -> bool {
        self.taken >= wanted.permitted_calls
    }

    /// Returns whether the trial succeeded; `None` while it is undecided.
    pub(super) fn succeeded(&self, wanted: HalfOpen) -> Option<bool> {
        if self.succeeded >= wanted.successes_to_close {
            Some(true)
        } else if self.failed > wanted.permitted_calls - wanted.successes_to_close {
            // Too few places are left for the successes that it needs.
            Some(false)
        } else {
            None
        }
    }

    /// Returns the time at which it will have waited for too long, if it waits for a probe.
    pub(super) fn due(&self, wanted: HalfOpen) -> Option<Instant> {
        self.waiting.map(|since| since + wanted.maximum_wait)
    }
}
