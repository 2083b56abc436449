//! The use cases, each on the caller's transaction.

use std::{collections::HashMap, time::Duration};

use chassis::{
    events::{CHOREOGRAPHY, Publishing},
    tally::Tally,
    trace::OrderFacts,
};
use contracts::{
    order::{
        CancelReason, OrderCancelled, OrderCancelling, OrderConfirmed, OrderCreated, OrderSettling,
        Participant,
    },
    value::OrderId,
};
use holdfast::{failpoint, messaging::Incoming, outbox, telemetry};
use metrics::{counter, histogram};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::{Instrument, Span, field::Empty, info, info_span};

use crate::{
    config::{LONGEST_SWEEP, WaitingSettings},
    domain::{Decision, Effect, Fact, Illegal, Input, Order, State, Undo, decide},
    error::Error,
    store::{self, Answered, NewOrder, Saved, StoredOrder},
};

const PUBLISHING: Publishing<'static> = Publishing {
    service: "order",
    cause: None,
};

/// What became of a request to place an order.
pub(crate) enum Placed {
    /// A new order.
    New(StoredOrder),
    /// The same request was answered before, or just now by another server: the same answer.
    Before(Answered),
}

/// What was answered before to this request, if it was made before.
pub(crate) async fn placed_before(
    db: impl sqlx::PgExecutor<'_>,
    customer: &contracts::value::CustomerId,
    key: &str,
    request_hash: &[u8],
) -> Result<Option<Answered>, Error> {
    match store::lookup(db, customer, key).await? {
        Some(before) if before.request_hash != request_hash => Err(Error::KeyReused),
        before => Ok(before),
    }
}

/// Accepts an order: the order, the answer under its key, and `order.created`, all or none.
pub(crate) async fn place(
    conn: &mut PgConnection,
    order: &NewOrder,
    key: &str,
    request_hash: &[u8],
    answer: impl FnOnce(&StoredOrder) -> serde_json::Value,
    waiting: &WaitingSettings,
) -> Result<Placed, Error> {
    let stored = store::insert(conn, order, CHOREOGRAPHY, waiting.sweep_after()).await?;
    let answered = Answered {
        request_hash: request_hash.to_vec(),
        order_id: order.id,
        response: answer(&stored),
    };
    if !store::answer(conn, &order.customer.id, key, &answered).await? {
        // Another server was faster with the same key: the caller rolls back the order of this one.
        let before = placed_before(conn, &order.customer.id, key, request_hash).await?;
        return before.map(Placed::Before).ok_or(Error::KeyReused);
    }
    outbox::enqueue(
        conn,
        &[message(
            &PUBLISHING,
            &stored,
            stored.order,
            Fact::Created,
            None,
        )],
    )
    .await?;
    Ok(Placed::New(stored))
}

/// One message to an order.
pub(crate) struct Told<'a> {
    pub(crate) order: OrderId,
    pub(crate) input: Input,
    pub(crate) event: &'a Incoming,
    /// What is published because of it belongs to this trace.
    pub(crate) span: &'a Span,
}

