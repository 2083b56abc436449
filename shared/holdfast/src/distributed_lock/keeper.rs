//! Renews every lock that is held for long, with one timer for all of them.
//!
//! Most locks are released before a third of their time to live is over. Such a lock costs an entry in a map and
//! nothing else: no task, no timer of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{Inner, lease::Held, script};
use crate::backoff::Backoff;

/// The locks of this process, by the time at which each is to be renewed.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    schedule: Mutex<Schedule>,
    /// Notified when a lock is due before `sleeps_until`.
    sooner: Notify,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Schedule {
    /// The locks by due time. The keeper takes out those that it is renewing.
    due: BTreeMap<(Instant, Uuid), Arc<Held>>,
    /// The time at which the keeper wakes at the latest. A lock that is due later need not notify it.
    sleeps_until: Option<Instant>,
}

impl Keeper {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // Each change is one insertion or one removal: a panic cannot leave it half done.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Schedules the lock's next renewal.
    pub(super) fn keep(&self, held: &Arc<Held>) {
        let mut schedule = self.schedule();
        let Some(due) = held.next_renewal() else {
            return;
        };
        schedule.due.insert((due, held.token), Arc::clone(held));
        if schedule.sleeps_until.is_none_or(|until| due < until) {
            schedule.sleeps_until = Some(due);
            drop(schedule);
            self.sooner.notify_one();
        }
    }

    /// Ends the lock's renewals, because it was released or lost. Returns false if they had ended before.
    pub(super) fn forget(&self, held: &Held) -> bool {
        let mut schedule = self.schedule();
        let due = held.end();
        if let Some(due) = due {
            schedule.due.remove(&(due, held.token));
        }
        due.is_some()
    }

    /// Takes out the locks that are due, and returns the time of the next wake-up.
    pub(super) fn take_due(&self, now: Instant) -> (Vec<Arc<Held>>, Option<Instant>) {
        let mut schedule = self.schedule();
        let later = schedule.due.split_off(&(now, Uuid::max()));
        let due = std::mem::replace(&mut schedule.due, later);
        // If no lock is left because the one that set the wake-up was released, the wake-up stays: the next lock to be
        // added is due later, and need not notify the keeper.
        let next = schedule.due.keys().next().map(|(due, _)| *due);
        schedule.sleeps_until = next.or(schedule.sleeps_until.filter(|until| *until > now));
        (due.into_values().collect(), schedule.sleeps_until)
    }

    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Renews locks until the keeper is closed.
    pub(super) async fn run(self: Arc<Self>, locks: Weak<Inner>) {
        loop {
            let (due, next) = self.take_due(Instant::now());
            for held in due {
                let Some(locks) = locks.upgrade() else {
                    return;
                };
                tokio::spawn(renew(locks, held));
            }
            let slept = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = self.sooner.notified() => {}
                () = slept => {}
            }
        }
    }
}

/// Renews one lock, or notifies its holder that it is lost.
async fn renew(locks: Arc<Inner>, held: Arc<Held>) {
    let delays = Backoff::new(held.ttl / 60, held.ttl / 10).expect("a time to live is long");
    let renewed = timeout_at(held.until(), async {
        let mut delays = delays.delays();
        loop {
            // Read before sending: the time until the reply must not count as held.
            let sent = Instant::now();
            match script::extend(&locks.wire, &held.name, held.token, held.ttl).await {
                Ok(true) => return Some(sent),
                Ok(false) => return None,
                Err(error) => debug!(lock = %held.name, %error, "renewal failed; retrying"),
            }
            delays.wait().await;
        }
    })
    .await;
    let why = match renewed {
        Ok(Some(sent)) => {
            locks.meter.renewed.increment(1);
            held.prolonged(sent);
            held.renew_after(sent);
            locks.keeper.keep(&held);
            return;
        }
        Ok(None) => "Redis no longer knows the lock",
        Err(_) => "Redis did not answer in time",
    };
    locks.lose(&held, why);
}

impl Inner {
    /// Notifies the holder that the lock is lost, unless it was released meanwhile.
    pub(super) fn lose(&self, held: &Held, why: &str) {
        if self.keeper.forget(held) {
            self.meter.lost.increment(1);
            warn!(lock = %held.name, fence = %held.fence, why, "lost a lock");
            held.lost().cancel();
            // Another process may hold it now, and its lock has no flag from our waiters: the first in line requests it
            // again.
            self.lines.wake(held.name.key());
        }
    }
}
