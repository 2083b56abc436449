//! The room: the board, and the feed to whoever watches.

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

use crate::domain::{Board, Entry, News, Step, View};

/// Orders that a watcher is shown, in number.
pub(crate) const SHOWN: usize = 50;
/// How far a slow watcher may fall behind, in frames, before it is shown everything anew.
const BEHIND: usize = 256;
/// How long nothing may be heard of an order in flight before the order service is asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// Something to tell whoever watches: an event's name, and its data as JSON.
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

/// What the room knows, and who watches.
pub(crate) struct Room {
    /// A std lock: held for a look or a change, never across an await.
    board: Mutex<Board>,
    feed: broadcast::Sender<Frame>,
    /// The last frame of each kind that tells how things stand: what a new watcher is told at once.
    standing: Mutex<BTreeMap<&'static str, Frame>>,
    /// Something was done, or somebody began to watch: look now, and do not wait for the next time.
    attention: Notify,
    /// The board may have missed something: it is to be filled anew.
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

    /// Begins to watch: what comes from now on, and how things stand.
    pub(crate) fn watch(&self) -> (broadcast::Receiver<Frame>, Vec<Frame>) {
        // First the feed, then the snapshot: what changes in between is told twice, and never not at all.
        let feed = self.feed.subscribe();
        let mut frames = vec![self.snapshot()];
        frames.extend(self.standing().values().cloned());
        self.attention.notify_waiters();
        (feed, frames)
    }

    /// Whether anybody watches. Nobody else's time is spent for nobody.
    pub(crate) fn is_watched(&self) -> bool {
        self.feed.receiver_count() > 0
    }

    /// Something was done: look how things stand now.
    pub(crate) fn attend(&self) {
        self.attention.notify_waiters();
    }

    /// Waits until it is worth looking again: for `pause`, or less if something was done; and until somebody watches.
    pub(crate) async fn look_again(&self, pause: Duration) {
        self.until(pause, || self.is_watched()).await;
    }

    /// As [`Self::look_again`]; a board that is to be filled anew is worth it also when nobody watches.
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
            // Made before the look: whoever comes after it wakes this up.
            let attention = self.attention.notified();
            if worth_it() {
                return;
            }
            attention.await;
        }
    }

    /// The newest orders.
    pub(crate) fn snapshot(&self) -> Frame {
        let orders = self.board().newest(SHOWN);
        Frame::new("snapshot", &json!({ "orders": orders }))
    }

    /// Tells everybody how things stand, and everybody who comes later.
    pub(crate) fn tell(&self, event: &'static str, data: &impl Serialize) {
        let frame = Frame::new(event, data);
        self.standing().insert(event, frame.clone());
        // An error means that nobody watches.
        let _ = self.feed.send(frame);
    }

    /// Tells what has changed on the board since the last time.
    pub(crate) fn tell_changes(&self) {
        let changed = self.board().take_changed(SHOWN);
        if self.is_watched() {
            for order in changed {
                let _ = self.feed.send(Frame::new("order", &order));
            }
        }
    }

    /// Events were missed, or may have been: the board is to be filled anew.
    pub(crate) fn lost_sight(&self) {
        self.stale.store(true, Ordering::Release);
        self.attention.notify_waiters();
    }

    /// Whether the board is to be filled anew; not any more after that.
    pub(crate) fn take_stale(&self) -> bool {
        self.stale.swap(false, Ordering::AcqRel)
    }

    /// The board was filled anew: everybody is shown it.
    pub(crate) fn filled(&self) {
        self.board().take_changed(SHOWN);
        let _ = self.feed.send(self.snapshot());
    }

    /// Takes a message in.
    pub(crate) fn hear(
        &self,
        order: Uuid,
        coordination: &str,
        step: Step,
        trace_id: Option<String>,
        news: News,
    ) {
        let now = OffsetDateTime::now_utc();
        self.board()
            .hear(order, coordination, step, trace_id, news, now);
    }

    /// Takes in what the order service says of an order.
    pub(crate) fn read(&self, view: View, timeline: Vec<Entry>) {
        self.board().read(view, timeline, OffsetDateTime::now_utc());
    }

    /// The order service was asked for this one, in vain.
    pub(crate) fn asked(&self, order: Uuid) {
        self.board().asked(order, OffsetDateTime::now_utc());
    }

    /// Orders of which the order service should be asked.
    pub(crate) fn wants(&self, most: usize) -> Vec<Uuid> {
        self.board()
            .wants(OffsetDateTime::now_utc(), PATIENCE, most)
    }

    /// These are stuck, and no others.
    pub(crate) fn stuck(&self, stuck: BTreeSet<Uuid>) {
        self.board().stuck(stuck);
    }
}
