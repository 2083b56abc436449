//! Placing an order.

use holdfast::outbox;
use sqlx::PgConnection;

use super::{choreography, orchestration};
use crate::{
    config::WaitingSettings,
    domain::Coordination,
    error::Error,
    store::{self, Answered, NewOrder, StoredOrder},
};

/// The result of a request to place an order.
pub(crate) enum Placed {
    /// A new order, and the response that is stored under the key.
    New(serde_json::Value),
    /// The response to an earlier request under the same key, which another server may have committed just now.
    Before(Answered),
}

/// Returns the response to an earlier request under this key. Errors if that request was a different one.
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

/// Accepts an order. Writes the order, the response under its key, and the message that starts it, all or none.
pub(crate) async fn place(
    conn: &mut PgConnection,
    order: &NewOrder,
    coordination: Coordination,
    key: &str,
    request_hash: &[u8],
    answer: impl FnOnce(&StoredOrder) -> serde_json::Result<serde_json::Value>,
    waiting: &WaitingSettings,
) -> Result<Placed, Error> {
    let stored = store::insert(conn, order, coordination, waiting.sweep_after()).await?;
    let answered = Answered {
        request_hash: request_hash.to_vec(),
        order_id: order.id,
        response: answer(&stored)?,
    };
    if !store::answer(conn, &order.customer.id, key, &answered).await? {
        // Another server was faster with the same key. The caller rolls back the order of this request.
        let before = placed_before(conn, &order.customer.id, key, request_hash).await?;
        return before.map(Placed::Before).ok_or(Error::KeyReused);
    }
    let begun = match coordination {
        Coordination::Choreography => choreography::begin(&stored),
        Coordination::Orchestration => orchestration::begin(&stored),
    };
    outbox::enqueue(conn, &[begun]).await?;
    Ok(Placed::New(answered.response))
}
