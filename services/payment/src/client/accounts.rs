//! One outward call for each account at a time, over all replicas: the card company is not asked to charge a card twice at
//! once, however many workers there are.
//!
//! The lock is for that alone. That no charge happens twice is the work of the payment's row and of the idempotency key; that
//! nobody writes who was overtaken (a process that was stopped for longer than its lock lives), of the fence, which the
//! database compares.

use std::time::Duration;

use chassis::Switch;
use contracts::value::CustomerId;
use holdfast::distributed_lock::{Error, Fence, Lock, Locks, Options};

use crate::config::LockSettings;

/// The locks of accounts.
pub(crate) struct Accounts {
    locks: Locks,
    /// What they are called, before the customer's id.
    name: String,
    ttl: Duration,
    /// Off only while a drill shows what becomes of it.
    fencing: Switch,
}

impl Accounts {
    /// Connects when it must.
    pub(crate) fn new(settings: &LockSettings, fencing: Switch) -> anyhow::Result<Self> {
        let ttl = Duration::from_millis(settings.account_lock_ttl_ms);
        let options = Options {
            // A renewal, every third of that time, can be tried again.
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

    /// The lock of an account, unless somebody has it.
    pub(crate) async fn try_lock(&self, customer: &CustomerId) -> Result<Option<Lock>, Error> {
        let name = format!("{}/{customer}", self.name);
        self.locks.try_acquire(&name, self.ttl).await
    }

    /// The database has seen this one: those to come are to be newer.
    pub(crate) fn seen(&self, newest: Fence) {
        self.locks.raise_fence(newest);
    }

    /// Whether somebody who was overtaken may not write.
    pub(crate) fn are_fenced(&self) -> bool {
        self.fencing.is_on()
    }
}
