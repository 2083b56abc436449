//! A lock, as its holder has it.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Error, Fence, Inner, lease::Held, script};

/// A lock that is held. It is renewed in the background until it is released, dropped or lost.
///
/// Dropping it releases it in the background: the next waiter gets it a round trip later. [`Lock::release`] also
/// returns whether it was still held.
#[must_use = "a lock is released when it is dropped"]
pub struct Lock {
    locks: Arc<Inner>,
    held: Arc<Held>,
    /// Set once Redis has confirmed that the lock is no longer ours.
    settled: bool,
}

/// The outcome of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The lock was held until now.
    InTime,
    /// The lock was lost before: another process may have held it meanwhile. What the database accepted under the fence
    /// stands.
    TooLate,
}

impl Lock {
    pub(super) fn new(locks: Arc<Inner>, held: Arc<Held>) -> Self {
        Self {
            locks,
            held,
            settled: false,
        }
    }

    /// Returns the lock's name.
    pub fn name(&self) -> &str {
        self.held.name.as_str()
    }

    /// Returns the number to write with: the database refuses it once it has seen a higher one.
    pub fn fence(&self) -> Fence {
        self.held.fence
    }

    /// Returns the holder's id: new for each acquisition, unique across processes. By it the database also
    /// distinguishes two holders of one fence, which exist only if Redis lost some of its count at an unlucky moment.
    pub fn token(&self) -> Uuid {
        self.held.token
    }

    /// Returns true if no other process can hold the lock now, as far as this process' clock and Redis' memory can be
    /// trusted.
    ///
    /// The result is right even in a process that was stopped and resumes. False is final; true may be outdated before
    /// the next line runs: only the check of the fence is made as late as the write.
    pub fn is_held(&self) -> bool {
        !self.held.is_lost() && !self.remaining().is_zero()
    }

    /// Returns how long the lock is still held if it is not renewed.
    pub fn remaining(&self) -> Duration {
        self.held.until().saturating_duration_since(Instant::now())
    }

    /// Waits until the lock is lost; the work under it must stop then. Cancel safe.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + '_ {
        self.held.lost().cancelled()
    }

    /// Returns a token that is cancelled when the lock is lost, to pass on to the work under it. A release does not
    /// cancel it.
    pub fn lost_token(&self) -> CancellationToken {
        self.held.lost().child_token()
    }

    /// Renews the lock now, for its whole time to live: call it before a long step.
    ///
    /// [`Error::Lost`] is final. After another error the lock may be renewed or not; the background renewal goes on.
    /// Cancel safe.
    pub async fn extend(&self) -> Result<(), Error> {
        let held = &self.held;
        let lost = || Error::Lost(held.name.to_string());
        if !self.is_held() {
            return Err(lost());
        }
        let sent = Instant::now();
        if script::extend(&self.locks.wire, &held.name, held.token, held.ttl).await? {
            // The keeper renews it earlier than needed, once.
            held.prolonged(sent);
            return Ok(());
        }
        self.locks.lose(held, "Redis no longer knows the lock");
        Err(lost())
    }

    /// Releases the lock and wakes the next waiter.
    ///
    /// After an error the release is retried in the background until the time to live is over. Cancel safe in the same
    /// way.
    pub async fn release(mut self) -> Result<Released, Error> {
        self.locks.keeper.forget(&self.held);
        let was_ours = self.locks.release(&self.held.name, self.held.token).await?;
        self.settled = true;
        Ok(if was_ours {
            Released::InTime
        } else {
            Released::TooLate
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locks.keeper.forget(&self.held);
        if !self.settled {
            // Also for a lock that is lost by our clock: Redis may keep it for a moment yet.
            let until = Instant::now() + self.held.ttl;
            self.locks
                .release_later(self.held.name.clone(), self.held.token, until);
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name())
            .field("fence", &self.fence())
            .field("token", &self.token())
            .field("held", &self.is_held())
            .finish()
    }
}