/// Applies a batch of messages: locks the orders in one order, folds the messages over them in memory, writes each order
/// once. Answers what to count once that is committed.
pub(crate) async fn apply(
    conn: &mut PgConnection,
    batch: &[Told<'_>],
    waiting: &WaitingSettings,
) -> Result<Tally, Error> {
    let mut ids: Vec<OrderId> = batch.iter().map(|told| told.order).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut orders = store::lock(conn, &ids).await?;

    let mut changed: HashMap<OrderId, Saved> = HashMap::new();
    let mut tally = Tally::default();
    let mut messages = Vec::new();
    for told in batch {
        let stored = orders
            .get_mut(&told.order)
            .ok_or(Error::UnknownOrder(told.order))?;
        facts(stored).describe(told.span);
        let Decision { order, effect } = decide(stored.order, told.input)?;
        let starts_deadline = effect == Some(Effect::StartDeadline) && stored.deadline_at.is_none();
        if order != stored.order || starts_deadline {
            let saved = changed.entry(told.order).or_insert(Saved {
                id: told.order,
                order,
                start_deadline: false,
            });
            saved.order = order;
            saved.start_deadline |= starts_deadline;
            if order.is_at_rest() {
                came_to_rest(&mut tally, stored, order.state);
            }
            stored.order = order;
        }
        if let Some(Effect::Publish(fact)) = effect {
            let publishing = PUBLISHING.because_of(told.event);
            messages.push(
                told.span
                    .in_scope(|| message(&publishing, stored, order, fact, None)),
            );
        }
    }
    let mut changed: Vec<Saved> = changed.into_values().collect();
    changed.sort_unstable_by_key(|saved| saved.id);
    store::save(conn, &changed, waiting.deadline(), waiting.sweep_after()).await?;
    failpoint!("order.mid_batch");
    outbox::enqueue(conn, &messages).await?;
    Ok(tally)
}

/// Counts an order's end.
fn came_to_rest(tally: &mut Tally, stored: &StoredOrder, state: State) {
    let (end, reason) = match state {
        State::Cancelled(undoing) => {
            let is_settled = [undoing.payment, undoing.inventory].contains(&Some(Undo::Settled));
            let end = if is_settled { "settled" } else { "cancelled" };
            (end, store::reason_name(undoing.reason))
        }
        State::Pending | State::Confirmed { .. } | State::Cancelling(_) => ("confirmed", "none"),
    };
    tally.add(
        counter!("orders_ended_total", "end" => end, "reason" => reason),
        1,
    );
    let took = (OffsetDateTime::now_utc() - stored.created_at).as_seconds_f64();
    tally.record(
        histogram!("order_duration_seconds", "end" => end),
        took.max(0.0),
    );
}

/// Cancels an order for a reason; answers it as it is then. Asked again, it answers the same.
pub(crate) async fn cancel(
    conn: &mut PgConnection,
    id: OrderId,
    reason: CancelReason,
    waiting: &WaitingSettings,
) -> Result<StoredOrder, Error> {
    let mut stored = store::lock_one(conn, id)
        .await?
        .ok_or(Error::UnknownOrder(id))?;
    transition(conn, &mut stored, Input::Cancel(reason), waiting).await?;
    Ok(stored)
}

/// Gives up pending orders whose deadline has passed; answers how many.
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
        let cancel = Input::Cancel(CancelReason::Deadline);
        transition(conn, &mut stored, cancel, waiting)
            .instrument(span)
            .await?;
    }
    Ok(count)
}

/// Asks again for what has not been answered, or calls an operator; answers how many orders it was. Only of those whose
/// answer could have come in: `heard_for` is since when messages have.
pub(crate) async fn sweep(
    conn: &mut PgConnection,
    limit: i64,
    heard_for: Duration,
    waiting: &WaitingSettings,
) -> Result<usize, Error> {
    let (first, longest) = (waiting.sweep_after(), LONGEST_SWEEP);
    let due = store::due_for_sweep(conn, limit, heard_for, first, longest).await?;
    for stored in &due {
        let sweeps = u32::try_from(stored.sweeps).unwrap_or(u32::MAX);
        let next = waiting.sweep_again(sweeps);
        if next.is_some() {
            let Decision { order, effect } = decide(stored.order, Input::Sweep)?;
            if let Some(Effect::Publish(fact)) = effect {
                let span = unasked(stored, "sweep");
                let again = span.in_scope(|| message(&PUBLISHING, stored, order, fact, None));
                outbox::enqueue(conn, &[again]).instrument(span).await?;
            }
            info!(order.id = %stored.new.id, state = ?stored.order.state, sweeps = sweeps + 1, "asked again");
        } else {
            tracing::error!(order.id = %stored.new.id, state = ?stored.order.state, "the order is stuck");
        }
        store::swept(conn, stored.new.id, next).await?;
    }
    Ok(due.len())
}

/// Who does something by hand, and why.
pub(crate) struct ByOperator<'a> {
    pub(crate) operator: &'a str,
    pub(crate) note: &'a str,
}

