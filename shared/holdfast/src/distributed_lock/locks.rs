//! The locks of one Redis: the public type, and its background work.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};
use uuid::Uuid;

use super::{
    Error, Fence, LONGEST_TTL, Lock, SHORTEST_TTL,
    acquire::{Claim, Reply},
    connection::{self, Generation, Report, Wire},
    fence::Floor,
    keeper::Keeper,
    name::Name,
    observe::Meter,
    script::{self, Given},
    waiting::Lines,
};
use crate::backoff::Backoff;

/// The address of a Redis, and the time to wait for it.
#[derive(Clone)]
pub struct Options {
    /// The URL of a Redis 6.2 or newer: `redis://USER:PASSWORD@HOST:PORT`.
    pub url: String,
    /// The password, instead of the one in the URL.
    pub password: Option<String>,
    /// The time to wait for one reply, and for a connection. Keep it below a third of the shortest time to live in use,
    /// so that a renewal can be retried. Default: 500 ms.
    pub timeout: Duration,
}

impl Options {
    /// Returns options for the Redis at `url`, with the default timeout.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            timeout: Duration::from_millis(500),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The other fields contain passwords.
        f.debug_struct("Options")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Locks in one Redis. Clones share a connection and the lines of waiters.
#[derive(Clone)]
pub struct Locks(Arc<Inner>);

/// The state that all clones share.
pub(super) struct Inner {
    pub(super) wire: Wire,
    pub(super) lines: Lines,
    pub(super) keeper: Arc<Keeper>,
    pub(super) floor: Floor,
    pub(super) meter: Meter,
    /// The runtime of background work, also for locks that are dropped outside of one.
    runtime: Handle,
}

impl Locks {
    /// Checks the options. The connection is made when it is first needed, and again after it breaks: an unavailable
    /// Redis is no error yet.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for an invalid URL.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime. The background work runs on the runtime that this is called in.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let client = connection::client(&options.url, options.password.as_deref())?;
        let runtime = Handle::current();
        let keeper = Arc::<Keeper>::default();
        let inner = Arc::new_cyclic(|inner: &Weak<Inner>| {
            let on_report = {
                let inner = inner.clone();
                Arc::new(move |generation, report| {
                    if let Some(inner) = inner.upgrade() {
                        inner.on_report(generation, &report);
                    }
                })
            };
            Inner {
                wire: Wire::new(client, options.timeout, on_report),
                lines: Lines::default(),
                keeper: Arc::clone(&keeper),
                floor: Floor::default(),
                meter: Meter::new(),
                runtime: runtime.clone(),
            }
        });
        runtime.spawn(keeper.run(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// Acquires the lock if it is free; returns `None` if it is held.
    ///
    /// `ttl` is how long others wait if this process dies, from [`SHORTEST_TTL`] to [`LONGEST_TTL`]. While the lock is
    /// held it is renewed every third of that.
    ///
    /// # Errors
    ///
    /// [`Error::Name`], [`Error::Ttl`]; [`Error::Unavailable`] and [`Error::Refused`] from Redis.
    ///
    /// Cancel safe: a lock that may have been granted is released in the background.
    pub async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Option<Lock>, Error> {
        match self.claim(name, ttl)?.ask(false).await {
            Ok(Reply::Mine(lock)) => Ok(Some(lock)),
            Ok(Reply::Taken(_)) => {
                self.0.meter.busy();
                Ok(None)
            }
            Err(error) => {
                self.0.meter.failed(&error);
                Err(error)
            }
        }
    }

    /// Acquires the lock, and waits for it for at most `timeout`. Also waits for a Redis that is unavailable.
    ///
    /// # Errors
    ///
    /// As [`Locks::try_acquire`]; after `timeout`, [`Error::Timeout`] if another holder had the lock and
    /// [`Error::Unavailable`] if Redis did not answer.
    ///
    /// Cancel safe: a lock that may have been granted is released in the background, and the next in line moves up.
    pub async fn acquire(
        &self,
        name: &str,
        ttl: Duration,
        timeout: Duration,
    ) -> Result<Lock, Error> {
        // A deadline beyond the clock's range is no limit.
        let deadline = Instant::now().checked_add(timeout);
        let waited = self.claim(name, ttl)?.wait(deadline).await;
        waited.inspect_err(|error| self.0.meter.failed(error))
    }

    /// Acquires the lock, and waits without limit for it and for Redis.
    ///
    /// # Errors
    ///
    /// Only those that waiting cannot resolve: [`Error::Name`], [`Error::Ttl`], [`Error::Refused`].
    ///
    /// Cancel safe, as [`Locks::acquire`].
    pub async fn acquire_forever(&self, name: &str, ttl: Duration) -> Result<Lock, Error> {
        let waited = self.claim(name, ttl)?.wait(None).await;
        waited.inspect_err(|error| self.0.meter.failed(error))
    }

    /// Runs `work` under a lock and releases it afterwards, also when `work` panics or the caller is cancelled.
    ///
    /// When the lock is lost, `work` is dropped at its current await, so it must be cancel safe; what it committed
    /// under its fence stands. Work that has finished when the loss is seen counts as done.
    ///
    /// # Errors
    ///
    /// As [`Locks::acquire`]; [`Error::Lost`] if the lock was lost before `work` had finished.
    pub async fn with<T>(
        &self,
        name: &str,
        ttl: Duration,
        timeout: Duration,
        work: impl AsyncFnOnce(&Lock) -> T,
    ) -> Result<T, Error> {
        let lock = self.acquire(name, ttl, timeout).await?;
        let done = tokio::select! {
            biased;
            done = work(&lock) => Some(done),
            () = lock.lost() => None,
        };
        // After an error the release is retried in the background; the result of `work` stands.
        let _ = lock.release().await;
        done.ok_or_else(|| Error::Lost(name.to_owned()))
    }

    /// Raises every later fence above `seen`, the fence that the database returned when it refused one.
    ///
    /// This is needed only if Redis lost some of its count, this process saw none of the lost fences, and either Redis'
    /// clock was set back too or no connection broke. From this process' next acquisition on it holds for all
    /// processes, because Redis stores it.
    pub fn raise_fence(&self, seen: Fence) {
        self.0.floor.raise(seen);
    }

    /// Checks that Redis answers, for a readiness probe. Cancel safe.
    pub async fn ping(&self) -> Result<(), Error> {
        let (_pong, _) = self
            .0
            .wire
            .send::<redis::Value>(|_| redis::cmd("PING"))
            .await?;
        Ok(())
    }

    fn claim(&self, name: &str, ttl: Duration) -> Result<Claim, Error> {
        let checked = Name::parse(name).and_then(|name| {
            if (SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) {
                Ok(name)
            } else {
                Err(Error::Ttl { given: ttl })
            }
        });
        let name = checked.inspect_err(|error| self.0.meter.failed(error))?;
        Ok(Claim::new(Arc::clone(&self.0), name, ttl))
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").finish_non_exhaustive()
    }
}

impl Inner {
    /// Handles what a connection reports by itself. The connection calls it, so it must not block.
    fn on_report(&self, generation: Generation, report: &Report) {
        match report {
            Report::Pushed(push) if push.kind == redis::PushKind::Disconnection => {
                self.wire.discard(generation);
            }
            Report::Pushed(push) => self.lines.on_push(push),
            Report::Discarded => self.lines.wake_all(),
        }
    }

    /// Unsubscribes from a lock without waiters, in the background.
    pub(super) fn ignore_later(self: &Arc<Self>, name: Name) {
        let inner = Arc::clone(self);
        self.runtime
            .spawn(async move { inner.lines.ignore(&inner.wire, &name).await });
    }

    /// Releases a lock; returns whether it was still ours. A waiter that joined the line here while we held the lock
    /// has not flagged it in Redis, so it is woken from here.
    pub(super) async fn release(&self, name: &Name, token: Uuid) -> redis::RedisResult<bool> {
        let given = script::release(&self.wire, name, token).await?;
        if given != Given::Told {
            self.lines.wake(name.key());
        }
        Ok(given != Given::NotOurs)
    }

    /// Releases a lock in the background; retries until its time to live is over anyway.
    pub(super) fn release_later(self: &Arc<Self>, name: Name, token: Uuid, until: Instant) {
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut delays = Backoff::RECONNECT.delays();
            while Instant::now() < until {
                match inner.release(&name, token).await {
                    Ok(_) => return,
                    Err(error) => tracing::debug!(lock = %name, %error, "release failed; retrying"),
                }
                delays.wait().await;
            }
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.close();
    }
}
