//! The use cases, each on the caller's transaction.

use std::collections::{BTreeMap, HashSet};

use chassis::{
    events::{Answering, Publishing},
    tally::Tally,
    trace::OrderFacts,
};
use contracts::{
    inventory::{
        InventoryCommitted, InventoryNothingToUndo, InventoryRejected, InventoryReleased,
        InventoryReserved, InventorySettled, RejectReason,
    },
    value::{OrderId, OrderLine, Sku},
};
use holdfast::{failpoint, messaging::Incoming, outbox};
use metrics::counter;
use sqlx::PgConnection;
use tracing::Span;

use crate::{
    domain::{self, Answer, Decision, Input, Rejection, Shelf, State, Stock, decide},
    error::Error,
    store::{self, Reservation, Settlement},
};

const PUBLISHING: Publishing<'static> = Publishing {
    service: "inventory",
    cause: None,
};

/// The request that a message makes of a reservation.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// A reservation of these units: all of them, or none.
    Reserve(Vec<OrderLine>),
    /// The sale of the reserved units.
    Commit,
    /// An undo: the units become available again, or a tombstone is left if none were reserved yet.
    Release,
    /// A write-off by an operator.
    Settle { operator: String, note: String },
}

/// One message about an order.
pub(crate) struct Told<'a> {
    pub(crate) order: OrderId,
    pub(crate) order_version: u32,
    pub(crate) command: &'a Command,
    pub(crate) event: &'a Incoming,
    /// The recipient of the answer: every service, or the command's sender.
    pub(crate) answering: Answering<'a>,
    /// The span of the message's handling; the messages published because of it continue its trace.
    pub(crate) span: &'a Span,
}

/// Applies a batch of messages: locks reservations, then stock, each in the order of their keys; folds the messages
/// over them in memory; writes each row once. Returns what to count after the commit.
pub(crate) async fn apply(conn: &mut PgConnection, batch: &[Told<'_>]) -> Result<Tally, Error> {
    let mut ids: Vec<OrderId> = batch.iter().map(|told| told.order).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut reservations = store::lock(conn, &ids).await?;
    let known: HashSet<OrderId> = reservations.keys().copied().collect();

    let asked = batch.iter().flat_map(|told| match told.command {
        Command::Reserve(lines) => lines.as_slice(),
        _ => &[],
    });
    let held = reservations
        .values()
        .flat_map(|reservation| &reservation.lines);
    let mut skus: Vec<Sku> = asked.chain(held).map(|line| line.sku.clone()).collect();
    skus.sort_unstable();
    skus.dedup();
    let mut stock = store::lock_stock(conn, &skus).await?;
    let before = stock.clone();

    let mut tally = Tally::default();
    let mut messages = Vec::new();
    let mut settlements = Vec::new();
    let mut touched = HashSet::new();
    for told in batch {
        let current = reservations.get(&told.order);
        let input = match told.command {
            Command::Reserve(lines) => Input::Reserve(availability(&stock, lines)),
            Command::Commit => Input::Commit,
            Command::Release => Input::Release,
            Command::Settle { .. } => Input::Settle,
        };
        let Decision {
            state,
            moves,
            answer,
        } = decide(current.map(|current| &current.state), input)?;
        if current.is_none_or(|current| current.state != state) {
            let outcome = outcome(&state);
            tally.add(counter!("reservations_total", "outcome" => outcome), 1);
        }
        let lines = match (current, told.command) {
            (Some(current), _) => current.lines.clone(),
            (None, Command::Reserve(lines)) if state == State::Reserved => lines.clone(),
            (None, _) => Vec::new(),
        };
        // An undo that came first names no lines.
        if !lines.is_empty() {
            OrderFacts::of(told.order)
                .items(lines.iter().map(|line| line.quantity.get()))
                .describe(told.span);
        }
        if let Some((from, to)) = moves {
            for line in &lines {
                let stock = stock
                    .get_mut(&line.sku)
                    .ok_or_else(|| Error::NoStock(line.sku.clone()))?;
                stock.move_units(line.quantity.get().into(), from, to)?;
            }
            if let (Shelf::WrittenOff, Command::Settle { operator, note }) = (to, told.command) {
                settlements.push((
                    told.order,
                    lines.clone(),
                    from == Shelf::Sold,
                    operator,
                    note,
                ));
            }
        }
        let order_version = current
            .map_or(0, |current| current.order_version)
            .max(told.order_version);
        let reservation = Reservation {
            order_id: told.order,
            state,
            lines,
            order_version,
            updated_at: time::OffsetDateTime::UNIX_EPOCH, // set by the database
        };
        if let Some(answer) = answer {
            let publishing = PUBLISHING.because_of(told.event);
            messages.push(
                told.span
                    .in_scope(|| message(&publishing, told.answering, &reservation, answer)),
            );
        }
        reservations.insert(told.order, reservation);
        touched.insert(told.order);
    }

    let changed = reservations
        .into_values()
        .filter(|reservation| touched.contains(&reservation.order_id));
    let (old, new): (Vec<_>, Vec<_>) =
        changed.partition(|reservation| known.contains(&reservation.order_id));
    if store::insert(conn, &new).await? < new.len() {
        return Err(Error::Raced);
    }
    store::update(conn, &old).await?;
    stock.retain(|sku, stock| before.get(sku) != Some(stock));
    store::save_stock(conn, &stock).await?;
    failpoint!("inventory.mid_batch");
    for (order_id, lines, was_sold, operator, note) in settlements {
        store::settle(
            conn,
            &Settlement {
                order_id,
                lines: &lines,
                was_sold,
                operator,
                note,
            },
        )
        .await?;
    }
    outbox::enqueue(conn, &messages).await?;
    Ok(tally)
}

/// Returns the label of a state in the metric `reservations_total`.
fn outcome(state: &State) -> &'static str {
    match state {
        State::Reserved => "reserved",
        State::Rejected(_) => "rejected",
        State::Sold => "sold",
        State::Released { .. } => "released",
        State::Void => "void",
        State::Settled => "settled",
    }
}

