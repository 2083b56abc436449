//! The number by which a database distinguishes an old holder from a new one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::{Error, connection::Generation};

/// A fencing token: each holder of a lock has a higher one than all before it.
///
/// It is a counter that is raised to the microseconds since 1970 by Redis' clock, so that a Redis that lost its memory
/// continues above what it gave before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(i64);

impl Fence {
    /// The highest fence. Lua's numbers are still exact here, and as a time it is in the year 2112.
    pub const HIGHEST: Self = Self(1 << 52);

    /// Returns the fence with this number, read from a database; [`Error::Fence`] if it is out of range.
    pub fn new(stored: i64) -> Result<Self, Error> {
        if (0..=Self::HIGHEST.0).contains(&stored) {
            Ok(Self(stored))
        } else {
            Err(Error::Fence { given: stored })
        }
    }

    /// Returns the number, to be stored.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl std::fmt::Display for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The lower bound of the next fence.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// The highest fence that this process has seen. Only grows.
    seen: AtomicI64,
    /// The newest connection on which the count was brought up to the clock. Only grows.
    lifted_on: AtomicU64,
}

/// The lower bound that one request states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Above {
    pub(super) seen: Fence,
    /// Set if this is the connection's first lock: the counter is raised to the clock as well, because another Redis
    /// may have answered before.
    pub(super) is_first: bool,
}

impl Floor {
    pub(super) fn raise(&self, seen: Fence) {
        self.seen.fetch_max(seen.0, Ordering::Relaxed);
    }

    /// Returns the bound for a request on this connection.
    pub(super) fn on(&self, connection: Generation) -> Above {
        // Read in this order: on a connection that is not new, `seen` then includes the fence of its first lock.
        // Compared for equality: an older connection may never have raised its counter.
        let is_first = self.lifted_on.load(Ordering::Acquire) != connection;
        Above {
            seen: Fence(self.seen.load(Ordering::Relaxed)),
            is_first,
        }
    }

    /// Records a lock that was granted on this connection.
    pub(super) fn granted(&self, fence: Fence, connection: Generation) {
        self.raise(fence);
        self.lifted_on.fetch_max(connection, Ordering::Release);
    }
}
