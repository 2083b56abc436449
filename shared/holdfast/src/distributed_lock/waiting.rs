//! The lines of waiters, one line per lock, and the events that wake the first in each.
//!
//! Of all waiters for one lock in this process, only the first sends requests to Redis. So a release costs one command
//! per waiting process, not one per caller, and nothing is sent while the lock is held.
//!
//! A waiter's request flags the lock; a release publishes only for flagged locks, as most have no waiters. A process
//! that acquired the lock for the first in its own line leaves no flag: it wakes the next in line itself.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::{sync::Notify, time::Instant};

use super::{
    Inner,
    connection::{Generation, Wire},
    name::Name,
};

/// The lines of waiters, by the lock's name.
#[derive(Debug, Default)]
pub(super) struct Lines {
    by_name: Mutex<HashMap<Name, Line>>,
    /// The channels that Redis publishes to us. Locked while they change.
    heard: tokio::sync::Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The connection that has the subscriptions.
    generation: Generation,
    names: HashSet<Name>,
}

#[derive(Debug)]
struct Line {
    state: Arc<LineState>,
    /// The number of waiters in this line, at least 1.
    waiting: usize,
}

/// The shared state of one line of waiters.
#[derive(Debug, Default)]
pub(super) struct LineState {
    /// Held by the first in line: tokio's mutex is fair. Its value is the time until which the lock is taken, if known.
    pub(super) turn: tokio::sync::Mutex<Option<Instant>>,
    /// Notified when the lock may be free or the connection was replaced. The notification stays until the first in
    /// line takes it.
    pub(super) woken: Notify,
    /// Set once a waiter in this line has subscribed to releases.
    hears: AtomicBool,
}

/// A place in line, left when it is dropped.
pub(super) struct Ticket {
    locks: Arc<Inner>,
    name: Name,
    pub(super) state: Arc<LineState>,
}

impl Ticket {
    /// Joins the end of the line.
    pub(super) fn new(locks: &Arc<Inner>, name: Name) -> Self {
        Self {
            state: locks.lines.enter(&name),
            locks: Arc::clone(locks),
            name,
        }
    }

    /// Subscribes to the lock's release. Returns true if the subscription is new: the lock may have been released
    /// before it.
    ///
    /// Cancel safe: the next in line subscribes again.
    pub(super) async fn hear(&self) -> RedisResult<bool> {
        self.state.hears.store(true, Ordering::Relaxed);
        let Inner { wire, lines, .. } = &*self.locks;
        lines.hear(wire, &self.name).await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.locks.lines.leave(&self.name) {
            self.locks.ignore_later(self.name.clone());
        }
    }
}

impl Lines {
    fn by_name(&self) -> MutexGuard<'_, HashMap<Name, Line>> {
        // A count and its entry change together, without a panic between them.
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the end of the line.
    pub(super) fn enter(&self, name: &Name) -> Arc<LineState> {
        let mut by_name = self.by_name();
        let line = by_name.entry(name.clone()).or_insert_with(|| Line {
            state: Arc::default(),
            waiting: 0,
        });
        line.waiting += 1;
        Arc::clone(&line.state)
    }

    /// Leaves the line. Returns true if the line is now empty and Redis still publishes the lock's releases to us.
    pub(super) fn leave(&self, name: &Name) -> bool {
        let mut by_name = self.by_name();
        let Some(line) = by_name.get_mut(name) else {
            return false;
        };
        line.waiting -= 1;
        if line.waiting > 0 {
            return false;
        }
        let hears = line.state.hears.load(Ordering::Relaxed);
        by_name.remove(name);
        hears
    }

    /// Wakes the first in line for the lock with this key, which may be free.
    pub(super) fn wake(&self, key: &str) {
        if let Some(line) = self.by_name().get(key) {
            line.state.woken.notify_one();
        }
    }

    /// Wakes the first in each line: releases may have been missed while there was no connection.
    pub(super) fn wake_all(&self) {
        for line in self.by_name().values() {
            line.state.woken.notify_one();
        }
    }

    async fn hear(&self, wire: &Wire, name: &Name) -> RedisResult<bool> {
        let (generation, mut connection) = wire.connection().await?;
        let mut heard = self.heard.lock().await;
        let is_ours = |(current, _): (Generation, _)| current == generation;
        if !wire.current().is_some_and(is_ours) {
            // The connection broke before we got the lock on `heard`.
            return Ok(true);
        }
        if heard.generation < generation {
            heard.generation = generation;
            heard.names.clear();
        }
        if heard.names.contains(name) {
            return Ok(false);
        }
        if let Err(error) = connection.subscribe(name.key()).await {
            wire.discard(generation);
            return Err(error);
        }
        heard.names.insert(name.clone());
        Ok(true)
    }

    /// Unsubscribes from the lock's releases, if it has no waiters here.
    pub(super) async fn ignore(&self, wire: &Wire, name: &Name) {
        let mut heard = self.heard.lock().await;
        // A waiter that arrives from here on subscribes after us. One that is in line already unsubscribes when it
        // leaves.
        if let Some(line) = self.by_name().get(name) {
            line.state.hears.store(true, Ordering::Relaxed);
            return;
        }
        let Some((generation, mut connection)) = wire.current() else {
            return; // the subscription ended with its connection
        };
        if heard.generation == generation {
            // Even if the subscribing call was cancelled before its reply arrived.
            heard.names.remove(name);
            if connection.unsubscribe(name.key()).await.is_err() {
                wire.discard(generation);
            }
        }
    }

    /// Handles a message that Redis pushed.
    pub(super) fn on_push(&self, push: &PushInfo) {
        if push.kind == PushKind::Message
            && let Some(Value::BulkString(channel)) = push.data.first()
            && let Ok(key) = std::str::from_utf8(channel)
        {
            self.wake(key);
        }
    }
}