/// Cancels a pending order at an operator's word.
pub(crate) async fn cancel_by_operator(
    conn: &mut PgConnection,
    id: OrderId,
    by: &ByOperator<'_>,
    waiting: &WaitingSettings,
) -> Result<StoredOrder, Error> {
    let before = store::lock_one(conn, id)
        .await?
        .ok_or(Error::UnknownOrder(id))?;
    let stored = cancel(conn, id, CancelReason::Operator, waiting).await?;
    // What is being cancelled already was not cancelled by this operator.
    if stored.order != before.order {
        store::record_deed(conn, id, "cancelled", by.operator, by.note).await?;
    }
    Ok(stored)
}

/// Asks at once for what an order awaits, and starts its wait anew.
pub(crate) async fn resume(
    conn: &mut PgConnection,
    id: OrderId,
    by: &ByOperator<'_>,
    waiting: &WaitingSettings,
) -> Result<StoredOrder, Error> {
    let stored = store::lock_one(conn, id)
        .await?
        .ok_or(Error::UnknownOrder(id))?;
    if stored.order.is_at_rest() {
        return Err(Illegal {
            state: stored.order.state,
            input: Input::Sweep,
        }
        .into());
    }
    if let Some(Effect::Publish(fact)) = decide(stored.order, Input::Sweep)?.effect {
        outbox::enqueue(
            conn,
            &[message(&PUBLISHING, &stored, stored.order, fact, None)],
        )
        .await?;
    }
    store::unstick(conn, id, waiting.sweep_after()).await?;
    store::record_deed(conn, id, "resumed", by.operator, by.note).await?;
    Ok(stored)
}

/// Has participants write off what they cannot undo. The order ends when they have answered that they did: only then is it
/// sure that none of them will undo it later after all.
pub(crate) async fn settle(
    conn: &mut PgConnection,
    id: OrderId,
    participants: &[Participant],
    by: &ByOperator<'_>,
    waiting: &WaitingSettings,
) -> Result<StoredOrder, Error> {
    let stored = store::lock_one(conn, id)
        .await?
        .ok_or(Error::UnknownOrder(id))?;
    if stored.stuck_since.is_none() {
        return Err(Error::NotStuck);
    }
    let mut messages = Vec::new();
    for participant in participants {
        if let Some(Effect::Publish(fact)) =
            decide(stored.order, Input::Settle(*participant))?.effect
        {
            messages.push(message(&PUBLISHING, &stored, stored.order, fact, Some(by)));
        }
    }
    outbox::enqueue(conn, &messages).await?;
    store::unstick(conn, id, waiting.sweep_after()).await?;
    store::record_deed(conn, id, "settled", by.operator, by.note).await?;
    Ok(stored)
}

/// One transition that no message led to: writes it and what follows from it.
async fn transition(
    conn: &mut PgConnection,
    stored: &mut StoredOrder,
    input: Input,
    waiting: &WaitingSettings,
) -> Result<(), Error> {
    let Decision { order, effect } = decide(stored.order, input)?;
    if order != stored.order {
        let saved = Saved {
            id: stored.new.id,
            order,
            start_deadline: false,
        };
        store::save(conn, &[saved], waiting.deadline(), waiting.sweep_after()).await?;
        stored.order = order;
    }
    if let Some(Effect::Publish(fact)) = effect {
        outbox::enqueue(conn, &[message(&PUBLISHING, stored, order, fact, None)]).await?;
    }
    Ok(())
}

/// What traces say about an order.
fn facts(stored: &StoredOrder) -> OrderFacts<'_> {
    let NewOrder {
        id,
        lines,
        amount,
        payment,
        ..
    } = &stored.new;
    OrderFacts::of(*id)
        .amount(*amount)
        .items(lines.iter().map(|line| line.quantity.get()))
        .payment(payment)
}

/// The span of what no message led to: it begins a trace of its own.
fn unasked(stored: &StoredOrder, name: &'static str) -> Span {
    let span = info_span!(parent: None, "unasked", order.id = %stored.new.id, trace_id = Empty);
    telemetry::adopt(&span, None);
    telemetry::rename(&span, || name.to_owned());
    facts(stored).describe(&span);
    span
}

/// The outbox row for a fact.
fn message(
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