/// Checks that every line can be served from the current stock. The error names the first that cannot.
fn availability(stock: &BTreeMap<Sku, Stock>, lines: &[OrderLine]) -> Result<(), Rejection> {
    for line in lines {
        let rejection = |reason| {
            Err(Rejection {
                reason,
                sku: Some(line.sku.clone()),
            })
        };
        match stock.get(&line.sku) {
            None => return rejection(RejectReason::UnknownSku),
            Some(stock) if stock.available < i64::from(line.quantity.get()) => {
                return rejection(RejectReason::OutOfStock);
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Builds the outbox row of an answer.
fn message(
    publishing: &Publishing<'_>,
    answering: Answering<'_>,
    reservation: &Reservation,
    answer: Answer,
) -> outbox::Message {
    let Reservation {
        order_id,
        order_version,
        ..
    } = *reservation;
    match answer {
        Answer::Reserved => publishing.answer(
            answering,
            &InventoryReserved {
                order_id,
                order_version,
            },
            "inventory/do",
        ),
        Answer::Rejected(Rejection { reason, sku }) => publishing.answer(
            answering,
            &InventoryRejected {
                order_id,
                order_version,
                reason,
                sku,
            },
            "inventory/do",
        ),
        Answer::Committed => publishing.answer(
            answering,
            &InventoryCommitted {
                order_id,
                order_version,
            },
            "inventory/commit",
        ),
        Answer::Released { restocked } => publishing.answer(
            answering,
            &InventoryReleased {
                order_id,
                order_version,
                restocked,
            },
            "inventory/undo",
        ),
        Answer::NothingToUndo => publishing.answer(
            answering,
            &InventoryNothingToUndo {
                order_id,
                order_version,
            },
            "inventory/undo",
        ),
        Answer::Settled => publishing.answer(
            answering,
            &InventorySettled {
                order_id,
                order_version,
            },
            "inventory/settle",
        ),
    }
}

/// Adds delivered units, once per key. Returns true if this delivery is new, [`Error::UnknownSku`] if there is no such
/// product, and [`Error::OtherDelivery`] if the key was used for another product or quantity.
pub(crate) async fn deliver(
    conn: &mut PgConnection,
    key: &str,
    sku: &Sku,
    quantity: i64,
    operator: &str,
) -> Result<bool, Error> {
    if store::show(&mut *conn, sku).await?.is_none() {
        return Err(Error::UnknownSku(sku.clone()));
    }
    if store::deliver(conn, key, sku, quantity, operator).await? {
        return Ok(true);
    }
    // The key was used before: for this delivery, or for another one.
    match store::delivery(conn, key).await? {
        Some((before, units)) if before == *sku && units == quantity => Ok(false),
        _ => Err(Error::OtherDelivery),
    }
}

impl From<domain::Shortfall> for Error {
    fn from(shortfall: domain::Shortfall) -> Self {
        Self::Shortfall(shortfall)
    }
}
