//! Asking for a lock, and waiting for it.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::{
    Error, Fence, Inner, Lock,
    lease::{Held, drift},
    name::Name,
    script::{self, Answer, Request},
    waiting::Ticket,
};
use crate::backoff::Backoff;

/// Between two questions to a Redis that does not answer.
const AWAY: Backoff = match Backoff::new(Duration::from_millis(20), Duration::from_millis(500)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("20 is below 500"),
};

/// What Redis said.
pub(super) enum Reply {
    /// Here it is.
    Mine(Lock),
    /// Somebody else has it, for so long if they do not prolong it.
    Taken(Duration),
}

/// One caller's wish for a lock. However often Redis is asked, it is under the same token.
pub(super) struct Claim {
    locks: Arc<Inner>,
    name: Name,
    ttl: Duration,
    token: Uuid,
    begun: Instant,
    /// Whether Redis was asked and did not answer: then it may have given us the lock, and nobody would give it back.
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

    /// Asks Redis once; if it is taken and the caller waits, whoever has it will tell of its release.
    pub(super) async fn ask(&mut self, waits: bool) -> Result<Reply, Error> {
        // Before it is sent: the time that the answer takes is not ours.
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
            Answer::Held(left) => {
                self.unsettled = false;
                return Ok(Reply::Taken(left));
            }
            Answer::Acquired(fence, connection) => (Fence::new(fence)?, connection),
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

    /// Waits for the lock until the deadline, if there is one.
    pub(super) async fn wait(mut self, deadline: Option<Instant>) -> Result<Lock, Error> {
        // Why there is no lock yet.
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
        // First into the line, then the question: nobody overtakes those who wait in this process already.
        let ticket = Ticket::new(&locks, self.name.clone());
        let mut taken_until = ticket.place.turn.lock().await;
        let mut failures = AWAY.delays();
        loop {
            let mut hears = true;
            if let Some(until) = *taken_until {
                match ticket.hear().await {
                    Ok(false) => tokio::select! {
                        () = ticket.place.woken.notified() => {}
                        () = sleep_until(until) => {}
                    },
                    // Only now would we hear of a release: it may have been before.
                    Ok(true) => {}
                    Err(error) => match Error::from(error) {
                        error if error.is_temporary() => (*last, hears) = (Some(error), false),
                        error => return Err(error),
                    },
                }
                // Should we be cancelled from here on, the next in line asks at once.
                *taken_until = None;
            }
            match self.note(last).await? {
                Some(Reply::Mine(lock)) => {
                    // By then the next in line asks, should it not have been given back: that they hear from us.
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

    /// Asks once. A Redis that does not answer is noted, and is no reason to give up.
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

/// After the time of a lock is over: what Redis rounds off, and not everybody at once.
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
