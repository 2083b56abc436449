//! What the page orders to be drilled: one at a time.

use std::sync::Arc;

use load_tests::drill::Drill;
use tokio::sync::{
    Semaphore,
    mpsc::{Receiver, Sender, channel},
};

/// Where the page leaves what is to be drilled.
#[derive(Clone)]
pub(crate) struct DrillBox {
    sender: Sender<Drill>,
    /// The right to have a drill carried out: there is one.
    turn: Arc<Semaphore>,
}

impl DrillBox {
    /// An empty box; where its orders come out; and the turn, to be given back after each.
    pub(crate) fn new() -> (Self, Receiver<Drill>, Arc<Semaphore>) {
        let (sender, orders) = channel(1);
        let turn = Arc::new(Semaphore::new(1));
        let new = Self {
            sender,
            turn: Arc::clone(&turn),
        };
        (new, orders, turn)
    }

    /// Whether it was taken: not while a drill runs.
    pub(crate) fn place(&self, drill: Drill) -> bool {
        let Ok(turn) = self.turn.try_acquire() else {
            return false;
        };
        if self.sender.try_send(drill).is_err() {
            return false;
        }
        // Given back when the drill is over.
        turn.forget();
        true
    }
}
