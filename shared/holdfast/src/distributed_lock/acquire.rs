//! Acquires a lock, and waits for it.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::{
    Error, Fence, Inner, Lock,
    lease::{Held, drift},
    name::Name,
    script::{self, Outcome, Request},
    waiting::Ticket,
};
use crate::backoff::Backoff;

/// The delays between attempts while Redis does not answer.
const AWAY: Backoff = match Backoff::new(Duration::from_millis(20), Duration::from_millis(500)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("20 is below 500"),
};

/// Redis' reply to one request.
pub(super) enum Reply {
    /// The lock was granted.
    Mine(Lock),
    /// Another holder has the lock, for this time if it does not renew it.
    Taken(Duration),
}

/// One caller's request for a lock. Every attempt sends the same token.
pub(super) struct Claim {
    locks: Arc<Inner>,
    name: Name,
    ttl: Duration,
    token: Uuid,
    begun: Instant,
    /// Set while a request may have reached Redis without a reply: Redis may have granted the lock, and the drop
    /// releases it.
    unsettled: bool,
}

impl Claim {
    pub(super) fn new(locks: Arc<Inner>, name: Name, ttl: Duration) -> Self {
        Self {
            locks,
            name,
            ttl,
            token: Uuid::new_v4(),
            begun: Instant::now(),
            unsettled: false,
        }
    }

    /// Sends one request. If another holder has the lock and the caller waits, that holder's release is published.
    pub(super) async fn ask(&mut self, waits: bool) -> Result<Reply, Error> {
        // Read before sending: the time until the reply must not count as held.
        let sent = Instant::now();
        self.unsettled = true;
        let Inner { wire, floor, .. } = &*self.locks;
        let request = Request {
            name: &self.name,
            token: self.token,
            ttl: self.ttl,
            waits,
        };
        let answer = script::acquire(wire, floor, &request).await?;
        let (fence, connection) = match answer {
            Outcome::Held(left) => {
                self.unsettled = false;
                return Ok(Reply::Taken(left));
            }
            Outcome::Acquired(fence, connection) => (Fence::new(fence)?, connection),
        };
        self.unsettled = false;
        self.locks.floor.granted(fence, connection);
        let held = Arc::new(Held::new(
            self.name.clone(),
            self.token,
            fence,
            self.ttl,
            sent,
        ));
        self.locks.keeper.keep(&held);
        self.locks.meter.acquired(self.begun.elapsed());
        Ok(Reply::Mine(Lock::new(Arc::clone(&self.locks), held)))
    }

    /// Waits for the lock, until `deadline` if there is one.
    pub(super) async fn wait(mut self, deadline: Option<Instant>) -> Result<Lock, Error> {
        // The reason for which the lock was not acquired so far, returned at the deadline.
        let mut last = None;
        let waited = match deadline {
            Some(deadline) => timeout_at(deadline, self.stand_in_line(&mut last)).await,
            None => Ok(self.stand_in_line(&mut last).await),
        };
        waited.unwrap_or_else(|_| Err(last.unwrap_or_else(|| self.timeout())))
    }

    fn timeout(&self) -> Error {
        Error::Timeout(self.name.to_string())
    }

    async fn stand_in_line(&mut self, last: &mut Option<Error>) -> Result<Lock, Error> {
        let locks = Arc::clone(&self.locks);
        // Join the line before the first request, so that it does not overtake this process' earlier waiters.
        let ticket = Ticket::new(&locks, self.name.clone());
        let mut taken_until = ticket.state.turn.lock().await;
        let mut failures = AWAY.delays();
        loop {
            let mut hears = true;
            if let Some(until) = *taken_until {
                match ticket.hear().await {
                    Ok(false) => tokio::select! {
                        () = ticket.state.woken.notified() => {}
                        () = sleep_until(until) => {}
                    },
                    // The subscription is new: the lock may have been released before it.
                    Ok(true) => {}
                    Err(error) => match Error::from(error) {
                        error if error.is_temporary() => (*last, hears) = (Some(error), false),
                        error => return Err(error),
                    },
                }
                // If this call is cancelled from here on, the next in line requests the lock at once.
                *taken_until = None;
            }
            match self.note(last).await? {
                Some(Reply::Mine(lock)) => {
                    // The next in line requests the lock at that time, unless a release in this process wakes it
                    // before.
                    *taken_until = Some(Instant::now() + self.ttl + pause());
                    return Ok(lock);
                }
                Some(Reply::Taken(left)) => {
                    *taken_until = Some(Instant::now() + left + pause());
                    if hears {
                        failures.reset();
                        continue;
                    }
                }
                None => {}
            }
            failures.wait().await;
        }
    }

    /// Sends one request. A temporary error is kept in `last` and is no reason to give up.
    async fn note(&mut self, last: &mut Option<Error>) -> Result<Option<Reply>, Error> {
        match self.ask(true).await {
            Ok(reply) => {
                *last = Some(self.timeout());
                Ok(Some(reply))
            }
            Err(error) if error.is_temporary() => {
                *last = Some(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns the wait after a lock's time to live: Redis rounds to milliseconds, and jitter keeps waiters apart.
fn pause() -> Duration {
    Duration::from_micros(1000 + fastrand::u64(..5000))
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.unsettled {
            let until = Instant::now() + self.ttl + drift(self.ttl);
            self.locks
                .release_later(self.name.clone(), self.token, until);
        }
    }
}
