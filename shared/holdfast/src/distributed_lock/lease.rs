//! A lock that is held, and the time until which it is.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{fence::Fence, name::Name};

/// Returns the margin for clocks: two machines may differ by 1 % while a lock lives, plus 2 ms for rounding to
/// milliseconds on both ends. (Redlock has the same margin.)
pub(super) fn drift(ttl: Duration) -> Duration {
    ttl / 100 + Duration::from_millis(2)
}

/// A lock of ours, shared by its holder and the keeper.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) name: Name,
    pub(super) token: Uuid,
    pub(super) fence: Fence,
    pub(super) ttl: Duration,
    /// Cancelled when the holder must stop. Made on first use: most holders never use it.
    lost: OnceLock<CancellationToken>,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    /// The time from which another process may hold it, by our clock, counted from before the request was sent.
    until: Instant,
    /// The time of the next renewal; `None` once the lock has ended. Changed only under the keeper's schedule lock.
    renewal: Option<Instant>,
}

impl Held {
    /// Returns a lock whose request was sent at `sent`.
    pub(super) fn new(name: Name, token: Uuid, fence: Fence, ttl: Duration, sent: Instant) -> Self {
        Self {
            name,
            token,
            fence,
            ttl,
            lost: OnceLock::new(),
            times: Mutex::new(Times {
                until: sent + ttl - drift(ttl),
                renewal: Some(sent + ttl / 3),
            }),
        }
    }

    /// Returns the token that is cancelled when the holder must stop.
    pub(super) fn lost(&self) -> &CancellationToken {
        self.lost.get_or_init(CancellationToken::new)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.get().is_some_and(CancellationToken::is_cancelled)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        // A panic cannot leave the times half changed: each change is one assignment.
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn until(&self) -> Instant {
        self.times().until
    }

    pub(super) fn next_renewal(&self) -> Option<Instant> {
        self.times().renewal
    }

    /// Records a renewal that was granted; its request was sent at `sent`.
    pub(super) fn prolonged(&self, sent: Instant) {
        let mut times = self.times();
        // Replies may overtake each other.
        times.until = times.until.max(sent + self.ttl - drift(self.ttl));
    }

    /// Sets the next renewal, counted from `sent`. For the keeper, while the lock is out of its schedule.
    pub(super) fn renew_after(&self, sent: Instant) {
        let mut times = self.times();
        if times.renewal.is_some() {
            times.renewal = Some(sent + self.ttl / 3);
        }
    }

    /// Ends the renewals. Returns the time of the one that was due next.
    pub(super) fn end(&self) -> Option<Instant> {
        self.times().renewal.take()
    }
}
