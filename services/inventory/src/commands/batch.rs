//! Many reservations changed at once: locked in one order, changed in memory, each written once.

use std::collections::{BTreeMap, HashSet};

use chassis::{events::requests, tally::Tally, trace::OrderFacts};
use contracts::{
    inventory::RejectReason,
    value::{OrderId, OrderLine, Sku},
};
use holdfast::{failpoint, messaging::Received, outbox};
use metrics::counter;
use sqlx::PgConnection;
use tracing::Span;

use super::{Command, PUBLISHING, Request, answer};
use crate::{
    domain::{Decision, Input, Rejection, Shelf, State, Stock, decide},
    error::Error,
    store::{self, Reservation, Settlement},
};

/// Applies a batch of messages in its order. Returns what to count after the commit.
pub(crate) async fn apply(
    conn: &mut PgConnection,
    messages: &[&Received<Command>],
) -> Result<Tally, Error> {
    let requests = requests(messages);
    let mut batch = Batch::lock(conn, &requests).await?;
    for (message, request) in requests {
        batch.apply(message, request)?;
    }
    batch.write(conn).await
}

/// The locked reservations and stock of a batch, with what is to be written at its end.
struct Batch<'a> {
    reservations: BTreeMap<OrderId, Reservation>,
    /// The reservations that have a row.
    known: HashSet<OrderId>,
    /// The reservations that a message was about.
    touched: HashSet<OrderId>,
    stock: BTreeMap<Sku, Stock>,
    /// The stock when it was locked.
    before: BTreeMap<Sku, Stock>,
    settlements: Vec<Settling<'a>>,
    messages: Vec<outbox::Message>,
    tally: Tally,
}

/// A reservation that an operator writes off in this batch.
struct Settling<'a> {
    order: OrderId,
    lines: Vec<OrderLine>,
    was_sold: bool,
    operator: &'a str,
    note: &'a str,
}

impl<'a> Batch<'a> {
    /// Locks reservations, then stock, each in the order of their keys.
    async fn lock(
        conn: &mut PgConnection,
        messages: &[(&Received<Command>, &Request)],
    ) -> Result<Self, Error> {
        let mut ids: Vec<OrderId> = messages
            .iter()
            .map(|(message, _)| message.command.order)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let reservations = store::lock(conn, &ids).await?;

        let asked = messages.iter().flat_map(|(_, request)| match request {
            Request::Reserve(lines) => lines.as_slice(),
            Request::Commit | Request::Release | Request::Settle { .. } => &[],
        });
        let held = reservations
            .values()
            .flat_map(|reservation| &reservation.lines);
        let mut skus: Vec<Sku> = asked.chain(held).map(|line| line.sku.clone()).collect();
        skus.sort_unstable();
        skus.dedup();
        let stock = store::lock_stock(conn, &skus).await?;
        Ok(Self {
            known: reservations.keys().copied().collect(),
            touched: HashSet::new(),
            reservations,
            before: stock.clone(),
            stock,
            settlements: Vec::new(),
            messages: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Applies one message, in memory.
    fn apply(&mut self, message: &Received<Command>, request: &'a Request) -> Result<(), Error> {
        let Received {
            event,
            command,
            span,
        } = message;
        let current = self.reservations.get(&command.order);
        let input = match request {
            Request::Reserve(lines) => Input::Reserve(availability(&self.stock, lines)),
            Request::Commit => Input::Commit,
            Request::Release => Input::Release,
            Request::Settle { .. } => Input::Settle,
        };
        let Decision {
            state,
            moves,
            answer,
        } = decide(current.map(|current| &current.state), input)?;
        if current.is_none_or(|current| current.state != state) {
            let outcome = store::state_name(&state);
            self.tally
                .add(counter!("reservations_total", "outcome" => outcome), 1);
        }
        let order_version = current
            .map_or(0, |current| current.order_version)
            .max(command.order_version);
        let reservation = Reservation {
            order_id: command.order,
            lines: lines(current, request, &state),
            state,
            order_version,
            updated_at: time::OffsetDateTime::UNIX_EPOCH, // set by the database
        };
        describe(&reservation, span);
        if let Some((from, to)) = moves {
            self.move_units(&reservation.lines, from, to)?;
            if let (Shelf::WrittenOff, Request::Settle { operator, note }) = (to, request) {
                self.settlements.push(Settling {
                    order: command.order,
                    lines: reservation.lines.clone(),
                    was_sold: from == Shelf::Sold,
                    operator,
                    note,
                });
            }
        }
        if let Some(answer) = answer {
            let publishing = PUBLISHING.because_of(event);
            let row = || answer::message(&publishing, command.answering(), &reservation, answer);
            self.messages.push(span.in_scope(row));
        }
        self.reservations.insert(command.order, reservation);
        self.touched.insert(command.order);
        Ok(())
    }

    fn move_units(&mut self, lines: &[OrderLine], from: Shelf, to: Shelf) -> Result<(), Error> {
        for line in lines {
            let stock = self
                .stock
                .get_mut(&line.sku)
                .ok_or_else(|| Error::NoStock(line.sku.clone()))?;
            stock.move_units(line.quantity.get().into(), from, to)?;
        }
        Ok(())
    }

    /// Writes each changed row once, and the messages. Returns what to count after the commit.
    async fn write(mut self, conn: &mut PgConnection) -> Result<Tally, Error> {
        let changed = self
            .reservations
            .into_values()
            .filter(|reservation| self.touched.contains(&reservation.order_id));
        let (old, new): (Vec<_>, Vec<_>) =
            changed.partition(|reservation| self.known.contains(&reservation.order_id));
        if store::insert(conn, &new).await? < new.len() {
            return Err(Error::Raced);
        }
        store::update(conn, &old).await?;
        self.stock
            .retain(|sku, stock| self.before.get(sku) != Some(stock));
        store::save_stock(conn, &self.stock).await?;
        failpoint!("inventory.mid_batch");
        for settling in &self.settlements {
            let settlement = Settlement {
                order_id: settling.order,
                lines: &settling.lines,
                was_sold: settling.was_sold,
                operator: settling.operator,
                note: settling.note,
            };
            store::settle(conn, &settlement).await?;
        }
        outbox::enqueue(conn, &self.messages).await?;
        Ok(self.tally)
    }
}

/// Returns the lines of a reservation: those that it has, or those that it is about to set aside.
fn lines(current: Option<&Reservation>, request: &Request, state: &State) -> Vec<OrderLine> {
    match (current, request) {
        (Some(current), _) => current.lines.clone(),
        (None, Request::Reserve(lines)) if *state == State::Reserved => lines.clone(),
        (None, _) => Vec::new(),
    }
}

/// Describes a reservation on the span of its message. An undo that came first names no lines.
fn describe(reservation: &Reservation, span: &Span) {
    if !reservation.lines.is_empty() {
        OrderFacts::of(reservation.order_id)
            .items(reservation.lines.iter().map(|line| line.quantity.get()))
            .describe(span);
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
