//! The mailbox for drills that the page starts, one at a time.

use std::sync::Arc;

use load_tests::drill::Drill;
use tokio::sync::{
    Semaphore,
    mpsc::{Receiver, Sender, channel},
};

/// A mailbox for the next drill, which is refused while another one runs.
#[derive(Clone)]
pub(crate) struct DrillBox {
    sender: Sender<Drill>,
    /// The right to start a drill: one permit, or none while a drill runs.
    turn: Arc<Semaphore>,
}

impl DrillBox {
    /// Returns an empty box, the receiver of its drills, and the semaphore to which the receiver adds a permit after
    /// each drill.
    pub(crate) fn new() -> (Self, Receiver<Drill>, Arc<Semaphore>) {
        let (sender, orders) = channel(1);
        let turn = Arc::new(Semaphore::new(1));
        let new = Self {
            sender,
            turn: Arc::clone(&turn),
        };
        (new, orders, turn)
    }

    /// Hands over a drill. Returns false, and drops it, while another one runs.
    pub(crate) fn place(&self, drill: Drill) -> bool {
        let Ok(turn) = self.turn.try_acquire() else {
            return false;
        };
        if self.sender.try_send(drill).is_err() {
            return false;
        }
        // The receiver adds it again when the drill is over.
        turn.forget();
        true
    }
}
