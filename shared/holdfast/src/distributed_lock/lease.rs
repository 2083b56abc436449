//! A lock that is held, and for how long.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{fence::Fence, name::Name};

/// What the clocks of two machines may differ by while a lock lives: one in a hundred, and what rounding to milliseconds takes
/// on both ends. (Antirez's Redlock has the same.)
pub(super) fn drift(ttl: Duration) -> Duration {
    ttl / 100 + Duration::from_millis(2)
}

/// A lock of ours. Shared by the holder and the keeper.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) name: Name,
    pub(super) token: Uuid,
    pub(super) fence: Fence,
    pub(super) ttl: Duration,
    /// Cancelled when the holder must stop. Most locks are given back before anybody asks.
    lost: OnceLock<CancellationToken>,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    /// From here on somebody else may hold it. By our own clock, counted from before the request was sent.
    until: Instant,
    /// When to prolong it; none when it is over. Changed with the keeper's schedule locked.
    renewal: Option<Instant>,
}

impl Held {
    /// A lock that was asked for at `sent`.
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

    /// Cancelled when the holder must stop.
    pub(super) fn lost(&self) -> &CancellationToken {
        self.lost.get_or_init(CancellationToken::new)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.get().is_some_and(CancellationToken::is_cancelled)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        // Two assignments, neither of which can panic.
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn until(&self) -> Instant {
        self.times().until
    }

    pub(super) fn next_renewal(&self) -> Option<Instant> {
        self.times().renewal
    }

    /// A prolongation that was sent at `sent` was granted.
    pub(super) fn prolonged(&self, sent: Instant) {
        let mut times = self.times();
        // Answers may overtake each other.
        times.until = times.until.max(sent + self.ttl - drift(self.ttl));
    }

    /// It is to be prolonged again, counted from `sent`. To be called by the keeper, while it is not in its schedule.
    pub(super) fn renew_after(&self, sent: Instant) {
        let mut times = self.times();
        if times.renewal.is_some() {
            times.renewal = Some(sent + self.ttl / 3);
        }
    }

    /// It is not to be prolonged any more. Answers when it would have been.
    pub(super) fn end(&self) -> Option<Instant> {
        self.times().renewal.take()
    }
}
