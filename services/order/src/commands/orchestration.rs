//! Orders that the orchestrator carries out: it sends commands to each service in turn, this service among them.

use chassis::{
    events::{ORCHESTRATOR, Publishing, idempotency_key},
    tally::Tally,
};
use contracts::{
    order::{
        CancelReason, CancelRequested, ConfirmRejected, OrderCancelled, OrderCompleted,
        OrderConfirmed, Saga, StartSaga,
    },
    value::OrderId,
};
use holdfast::{messaging::Received, outbox};
use sqlx::PgConnection;

use super::{PUBLISHING, batch::Batch, trace::facts};
use crate::{
    config::WaitingSettings,
    domain::{
        Coordination, Order, Undo,
        orchestrated::{Answer, Decision, Input, Reply, decide},
    },
    error::Error,
    store::{self, NewOrder, Saved, StoredOrder},
};

/// A command of the orchestrator to an order.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) order: OrderId,
    pub(crate) input: Input,
    /// The command's idempotency key, which the reply carries, too.
    pub(crate) key: String,
}

/// Applies a batch of commands, as [`apply_events`](super::apply_events) does with events, and replies to each. Returns
/// what to count once that is committed.
pub(crate) async fn apply_commands(
    conn: &mut PgConnection,
    messages: &[&Received<Command>],
    waiting: &WaitingSettings,
) -> Result<Tally, Error> {
    let ids = messages.iter().map(|message| message.command.order);
    let mut batch = Batch::lock(conn, Coordination::Orchestration, ids).await?;
    for Received {
        event,
        command,
        span,
    } in messages
    {
        let stored = batch.order(command.order)?;
        facts(stored).describe(span);
        let decision = decide(stored.order, stored.was_confirmed, command.input)?;
        let reply = decision.reply.map(|reply| {
            let publishing = PUBLISHING.because_of(event);
            span.in_scope(|| answer(&publishing, stored, reply, &command.key))
        });
        // `was_confirmed` changes only together with the order.
        if decision.order != stored.order {
            batch.change(saved(stored, &decision));
        }
        if let Some(reply) = reply {
            batch.publish(reply);
        }
    }
    batch.write(conn, waiting).await
}

/// Returns the message that starts a new order's saga.
pub(super) fn begin(stored: &StoredOrder) -> outbox::Message {
    start(stored, stored.order, Saga::PlaceOrder)
}

/// Cancels a locked order for a reason.
pub(super) async fn cancel(
    conn: &mut PgConnection,
    stored: &mut StoredOrder,
    reason: CancelReason,
    waiting: &WaitingSettings,
) -> Result<(), Error> {
    let decision = decide(
        stored.order,
        stored.was_confirmed,
        Input::AskedToCancel(reason),
    )?;
    if decision.order != stored.order {
        let saved = saved(stored, &decision);
        store::save(conn, &[saved], waiting.deadline(), waiting.sweep_after()).await?;
        stored.order = decision.order;
        stored.was_confirmed = decision.was_confirmed;
    }
    outbox::enqueue(conn, &requests(stored, &decision)).await?;
    Ok(())
}

/// Returns the messages that are resent to the orchestrator.
pub(super) fn resend(stored: &StoredOrder) -> Result<Vec<outbox::Message>, Error> {
    let decision = decide(stored.order, stored.was_confirmed, Input::Sweep)?;
    Ok(requests(stored, &decision))
}

fn saved(stored: &StoredOrder, decision: &Decision) -> Saved {
    Saved {
        id: stored.new.id,
        order: decision.order,
        was_confirmed: decision.was_confirmed,
        start_deadline: false,
    }
}

/// Returns the requests to the orchestrator: first to start a saga, then to give one up.
fn requests(stored: &StoredOrder, decision: &Decision) -> Vec<outbox::Message> {
    let order = decision.order;
    let start = decision.start.map(|saga| start(stored, order, saga));
    let give_up = decision.give_up.map(|reason| {
        let id = stored.new.id;
        let requested = CancelRequested {
            order_id: id,
            order_version: order.version,
            reason,
        };
        let key = idempotency_key(id, "cancel_requested");
        PUBLISHING.command(&requested, ORCHESTRATOR, key)
    });
    start.into_iter().chain(give_up).collect()
}

/// Returns the outbox row that requests a saga.
fn start(stored: &StoredOrder, order: Order, saga: Saga) -> outbox::Message {
    let NewOrder {
        id: order_id,
        customer,
        lines,
        amount,
        payment,
        ..
    } = stored.new.clone();
    // The version that led to the saga, also if the order has changed when the saga is requested again.
    let (step, order_version) = match saga {
        Saga::PlaceOrder => ("place_order", Order::NEW.version),
        Saga::UndoOrder => ("undo_order", order.version),
    };
    let start = StartSaga {
        order_id,
        order_version,
        saga,
        customer,
        lines,
        amount,
        payment,
    };
    PUBLISHING.command(&start, ORCHESTRATOR, idempotency_key(order_id, step))
}

/// Returns the outbox row of the reply to a command.
fn answer(
    publishing: &Publishing<'_>,
    stored: &StoredOrder,
    Reply { answer, version }: Reply,
    key: &str,
) -> outbox::Message {
    let order_id = stored.new.id;
    let order_version = version;
    let customer = stored.new.customer.clone();
    let amount = stored.new.amount;
    match answer {
        Answer::Confirmed => {
            let confirmed = OrderConfirmed {
                order_id,
                order_version,
                customer,
                amount,
            };
            publishing.reply(&confirmed, key)
        }
        Answer::ConfirmRejected(reason) => {
            let rejected = ConfirmRejected {
                order_id,
                order_version,
                reason,
            };
            publishing.reply(&rejected, key)
        }
        Answer::Completed => {
            let completed = OrderCompleted {
                order_id,
                order_version,
            };
            publishing.reply(&completed, key)
        }
        Answer::Cancelled { reason, payment } => {
            let cancelled = OrderCancelled {
                order_id,
                order_version,
                reason,
                customer,
                amount,
                refunded: payment == Undo::Undone,
                settled: payment == Undo::Settled,
            };
            publishing.reply(&cancelled, key)
        }
    }
}
