//! The state of the control room: the board of recent orders, and the feed of its changes to the watchers, which are
//! the clients of the stream.

mod drills;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use holdfast::backoff;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

pub(crate) use drills::DrillBox;

use crate::domain::{Board, Change, Entry, Step, View};

/// The number of orders that a snapshot has.
pub(crate) const SHOWN: usize = 50;
/// The number of frames by which a watcher may fall behind. A slower one gets a new snapshot.
const BEHIND: usize = 256;
/// The time without a message about an order in flight after which the order is read from the order service.
const PATIENCE: Duration = Duration::from_secs(3);

/// A server-sent event for the watchers: its name, and its data as JSON.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) event: &'static str,
    pub(crate) data: Arc<str>,
}

impl Frame {
    fn new(event: &'static str, data: &impl Serialize) -> Self {
        // Invariant: plain data, which always serializes.
        let data = serde_json::to_string(data).unwrap_or_default().into();
        Self { event, data }
    }
}

/// The room's state: the board, and the watchers' feed.
pub(crate) struct Room {
    /// A std lock: held for one read or change, never across an await.
    board: Mutex<Board>,
    feed: broadcast::Sender<Frame>,
    /// The last frame of each event that describes a current state. A new watcher gets them at once.
    standing: Mutex<BTreeMap<&'static str, Frame>>,
    /// Ends the workers' pauses early: a visitor changed something, a watcher came, or messages were missed.
    attention: Notify,
    /// Set when the board may have missed messages. Cleared when a worker begins to fill the board again.
    stale: AtomicBool,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            board: Mutex::default(),
            feed: broadcast::Sender::new(BEHIND),
            standing: Mutex::default(),
            attention: Notify::new(),
            stale: AtomicBool::new(true),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self) -> MutexGuard<'_, BTreeMap<&'static str, Frame>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a watcher. Returns the feed from now on, and the frames that describe the current state.
    pub(crate) fn watch(&self) -> (broadcast::Receiver<Frame>, Vec<Frame>) {
        // The feed before the snapshot: a change in between is sent twice, instead of being lost.
        let feed = self.feed.subscribe();
        let mut frames = vec![self.snapshot()];
        frames.extend(self.standing().values().cloned());
        self.attention.notify_waiters();
        (feed, frames)
    }

    /// Returns true while there is a watcher. The services are not polled without one.
    pub(crate) fn is_watched(&self) -> bool {
        self.feed.receiver_count() > 0
    }

    /// Ends the workers' pauses, because a visitor has changed something.
    pub(crate) fn attend(&self) {
        self.attention.notify_waiters();
    }

    /// Waits for `pause`, or until the pause is ended early, and then until there is a watcher.
    pub(crate) async fn look_again(&self, pause: Duration) {
        self.until(pause, || self.is_watched()).await;
    }

    /// Waits as [`Self::look_again`] does, but a stale board needs no watcher.
    pub(crate) async fn look_at_orders_again(&self, pause: Duration) {
        self.until(pause, || {
            self.is_watched() || self.stale.load(Ordering::Acquire)
        })
        .await;
    }

    async fn until(&self, pause: Duration, worth_it: impl Fn() -> bool) {
        tokio::select! {
            () = self.attention.notified() => {}
            () = backoff::pause(pause) => {}
        }
        loop {
            // Created before the check, so that a watcher that comes after the check ends this wait.
            let attention = self.attention.notified();
            if worth_it() {
                return;
            }
            attention.await;
        }
    }

    /// Returns a frame of the newest orders.
    pub(crate) fn snapshot(&self) -> Frame {
        let orders = self.board().newest(SHOWN);
        Frame::new("snapshot", &json!({ "orders": orders }))
    }

    /// Sends a frame that describes a current state to every watcher, and keeps it for those that come later.
    pub(crate) fn tell(&self, event: &'static str, data: &impl Serialize) {
        let frame = Frame::new(event, data);
        self.standing().insert(event, frame.clone());
        // An error means that there is no watcher.
        let _ = self.feed.send(frame);
    }

    /// Sends the orders that have changed since the last call.
    pub(crate) fn tell_changes(&self) {
        let changed = self.board().take_changed(SHOWN);
        if self.is_watched() {
            for order in changed {
                let _ = self.feed.send(Frame::new("order", &order));
            }
        }
    }

    /// Marks the board as stale, because messages may have been missed, and ends the workers' pauses.
    pub(crate) fn lost_sight(&self) {
        self.stale.store(true, Ordering::Release);
        self.attention.notify_waiters();
    }

    /// Returns true if the board is stale, and clears the mark.
    pub(crate) fn take_stale(&self) -> bool {
        self.stale.swap(false, Ordering::AcqRel)
    }

    /// Sends a snapshot of the board, which was filled again, to every watcher.
    pub(crate) fn filled(&self) {
        self.board().take_changed(SHOWN);
        let _ = self.feed.send(self.snapshot());
    }

    /// Applies a message to the board.
    pub(crate) fn hear(
        &self,
        order: Uuid,
        coordination: &str,
        step: Step,
        trace_id: Option<String>,
        change: Change,
    ) {
        let now = OffsetDateTime::now_utc();
        self.board()
            .hear(order, coordination, step, trace_id, change, now);
    }

    /// Applies the order service's view of an order to the board.
    pub(crate) fn read(&self, view: View, timeline: Vec<Entry>) {
        self.board().read(view, timeline, OffsetDateTime::now_utc());
    }

    /// Records that this order could not be read from the order service.
    pub(crate) fn asked(&self, order: Uuid) {
        self.board().asked(order, OffsetDateTime::now_utc());
    }

    /// Returns the orders to read from the order service, at most `most`.
    pub(crate) fn wants(&self, most: usize) -> Vec<Uuid> {
        self.board()
            .wants(OffsetDateTime::now_utc(), PATIENCE, most)
    }

    /// Replaces the set of stuck orders.
    pub(crate) fn stuck(&self, stuck: BTreeSet<Uuid>) {
        self.board().stuck(stuck);
    }
}
