//! The switch that pauses a running consumer.
//!
//! A queue that is not consumed keeps its messages while an operator looks into a fault.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

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

    /// Pauses a queue, or resumes it; returns false if there is no such queue. A batch that has begun is finished;
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Control>> {
        lock(&self.0)
    }
}

/// The switches of one queue.
#[derive(Clone, Debug)]
pub(super) struct Control {
    paused: watch::Sender<bool>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            paused: watch::Sender::new(false),
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

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
