//! One call of the card processor at a time for each account, over all replicas, however many workers there are.
//!
//! That is all that the lock is for. The payment's row and the idempotency key keep a charge from happening twice. The
//! fence, which the database compares, keeps an overtaken holder (a process that was stopped for longer than its lock's
//! time to live) from writing.

use std::time::Duration;

use chassis::Switch;
use contracts::value::CustomerId;
use holdfast::distributed_lock::{Error, Fence, Lock, Locks, Options};

use crate::config::LockSettings;

/// The locks of accounts.
pub(crate) struct Accounts {
    locks: Locks,
    /// The first part of a lock's name; the customer's id is the second.
    name: String,
    ttl: Duration,
    /// On, except while a drill shows what happens without it.
    fencing: Switch,
}

impl Accounts {
    /// Sets up the client of Redis, which connects at the first use.
    pub(crate) fn new(settings: &LockSettings, fencing: Switch) -> anyhow::Result<Self> {
        let ttl = Duration::from_millis(settings.account_lock_ttl_ms);
        let options = Options {
            // The lock is renewed every third of its time to live; half of that leaves time for a second try.
            timeout: (ttl / 6).min(Duration::from_millis(500)),
            ..Options::new(settings.redis()?)
        };
        Ok(Self {
            locks: Locks::new(&options)?,
            name: settings.account_lock_name.clone(),
            ttl,
            fencing,
        })
    }

    /// Acquires the lock of an account. Returns `None` if another process holds it.
    pub(crate) async fn try_lock(&self, customer: &CustomerId) -> Result<Option<Lock>, Error> {
        let name = format!("{}/{customer}", self.name);
        self.locks.try_acquire(&name, self.ttl).await
    }

    /// Raises the fences of all later acquisitions above `newest`, which the database has seen.
    pub(crate) fn seen(&self, newest: Fence) {
        self.locks.raise_fence(newest);
    }

    /// Returns true if an overtaken holder is refused.
    pub(crate) fn are_fenced(&self) -> bool {
        self.fencing.is_on()
    }
}
