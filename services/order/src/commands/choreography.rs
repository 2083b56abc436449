//! Orders whose services react to each other's events.

use chassis::{events::Publishing, tally::Tally};
use contracts::{
    order::{
        CancelReason, OrderCancelled, OrderCancelling, OrderConfirmed, OrderCreated, OrderSettling,
        Participant,
    },
    value::OrderId,
};
use holdfast::{messaging::Received, outbox};
use sqlx::PgConnection;
use tracing::{Instrument, info};

use super::{
    PUBLISHING,
    batch::Batch,
    by_operator::ByOperator,
    trace::{facts, unasked},
};
use crate::{
    config::WaitingSettings,
    domain::{Coordination, Decision, Effect, Fact, Input, Order, Undo, decide},
    error::Error,
    store::{self, NewOrder, Saved, StoredOrder},
};

/// An event, by its meaning to an order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) order: OrderId,
    pub(crate) input: Input,
}

/// Applies a batch of events: locks the orders in one order, folds the messages over them in memory, writes each
/// order once. Returns what to count once that is committed.
pub(crate) async fn apply_events(
    conn: &mut PgConnection,
    messages: &[&Received<Event>],
    waiting: &WaitingSettings,
) -> Result<Tally, Error> {
    let ids = messages.iter().map(|message| message.command.order);
    let mut batch = Batch::lock(conn, Coordination::Choreography, ids).await?;
    for message in messages {
        let Event { order: id, input } = message.command;
        let stored = batch.order(id)?;
        facts(stored).describe(&message.span);
        let Decision { order, effect } = decide(stored.order, input)?;
        let start_deadline = effect == Some(Effect::StartDeadline) && stored.deadline_at.is_none();
        let publish = match effect {
            Some(Effect::Publish(fact)) => {
                let publishing = PUBLISHING.because_of(&message.event);
                let row = || row(&publishing, stored, order, fact, None);
                Some(message.span.in_scope(row))
            }
            Some(Effect::StartDeadline) | None => None,
        };
        if order != stored.order || start_deadline {
            batch.change(Saved {
                id,
                order,
                was_confirmed: false,
                start_deadline,
            });
        }
        if let Some(row) = publish {
            batch.publish(row);
        }
    }
    batch.write(conn, waiting).await
}

/// Returns the message that starts a new order.
pub(super) fn begin(stored: &StoredOrder) -> outbox::Message {
    row(&PUBLISHING, stored, stored.order, Fact::Created, None)
}

/// Cancels a locked order for a reason.
pub(super) async fn cancel(
    conn: &mut PgConnection,
    stored: &mut StoredOrder,
    reason: CancelReason,
    waiting: &WaitingSettings,
) -> Result<(), Error> {
    let Decision { order, effect } = decide(stored.order, Input::Cancel(reason))?;
    if order != stored.order {
        let saved = Saved {
            id: stored.new.id,
            order,
            was_confirmed: false,
            start_deadline: false,
        };
        store::save(conn, &[saved], waiting.deadline(), waiting.sweep_after()).await?;
        stored.order = order;
    }
    if let Some(Effect::Publish(fact)) = effect {
        outbox::enqueue(conn, &[row(&PUBLISHING, stored, order, fact, None)]).await?;
    }
    Ok(())
}

/// Cancels up to `limit` pending orders whose deadline has passed. Returns how many.
pub(crate) async fn give_up_overdue(
    conn: &mut PgConnection,
    limit: i64,
    waiting: &WaitingSettings,
) -> Result<usize, Error> {
    let overdue = store::overdue(conn, limit).await?;
    let count = overdue.len();
    for mut stored in overdue {
        info!(order.id = %stored.new.id, "the deadline has passed");
        let span = unasked(&stored, "deadline");
        cancel(conn, &mut stored, CancelReason::Deadline, waiting)
            .instrument(span)
            .await?;
    }
    Ok(count)
}

/// Returns the messages that are resent because their answers are missing.
pub(super) fn resend(stored: &StoredOrder) -> Result<Vec<outbox::Message>, Error> {
    published(stored, Input::Sweep, None)
}

/// Returns the messages by which participants write off what they cannot undo.
pub(super) fn settle(
    stored: &StoredOrder,
    participants: &[Participant],
    by: &ByOperator<'_>,
) -> Result<Vec<outbox::Message>, Error> {
    let mut messages = Vec::new();
    for participant in participants {
        messages.extend(published(stored, Input::Settle(*participant), Some(by))?);
    }
    Ok(messages)
}

/// Returns what an input publishes without changing the order.
fn published(
    stored: &StoredOrder,
    input: Input,
    by: Option<&ByOperator<'_>>,
) -> Result<Vec<outbox::Message>, Error> {
    let Decision { order, effect } = decide(stored.order, input)?;
    Ok(match effect {
        Some(Effect::Publish(fact)) => vec![row(&PUBLISHING, stored, order, fact, by)],
        Some(Effect::StartDeadline) | None => Vec::new(),
    })
}

/// Returns the outbox row for a fact.
fn row(
    publishing: &Publishing<'_>,
    stored: &StoredOrder,
    order: Order,
    fact: Fact,
    by: Option<&ByOperator<'_>>,
) -> outbox::Message {
    let NewOrder {
        id: order_id,
        customer,
        lines,
        amount,
        payment,
        ..
    } = stored.new.clone();
    let order_version = order.version;
    match fact {
        Fact::Created => {
            let created = OrderCreated {
                order_id,
                order_version,
                customer,
                lines,
                amount,
                payment,
            };
            publishing.message(&created, "order/do")
        }
        Fact::Confirmed => publishing.message(
            &OrderConfirmed {
                order_id,
                order_version,
                customer,
                amount,
            },
            "order/confirm",
        ),
        Fact::Cancelling(reason) => publishing.message(
            &OrderCancelling {
                order_id,
                order_version,
                reason,
            },
            "order/undo",
        ),
        Fact::Settling(participant) => {
            let settling = OrderSettling {
                order_id,
                order_version,
                participants: vec![participant],
                operator: by.map(|by| by.operator.to_owned()).unwrap_or_default(),
                note: by.map(|by| by.note.to_owned()).unwrap_or_default(),
            };
            publishing.message(&settling, "order/settle")
        }
        Fact::Cancelled { reason, payment } => {
            let cancelled = OrderCancelled {
                order_id,
                order_version,
                reason,
                customer,
                amount,
                refunded: payment == Undo::Undone,
                settled: payment == Undo::Settled,
            };
            publishing.message(&cancelled, "order/cancel")
        }
    }
}
