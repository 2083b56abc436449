//! The calls that a half-open breaker lets through.

use tokio::time::Instant;

use super::{config::HalfOpen, machine::Verdict};

/// One phase of trying again. A trial that is undecided always has a place free, or a probe out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trial {
    /// Places taken: by probes that are out, and by those that succeeded or failed. Never more than are permitted. A probe
    /// that was ignored or cancelled gives its place back.
    taken: u32,
    succeeded: u32,
    failed: u32,
    /// Since when it is waiting for a probe to succeed or fail: since the last one did, or the first admission after that. A
    /// probe that is cancelled or ignored does not stop this clock: callers that give up one after the other are what a
    /// dependency that hangs looks like.
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
            // An answer that comes too slowly is no sign of health.
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

    /// How the trial ended, if it has.
    pub(super) fn succeeded(&self, wanted: HalfOpen) -> Option<bool> {
        if self.succeeded >= wanted.successes_to_close {
            Some(true)
        } else if self.failed > wanted.permitted_calls - wanted.successes_to_close {
            // Too few places are left for the successes that it wants.
            Some(false)
        } else {
            None
        }
    }

    /// When it will have had no answer for too long, if it waits for one.
    pub(super) fn due(&self, wanted: HalfOpen) -> Option<Instant> {
        self.waiting.map(|since| since + wanted.maximum_wait)
    }
}
