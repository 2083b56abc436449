//! What a person does to a running consumer: pause it, and damage what comes in.
//!
//! Pausing is for operators: a queue that is not consumed keeps its messages, while what is wrong behind it is looked at.
//! Damaging is for demonstrations and drills, as [`chaos`](super::chaos) is: it shows what becomes of a message that
//! somebody's mistake made unreadable.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::watch;

/// The switches of a service's queues. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Controls(Arc<Mutex<BTreeMap<String, Control>>>);

impl Controls {
    /// The switches of one queue, made if there are none.
    pub(super) fn of(&self, queue: &str) -> Control {
        self.lock().entry(queue.to_owned()).or_default().clone()
    }

    /// The queues that have switches: those that the service consumes.
    pub fn queues(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// The queues that are paused.
    pub fn paused(&self) -> Vec<String> {
        let all = self.lock();
        let paused = all.iter().filter(|(_, control)| control.is_paused());
        paused.map(|(queue, _)| queue.clone()).collect()
    }

    /// Pauses a queue, or lets it go on; false if there is no such queue. What was handed over and not begun goes back to
    /// the queue; what was begun is finished.
    pub fn pause(&self, queue: &str, pause: bool) -> bool {
        let all = self.lock();
        let control = all.get(queue);
        control
            .inspect(|control| {
                control.paused.send_replace(pause);
            })
            .is_some()
    }

    /// Damages the next message whose payload contains this text; false if there is no such queue.
    pub fn damage(&self, queue: &str, containing: &str) -> bool {
        let all = self.lock();
        let control = all.get(queue);
        control
            .inspect(|control| {
                let mut wanted = lock(&control.damage);
                if wanted.len() == MOST {
                    wanted.remove(0);
                }
                wanted.push(containing.to_owned());
            })
            .is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Control>> {
        lock(&self.0)
    }
}

/// More messages than this are not waited for at a time: each costs a search of every payload.
const MOST: usize = 16;

/// The switches of one queue.
#[derive(Clone, Debug)]
pub(super) struct Control {
    paused: watch::Sender<bool>,
    /// What the messages to be damaged contain. A std lock: held for a look, never across an await.
    damage: Arc<Mutex<Vec<String>>>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            paused: watch::Sender::new(false),
            damage: Arc::default(),
        }
    }
}

impl Control {
    pub(super) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Waits until it is paused, or is not. Cancel safe.
    pub(super) async fn until(&self, paused: bool) {
        // Invariant: `self` holds the sender, so the channel is open.
        let _ = self.paused.subscribe().wait_for(|now| *now == paused).await;
    }

    /// The payload as it is to be read, if this is a message to be damaged: a number in it is none any more.
    pub(super) fn damaged(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut wanted = lock(&self.damage);
        if wanted.is_empty() {
            return None;
        }
        let text = str::from_utf8(payload).ok()?;
        let index = wanted.iter().position(|part| text.contains(part))?;
        let mut value: Value = serde_json::from_str(text).ok()?;
        let number = value
            .as_object_mut()?
            .values_mut()
            .find(|field| field.is_number())?;
        *number = Value::String(format!("{number}?"));
        wanted.remove(index);
        Some(value.to_string().into_bytes())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_damaged_and_only_once() {
        let controls = Controls::default();
        let control = controls.of("q");
        let message = br#"{"customer":{"id":"mallory"},"version":1}"#;
        assert_eq!(control.damaged(message), None);
        assert!(controls.damage("q", "mallory"));
        assert!(!controls.damage("another", "mallory"));
        assert_eq!(
            control.damaged(br#"{"customer":"alice","version":1}"#),
            None
        );
        let damaged = control.damaged(message).expect("it was asked for");
        let damaged: Value = serde_json::from_slice(&damaged).expect("still JSON");
        assert_eq!(damaged["version"], "1?");
        assert_eq!(damaged["customer"]["id"], "mallory");
        assert_eq!(control.damaged(message), None);
    }

    #[tokio::test]
    async fn a_pause_is_seen_by_who_waits_for_it() {
        let controls = Controls::default();
        let control = controls.of("q");
        assert!(controls.pause("q", true));
        assert_eq!(controls.paused(), ["q"]);
        control.until(true).await;
        assert!(controls.pause("q", false));
        control.until(false).await;
        assert!(!controls.pause("another", true));
        assert_eq!(controls.queues(), ["q"]);
    }
}
