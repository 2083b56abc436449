//! All locks of one Redis.

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
    connection::{self, Generation, News, Wire},
    fence::Floor,
    keeper::Keeper,
    name::Name,
    observe::Meter,
    script::{self, Given},
    waiting::Lines,
};
use crate::backoff::Backoff;

/// Which Redis, and how long to wait for it.
#[derive(Clone)]
pub struct Options {
    /// Redis 6.2 or newer, as redis://USER:PASSWORD@HOST:PORT.
    pub url: String,
    /// The password, instead of the one in the URL.
    pub password: Option<String>,
    /// How long to wait for one answer, and for a connection. Shorter than a third of the shortest time to live in use, so that
    /// a renewal can be tried again. Default: 500 ms.
    pub timeout: Duration,
}

impl Options {
    /// A Redis, with the default timeout.
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
        // The rest has passwords.
        f.debug_struct("Options")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Locks in one Redis. Clones share a connection, and the line of those who wait.
#[derive(Clone)]
pub struct Locks(Arc<Inner>);

/// What all clones share.
pub(super) struct Inner {
    pub(super) wire: Wire,
    pub(super) lines: Lines,
    pub(super) keeper: Arc<Keeper>,
    pub(super) floor: Floor,
    pub(super) meter: Meter,
    /// Where background work runs, also for locks that are dropped elsewhere.
    runtime: Handle,
}

impl Locks {
    /// Reads the options. It connects when it must, and again whenever it must: a Redis that is away is no error yet.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a URL that is none.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime: the one in which this is called does the background work.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let client = connection::client(&options.url, options.password.as_deref())?;
        let runtime = Handle::current();
        let keeper = Arc::<Keeper>::default();
        let inner = Arc::new_cyclic(|inner: &Weak<Inner>| {
            let on_news = {
                let inner = inner.clone();
                Arc::new(move |generation, news| {
                    if let Some(inner) = inner.upgrade() {
                        inner.on_news(generation, &news);
                    }
                })
            };
            Inner {
                wire: Wire::new(client, options.timeout, on_news),
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

    /// Takes a lock that is free; answers nothing if it is not.
    ///
    /// `ttl` is how long others wait if this process dies: [`SHORTEST_TTL`] to [`LONGEST_TTL`]. While the lock is held it is
    /// prolonged every third of that.
    ///
    /// # Errors
    ///
    /// [`Error::Name`], [`Error::Ttl`]; [`Error::Unavailable`] and [`Error::Refused`] of Redis.
    ///
    /// Cancel safe: what it may have locked is released in the background.
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

    /// Takes a lock, and waits for it for as long as `timeout`. Also waits for a Redis that is away.
    ///
    /// # Errors
    ///
    /// As [`Locks::try_acquire`]; after `timeout` it is [`Error::Timeout`] if somebody else held the lock, and
    /// [`Error::Unavailable`] if Redis did not answer.
    ///
    /// Cancel safe: what it may have locked is released in the background, and its place in line is free.
    pub async fn acquire(
        &self,
        name: &str,
        ttl: Duration,
        timeout: Duration,
    ) -> Result<Lock, Error> {
        // A time that is too far away to be told is no limit.
        let deadline = Instant::now().checked_add(timeout);
        let waited = self.claim(name, ttl)?.wait(deadline).await;
        waited.inspect_err(|error| self.0.meter.failed(error))
    }

    /// Takes a lock, and waits for it, and for Redis, for as long as it takes.
    ///
    /// # Errors
    ///
    /// Only those that no waiting helps against: [`Error::Name`], [`Error::Ttl`], [`Error::Refused`].
    ///
    /// Cancel safe, as [`Locks::acquire`].
    pub async fn acquire_forever(&self, name: &str, ttl: Duration) -> Result<Lock, Error> {
        let waited = self.claim(name, ttl)?.wait(None).await;
        waited.inspect_err(|error| self.0.meter.failed(error))
    }

    /// Runs `work` under a lock, and releases it after, whatever happens: also when `work` panics or the caller is cancelled.
    ///
    /// When the lock is lost `work` is dropped where it stands, so it must be cancel safe; what it committed under its fence
    /// stands. Work that is done when the loss is seen counts as done.
    ///
    /// # Errors
    ///
    /// As [`Locks::acquire`]; [`Error::Lost`] when the lock was lost before `work` was done.
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
        // An error is taken care of in the background, and changes nothing about what was done.
        let _ = lock.release().await;
        done.ok_or_else(|| Error::Lost(name.to_owned()))
    }

    /// Has every fence from now on be higher than `seen`: what the database said when it refused one.
    ///
    /// It is only needed when Redis lost some of its count, and either its clock was set back too or no connection broke over
    /// it, and this process saw none of it. Redis keeps it, so that it holds for all processes from the next acquisition of this one on.
    pub fn raise_fence(&self, seen: Fence) {
        self.0.floor.raise(seen);
    }

    /// Asks Redis whether it answers: for a readiness check. Cancel safe.
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
    /// A connection tells something by itself. Called by it: must not block.
    fn on_news(&self, generation: Generation, news: &News) {
        match news {
            News::Said(push) if push.kind == redis::PushKind::Disconnection => {
                self.wire.discard(generation);
            }
            News::Said(push) => self.lines.on_push(push),
            News::Discarded => self.lines.wake_all(),
        }
    }

    /// Hears no more of a lock that nobody waits for, in the background.
    pub(super) fn ignore_later(self: &Arc<Self>, name: Name) {
        let inner = Arc::clone(self);
        self.runtime
            .spawn(async move { inner.lines.ignore(&inner.wire, &name).await });
    }

    /// Gives a lock back; answers whether it was still ours. Who got in line here while it was ours asked nobody for it, so that
    /// Redis may know of none who wait: they hear it from us.
    pub(super) async fn release(&self, name: &Name, token: Uuid) -> redis::RedisResult<bool> {
        let given = script::release(&self.wire, name, token).await?;
        if given != Given::Told {
            self.lines.wake(name.key());
        }
        Ok(given != Given::NotOurs)
    }

    /// Gives a lock back in the background, as often as it takes, until its time is over anyway.
    pub(super) fn release_later(self: &Arc<Self>, name: Name, token: Uuid, until: Instant) {
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut delays = Backoff::RECONNECT.delays();
            while Instant::now() < until {
                match inner.release(&name, token).await {
                    Ok(_) => return,
                    Err(error) => tracing::debug!(lock = %name, %error, "could not release it yet"),
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
