//! The participants of the example `saga`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use holdfast::{
    outbox::{Message, Outcome as Published, Publisher, Unavailable},
    saga::{Answer, Heard, Key, Outcome},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Command;

/// The behaviour of the participants.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum World {
    Well,
    OutOfStock,
    AnswerLost,
    RefundRefused,
}

/// Payment, inventory and the other services, and the broker between.
#[derive(Clone)]
pub(crate) struct Participants {
    world: Arc<Mutex<World>>,
    /// The replies to commands that were carried out, by the command's key. Kept for ever, so that a repeated command
    /// is carried out once.
    did: Arc<Mutex<HashMap<String, Answer>>>,
    answer: mpsc::UnboundedSender<(Uuid, Heard)>,
}

impl Publisher for Participants {
    async fn ready(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn publish(&self, batch: &[Message]) -> Vec<Published> {
        for message in batch {
            self.take(message);
        }
        vec![Published::Confirmed; batch.len()]
    }
}

impl Participants {
    /// Returns participants that have done nothing yet, and reply through `answer`.
    pub(crate) fn new(answer: mpsc::UnboundedSender<(Uuid, Heard)>) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::Well)),
            did: Arc::default(),
            answer,
        }
    }

    pub(crate) fn is_now(&self, world: World) {
        *self.world.lock().expect("nobody panics with it") = world;
    }

    /// Carries a command out, and replies to it or not.
    fn take(&self, message: &Message) {
        let (key, attempt) = (&message.headers["key"], &message.headers["attempt"]);
        let asks: Key = key.parse().expect("it was written by `dispatch`");
        let asked = format!("{}/{}", asks.step, asks.direction.name());
        let command: Command =
            serde_json::from_slice(&message.payload).expect("it was written by `dispatch`");
        let world = *self.world.lock().expect("nobody panics with it");

        let mut did = self.did.lock().expect("nobody panics with it");
        let (outcome, answer) = if let Some(before) = did.get(key) {
            println!("   {asked:<13} attempt {attempt}: done before");
            (Outcome::Done, before.clone())
        } else {
            let (outcome, answer) = perform(&command, world);
            println!("   {asked:<13} attempt {attempt}: {answer}");
            if outcome == Outcome::Done {
                did.insert(key.clone(), answer.clone());
            }
            (outcome, answer)
        };
        let is_lost = world == World::AnswerLost && asked == "charge/do" && attempt == "1";
        if is_lost {
            println!("                 the reply is lost");
            return;
        }
        let heard = Heard::Reply {
            step: asks.step,
            direction: asks.direction,
            outcome,
            answer,
        };
        // If the program has stopped: a real broker would keep the reply until its next start.
        let _ = self.answer.send((asks.saga, heard));
    }
}

/// Carries a command out. A refusal is final: it is not done, and never will be.
fn perform(command: &Command, world: World) -> (Outcome, Answer) {
    let done = |kind: &str| (Outcome::Done, Answer::new(kind));
    match command {
        Command::Charge { .. } => done("payment.completed"),
        Command::Refund if world == World::RefundRefused => (
            Outcome::Refused,
            Answer::new("payment.refund_failed").because("account closed"),
        ),
        Command::Refund => done("payment.refunded"),
        Command::Reserve { .. } if matches!(world, World::OutOfStock | World::RefundRefused) => (
            Outcome::Refused,
            Answer::new("inventory.rejected").because("out_of_stock"),
        ),
        Command::Reserve { .. } => done("inventory.reserved"),
        Command::Release => done("inventory.released"),
        Command::Confirm => done("order.confirmed"),
        Command::Tell => done("notification.queued"),
    }
}
