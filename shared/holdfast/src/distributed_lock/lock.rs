//! A lock in its holder's hands.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Error, Fence, Inner, lease::Held, script};

/// A lock that is held, and prolonged by itself until it is released, dropped or lost.
///
/// Dropping it releases it in the background: whoever waits gets it a round trip later. [`Lock::release`] also says whether it
/// was still held.
#[must_use = "a lock is released when it is dropped"]
pub struct Lock {
    locks: Arc<Inner>,
    held: Arc<Held>,
    /// Redis has said that it is not ours any more.
    settled: bool,
}

/// What came of giving a lock back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It was held until now.
    InTime,
    /// It was lost before: somebody else may have held it meanwhile. What the database accepted under the fence stands.
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

    /// What it is called.
    pub fn name(&self) -> &str {
        self.held.name.as_str()
    }

    /// The number to write with: the database refuses it once it has seen a higher one.
    pub fn fence(&self) -> Fence {
        self.held.fence
    }

    /// Who the holder is: new for each acquisition, in all processes. With it the database also tells apart two holders of one
    /// fence, which takes a Redis that forgot some of its count, and unlucky timing.
    pub fn token(&self) -> Uuid {
        self.held.token
    }

    /// Whether nobody else can hold it now, as far as our own clock and Redis' memory can be trusted.
    ///
    /// Also right in a process that was stopped and goes on. False is final; true may be over before the next line runs: only
    /// the fence's check is as late as the write.
    pub fn is_held(&self) -> bool {
        !self.held.is_lost() && !self.remaining().is_zero()
    }

    /// How long it is held without being prolonged.
    pub fn remaining(&self) -> Duration {
        self.held.until().saturating_duration_since(Instant::now())
    }

    /// Waits until the lock is lost: stop the work then. Cancel safe.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + '_ {
        self.held.lost().cancelled()
    }

    /// The same as [`Lock::lost`], to be passed on to what works under the lock. Not cancelled by a release.
    pub fn lost_token(&self) -> CancellationToken {
        self.held.lost().child_token()
    }

    /// Prolongs it now, to its whole time to live: before a step that takes long.
    ///
    /// [`Error::Lost`] is final. After another error it may be prolonged or not; it is tried again by itself. Cancel safe.
    pub async fn extend(&self) -> Result<(), Error> {
        let held = &self.held;
        let lost = || Error::Lost(held.name.to_string());
        if !self.is_held() {
            return Err(lost());
        }
        let sent = Instant::now();
        if script::extend(&self.locks.wire, &held.name, held.token, held.ttl).await? {
            // The keeper comes earlier than needed, once.
            held.prolonged(sent);
            return Ok(());
        }
        self.locks.lose(held, "Redis does not know it any more");
        Err(lost())
    }

    /// Gives it back, and wakes who waits for it.
    ///
    /// After an error it is tried again in the background, until its time is over. Cancel safe in the same way.
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
            // Also one that we call lost: it may live in Redis for a moment yet.
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
