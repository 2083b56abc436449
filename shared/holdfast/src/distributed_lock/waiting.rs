//! Who waits for which lock, in the order in which they came; and what wakes them.
//!
//! Of all that wait in this process for one lock, only the first asks Redis. So a release costs a command per process that
//! waits, not one per caller, and while a lock is held nobody asks at all.
//!
//! Who asks and will wait leaves a mark at the lock, and only a lock with a mark is told of when it is given back: most are wanted
//! by nobody else. A process that got the lock for the first in its line leaves none: it wakes the next by itself.

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

/// The lines of those who wait.
#[derive(Debug, Default)]
pub(super) struct Lines {
    by_name: Mutex<HashMap<Name, Line>>,
    /// What Redis tells us about. Held while that is changed.
    heard: tokio::sync::Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The connection that this is about.
    generation: Generation,
    names: HashSet<Name>,
}

#[derive(Debug)]
struct Line {
    place: Arc<Place>,
    /// How many stand in it. At least one.
    waiting: usize,
}

/// Where those who wait for one lock stand in line.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Whose turn it is: tokio's mutex is fair. Holds until when the lock is taken, as far as is known.
    pub(super) turn: tokio::sync::Mutex<Option<Instant>>,
    /// The lock may be free, or the connection is another. Kept until the first in line has seen it.
    pub(super) woken: Notify,
    /// Whether somebody in this line has Redis tell us of releases.
    hears: AtomicBool,
}

/// A place in line, left when it is dropped.
pub(super) struct Ticket {
    locks: Arc<Inner>,
    name: Name,
    pub(super) place: Arc<Place>,
}

impl Ticket {
    /// At the end of the line.
    pub(super) fn new(locks: &Arc<Inner>, name: Name) -> Self {
        Self {
            place: locks.lines.enter(&name),
            locks: Arc::clone(locks),
            name,
        }
    }

    /// Has Redis tell us when this lock is given back. Answers whether that is new: then it may have been given back before.
    ///
    /// Cancel safe: who comes next asks Redis again.
    pub(super) async fn hear(&self) -> RedisResult<bool> {
        self.place.hears.store(true, Ordering::Relaxed);
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

    /// Goes to the end of the line.
    pub(super) fn enter(&self, name: &Name) -> Arc<Place> {
        let mut by_name = self.by_name();
        let line = by_name.entry(name.clone()).or_insert_with(|| Line {
            place: Arc::default(),
            waiting: 0,
        });
        line.waiting += 1;
        Arc::clone(&line.place)
    }

    /// Goes out of the line. Answers whether Redis goes on telling of that lock, without anybody here who waits for it.
    pub(super) fn leave(&self, name: &Name) -> bool {
        let mut by_name = self.by_name();
        let Some(line) = by_name.get_mut(name) else {
            return false;
        };
        line.waiting -= 1;
        if line.waiting > 0 {
            return false;
        }
        let hears = line.place.hears.load(Ordering::Relaxed);
        by_name.remove(name);
        hears
    }

    /// The lock with this key may be free: the first in line is to look.
    pub(super) fn wake(&self, key: &str) {
        if let Some(line) = self.by_name().get(key) {
            line.place.woken.notify_one();
        }
    }

    /// Redis told nothing for a while: the first in each line is to look.
    pub(super) fn wake_all(&self) {
        for line in self.by_name().values() {
            line.place.woken.notify_one();
        }
    }

    async fn hear(&self, wire: &Wire, name: &Name) -> RedisResult<bool> {
        let (generation, mut connection) = wire.connection().await?;
        let mut heard = self.heard.lock().await;
        let is_ours = |(current, _): (Generation, _)| current == generation;
        if !wire.current().is_some_and(is_ours) {
            // It broke while we waited for our turn.
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

    /// Hears no more of this lock, if nobody waits for it.
    pub(super) async fn ignore(&self, wire: &Wire, name: &Name) {
        let mut heard = self.heard.lock().await;
        // Whoever comes from here on hears of it anew, after us. Who has come leaves it to who goes last.
        if let Some(line) = self.by_name().get(name) {
            line.place.hears.store(true, Ordering::Relaxed);
            return;
        }
        let Some((generation, mut connection)) = wire.current() else {
            return; // with the connection the subscription is gone
        };
        if heard.generation == generation {
            // Also where nobody waited for the answer that we hear of it.
            heard.names.remove(name);
            if connection.unsubscribe(name.key()).await.is_err() {
                wire.discard(generation);
            }
        }
    }

    /// What Redis said by itself.
    pub(super) fn on_push(&self, push: &PushInfo) {
        if push.kind == PushKind::Message
            && let Some(Value::BulkString(channel)) = push.data.first()
            && let Ok(key) = std::str::from_utf8(channel)
        {
            self.wake(key);
        }
    }
}
