//! The number by which a database tells an old holder from a new one.

use std::sync::atomic::{AtomicI64, Ordering};

use super::Error;

/// A fencing token: each holder of a lock has a higher one than those before.
///
/// Near the microseconds since 1970 by the clock of Redis, so that one that lost its memory goes on above.
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

/// The highest fence that this process has seen. Only grows.
#[derive(Debug, Default)]
pub(super) struct Floor(AtomicI64);

impl Floor {
    pub(super) fn raise(&self, seen: Fence) {
        self.0.fetch_max(seen.0, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Fence {
        Fence(self.0.load(Ordering::Relaxed))
    }
}
