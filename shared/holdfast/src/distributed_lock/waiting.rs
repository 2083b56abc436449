//! Who waits for which lock, in the order in which they came; and what wakes them.
//!
//! Of all that wait in this process for one lock, only the first asks Redis. So a release costs a command per process that
//! waits, not one per caller, and while a lock is held nobody asks at all.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::{sync::Notify, time::Instant};

use super::{
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
}

/// A place in line, left when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    lines: &'a Lines,
    name: Name,
    pub(super) place: Arc<Place>,
}

impl Lines {
    fn by_name(&self) -> MutexGuard<'_, HashMap<Name, Line>> {
        // A count and its entry change together, without a panic between them.
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody here waits for it.
    pub(super) fn is_waited_for(&self, name: &str) -> bool {
        self.by_name().contains_key(name)
    }

    /// Goes to the end of the line.
    pub(super) fn enter(&self, name: &Name) -> Ticket<'_> {
        let mut by_name = self.by_name();
        let line = by_name.entry(name.clone()).or_insert_with(|| Line {
            place: Arc::default(),
            waiting: 0,
        });
        line.waiting += 1;
        Ticket {
            lines: self,
            name: name.clone(),
            place: Arc::clone(&line.place),
        }
    }

    /// Has Redis tell us when this lock is given back. Answers whether that is new: then it may have been given back before.
    ///
    /// Cancel safe: who comes next asks Redis again.
    pub(super) async fn hear(&self, wire: &Wire, name: &Name) -> RedisResult<bool> {
        let (generation, mut connection) = wire.connection().await?;
        let mut heard = self.heard.lock().await;
        if heard.generation > generation {
            // Ours broke while we waited for our turn.
            return Ok(true);
        }
        if heard.generation < generation {
            heard.generation = generation;
            heard.names.clear();
        }
        if heard.names.contains(name.as_str()) {
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
    pub(super) async fn ignore(&self, wire: &Wire, name: &str) {
        let mut heard = self.heard.lock().await;
        // Whoever comes from here on hears of it anew, after us.
        if self.is_waited_for(name) {
            return;
        }
        let Ok((generation, mut connection)) = wire.connection().await else {
            return; // with the connection the subscription is gone
        };
        if heard.generation == generation && heard.names.contains(name) {
            match connection
                .unsubscribe([super::name::PREFIX, name].concat())
                .await
            {
                Ok(()) => drop(heard.names.remove(name)),
                Err(_) => wire.discard(generation),
            }
        }
    }

    /// What Redis said by itself. Answers the name of a lock that was given back and that nobody waits for.
    pub(super) fn on_push(&self, push: &PushInfo) -> Option<String> {
        match push.kind {
            PushKind::Message => {
                let Some(Value::BulkString(channel)) = push.data.first() else {
                    return None;
                };
                let name = Name::of_channel(channel)?;
                match self.by_name().get(name) {
                    Some(line) => line.place.woken.notify_one(),
                    None => return Some(name.to_owned()),
                }
            }
            PushKind::Disconnection => {
                for line in self.by_name().values() {
                    line.place.woken.notify_one();
                }
            }
            _ => {}
        }
        None
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut by_name = self.lines.by_name();
        if let Some(line) = by_name.get_mut(self.name.as_str()) {
            line.waiting -= 1;
            if line.waiting == 0 {
                by_name.remove(self.name.as_str());
            }
        }
    }
}
