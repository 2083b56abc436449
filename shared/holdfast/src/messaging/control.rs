//! The switches of a running consumer: pause it, and damage a message that it receives.
//!
//! Pausing is for operators: a queue that is not consumed keeps its messages while the fault behind it is looked at.
//! Damaging is for demonstrations and drills, as [`chaos`](super::chaos) is: it shows what happens to a message that a
//! mistake made unreadable.

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
    /// Returns the switches of one queue, and makes them if there are none.
    pub(super) fn of(&self, queue: &str) -> Control {
        self.lock().entry(queue.to_owned()).or_default().clone()
    }

    /// Returns the queues that have switches: those that the service consumes.
    pub fn queues(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Returns the queues that are paused.
    pub fn paused(&self) -> Vec<String> {
        let all = self.lock();
        let paused = all.iter().filter(|(_, control)| control.is_paused());
        paused.map(|(queue, _)| queue.clone()).collect()
    }

    /// Pauses a queue, or lets it go on; false if there is no such queue. A batch that has begun is finished;
    /// deliveries that have not return to the queue.
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

/// The most messages that may be waiting to be damaged: each costs a search of every payload.
const MOST: usize = 16;

/// The switches of one queue.
#[derive(Clone, Debug)]
pub(super) struct Control {
    paused: watch::Sender<bool>,
    /// The texts by which the messages to be damaged are found. A std lock: held for a look, never across an await.
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

    /// Waits until the queue is paused, or until it is not. Cancel safe.
    pub(super) async fn until(&self, paused: bool) {
        // Invariant: `self` holds the sender, so the channel is open.
        let _ = self.paused.subscribe().wait_for(|now| *now == paused).await;
    }

    /// Returns a damaged payload, in which a number has become text, if this message is one to be damaged.
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
    fn only_the_chosen_message_is_damaged_and_only_once() {
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
    async fn pause_and_its_end_wake_the_waiter() {
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
