//! The number by which a database tells an old holder from a new one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::{Error, connection::Generation};

/// A fencing token: each holder of a lock has a higher one than those before.
///
/// A count, from the microseconds since 1970 by the clock of Redis on, so that one that lost its memory goes on above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(i64);

impl Fence {
    /// The highest: Lua counts exactly up to here, and it is the year 2112.
    pub const HIGHEST: Self = Self(1 << 52);

    /// A fence that was stored.
    pub fn new(stored: i64) -> Result<Self, Error> {
        if (0..=Self::HIGHEST.0).contains(&stored) {
            Ok(Self(stored))
        } else {
            Err(Error::Fence { given: stored })
        }
    }

    /// The number, to be stored.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl std::fmt::Display for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the next fence must be above.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// The highest fence that this process has seen. Only grows.
    seen: AtomicI64,
    /// The newest connection on which the count was brought up to the clock. Only grows.
    lifted_on: AtomicU64,
}

/// What is to be said of it with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Above {
    pub(super) seen: Fence,
    /// Whether the count is to be brought up to the clock as well: another Redis may have answered before.
    pub(super) is_first: bool,
}

impl Floor {
    pub(super) fn raise(&self, seen: Fence) {
        self.seen.fetch_max(seen.0, Ordering::Relaxed);
    }

    /// For a request on this connection.
    pub(super) fn on(&self, connection: Generation) -> Above {
        // In this order: where it is not the first, the first one's fence has been seen. An older connection may never have
        // been brought up, whatever became of this one.
        let is_first = self.lifted_on.load(Ordering::Acquire) != connection;
        Above {
            seen: Fence(self.seen.load(Ordering::Relaxed)),
            is_first,
        }
    }

    /// A lock was granted on this connection.
    pub(super) fn granted(&self, fence: Fence, connection: Generation) {
        self.raise(fence);
        self.lifted_on.fetch_max(connection, Ordering::Release);
    }
}
