//! Two consumers: requests to start and cancel sagas, and replies of participants.

use std::sync::Arc;

use chassis::{
    events::{decode, key_of, source_of},
    tally::Tally,
};
use contracts::{
    Message,
    inventory::{
        InventoryCommitted, InventoryNothingToUndo, InventoryRejected, InventoryReleased,
        InventoryReserved, InventorySettled,
    },
    notification::NotificationQueued,
    order::{
        CancelRequested, ConfirmRejected, OrderCancelled, OrderCompleted, OrderConfirmed, Saga,
        StartSaga,
    },
    payment::{
        PaymentCompleted, PaymentDeclined, PaymentNothingToUndo, PaymentRefunded, PaymentSettled,
    },
    value::OrderId,
};
use holdfast::{
    failpoint,
    messaging::{Error, Handler, Incoming, Received, Undecodable},
    outbox::Waker,
    saga::{Answer, Heard, Key, Outcome},
};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    commands::{self, Reply, Request, Sagas},
    domain::{participant, saga_id},
};

/// The queue of requests to start or cancel a saga.
pub(crate) const COMMANDS: &str = "orchestrator.commands";
/// The queue of participants' replies.
pub(crate) const REPLIES: &str = "orchestrator.replies";

/// The handler of requests from the order service.
pub(crate) struct Requests {
    pub(crate) sagas: Arc<Sagas>,
    pub(crate) waker: Waker,
}

impl Handler for Requests {
    type Command = Request;
    type Effect = Tally;

    fn decode(&self, event: &Incoming) -> Result<Request, Undecodable> {
        request(event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Request>],
    ) -> Result<Tally, Error> {
        for message in batch {
            failpoint::inject("orchestrator.handle", &message.event.subject)?;
        }
        Ok(commands::apply_requests(conn, &self.sagas, batch).await?)
    }

    fn committed(&self, effect: Option<Tally>) {
        if let Some(tally) = effect {
            tally.count();
        }
        self.waker.wake();
    }
}

/// The handler of participants' replies.
pub(crate) struct Replies {
    pub(crate) sagas: Arc<Sagas>,
    pub(crate) waker: Waker,
}

impl Handler for Replies {
    type Command = Reply;
    type Effect = Tally;

    fn decode(&self, event: &Incoming) -> Result<Reply, Undecodable> {
        reply(event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Reply>],
    ) -> Result<Tally, Error> {
        for message in batch {
            failpoint::inject("orchestrator.handle", &message.event.subject)?;
        }
        Ok(commands::apply_replies(conn, &self.sagas, batch).await?)
    }

    fn committed(&self, effect: Option<Tally>) {
        if let Some(tally) = effect {
            tally.count();
        }
        self.waker.wake();
    }
}

fn request(event: &Incoming) -> Result<Request, Undecodable> {
    Ok(match event.kind.as_str() {
        StartSaga::TYPE => Request::Start(Box::new(decode(event)?)),
        CancelRequested::TYPE => {
            let CancelRequested {
                order_id, reason, ..
            } = decode(event)?;
            Request::Cancel {
                order: order_id,
                reason: word(&reason),
            }
        }
        other => return Err(Undecodable::UnknownType(other.to_owned())),
    })
}

/// Decodes a reply. It finds its saga and step by the key of the command that it replies to.
fn reply(event: &Incoming) -> Result<Reply, Undecodable> {
    let (order, outcome, detail) = said(event)?;
    let Key {
        saga,
        step,
        direction,
    } = replied_to(event, order)?;
    let (kind, _version) = event.kind.rsplit_once('.').unwrap_or((&event.kind, ""));
    let answer = Answer {
        kind: kind.to_owned(),
        detail,
    };
    Ok(Reply {
        saga,
        heard: Heard::Reply {
            step,
            direction,
            outcome,
            answer,
        },
    })
}

/// Decodes a reply's order, its outcome, and the reason of a refusal.
fn said(event: &Incoming) -> Result<(OrderId, Outcome, Option<String>), Undecodable> {
    /// Decodes the payload as `M`. Only the order's id is needed.
    fn order<M: Message>(event: &Incoming) -> Result<OrderId, Undecodable> {
        decode::<M>(event).map(|message| message.order_id())
    }
    let done = |order| (order, Outcome::Done, None);
    Ok(match event.kind.as_str() {
        PaymentCompleted::TYPE => done(order::<PaymentCompleted>(event)?),
        PaymentDeclined::TYPE => {
            let PaymentDeclined {
                order_id, reason, ..
            } = decode(event)?;
            (order_id, Outcome::Refused, Some(word(&reason)))
        }
        PaymentRefunded::TYPE => done(order::<PaymentRefunded>(event)?),
        PaymentNothingToUndo::TYPE => done(order::<PaymentNothingToUndo>(event)?),
        PaymentSettled::TYPE => done(order::<PaymentSettled>(event)?),
        InventoryReserved::TYPE => done(order::<InventoryReserved>(event)?),
        InventoryRejected::TYPE => {
            let InventoryRejected {
                order_id, reason, ..
            } = decode(event)?;
            (order_id, Outcome::Refused, Some(word(&reason)))
        }
        InventoryCommitted::TYPE => done(order::<InventoryCommitted>(event)?),
        InventoryReleased::TYPE => done(order::<InventoryReleased>(event)?),
        InventoryNothingToUndo::TYPE => done(order::<InventoryNothingToUndo>(event)?),
        InventorySettled::TYPE => done(order::<InventorySettled>(event)?),
        OrderConfirmed::TYPE => done(order::<OrderConfirmed>(event)?),
        ConfirmRejected::TYPE => {
            let ConfirmRejected {
                order_id, reason, ..
            } = decode(event)?;
            (order_id, Outcome::Refused, Some(word(&reason)))
        }
        OrderCompleted::TYPE => done(order::<OrderCompleted>(event)?),
        OrderCancelled::TYPE => done(order::<OrderCancelled>(event)?),
        NotificationQueued::TYPE => done(order::<NotificationQueued>(event)?),
        other => return Err(Undecodable::UnknownType(other.to_owned())),
    })
}

/// Returns the key of the command that a reply about `order` answers. Errors if the command was not about that order,
/// or went to another service.
fn replied_to(event: &Incoming, order: OrderId) -> Result<Key, Undecodable> {
    let key = key_of(event)?;
    let malformed =
        |why: String| Undecodable::Malformed(format!("cloudEvents_idempotencykey {key:?}: {why}"));
    let command: Key = key
        .parse()
        .map_err(|error: holdfast::saga::InvalidKey| malformed(error.to_string()))?;
    if ![Saga::PlaceOrder, Saga::UndoOrder]
        .iter()
        .any(|of| saga_id(order, *of) == command.saga)
    {
        return Err(malformed(format!("its saga is not one of order {order}")));
    }
    // A step that does not exist is reported when the reply is applied to its saga.
    if participant(&command.step).is_some_and(|asked| source_of(&event.kind) != Some(asked)) {
        return Err(Undecodable::Violation(format!(
            "cloudEvents_idempotencykey {key:?}: {} does not carry out the step {}",
            event.source, command.step
        )));
    }
    Ok(command)
}

/// Returns a reason as it is on the wire.
fn word(reason: &impl Serialize) -> String {
    let value = serde_json::to_value(reason).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
