//! Parking lot: messages that could not be handled wait for a person, with their cause.
//!
//! # Problem
//!
//! The dead-letter queue holds 312 messages. Nobody knows since when, or why. An operator finds the button that moves
//! them all back; 311 of them fail again, and one, a refund, is paid out a second time.
//!
//! # Guarantee
//!
//! Each message that reaches a dead-letter queue becomes one row with one cause, however often the broker delivers it.
//! Messages without an id become a row each, even if they are equal in every byte. An operator lists, shows, edits,
//! requeues or drops it. A requeue is an outbox row and an audit row in one transaction. An edit is checked by the
//! handler that will get the message, and cannot change ids and amounts.
//!
//! # Not guaranteed
//!
//! One row for a message without an id that is delivered again after a crash: it may be parked twice, because the
//! broker does not distinguish it from another one that is equal. That a requeued message succeeds: if it fails again
//! it is parked again, as a new message. That its order waits for it: a deadline, or a sweep, may have moved the order
//! on meanwhile.
//!
//! # States
//!
//! `parked -> requeued`, `parked -> dropped`. Both ends are final.
//!
//! # Failure modes
//!
//! The database is unavailable: the dead-letter queue keeps the messages. The table refuses one message by an error
//! that no other try can help (a constraint, say): it is logged and counted, goes to the end of its dead-letter queue
//! with its cause, and is tried again in its turn; the others are parked. Two operators act at once: the second gets an
//! error with the state that the first left.
//!
//! # Copying this
//!
//! It goes with [`messaging`](super).
//!
//! Source: Gregor Hohpe and Bobby Woolf, "Enterprise Integration Patterns", "Dead Letter Channel", "Message Store".

mod decoders;
mod drain;
mod edit;

use std::collections::BTreeMap;

pub use decoders::{Decoders, PublisherOf};
pub(super) use drain::Drain;
use sqlx::{PgConnection, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{headers, retry_exchange};
use crate::outbox::{self, Message};

/// A message that could not be handled.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Parked {
    /// The id of the row.
    pub id: Uuid,
    /// The queue that could not handle it.
    pub queue: String,
    /// The id under which it was sent.
    pub message_id: Uuid,
    /// Its type, if the envelope could be read.
    pub kind: Option<String>,
    /// The message's subject, if the envelope could be read.
    pub subject: Option<String>,
    /// Its text headers.
    pub headers: Json<BTreeMap<String, String>>,
    /// The payload, as received or as last edited.
    pub payload: Vec<u8>,
    /// The cause, in one word: `malformed`, `unknown_type`, `contract_violation`, `forged_source`, `rejected`,
    /// `exhausted`, `delivery_limit`, `dead_lettered`.
    pub cause: String,
    /// The cause, explained to the operator.
    pub detail: String,
    /// `parked`, `requeued` or `dropped`.
    pub state: String,
    /// The time at which it was parked, by the database's clock.
    pub parked_at: OffsetDateTime,
    /// The time at which an operator requeued or dropped it.
    pub resolved_at: Option<OffsetDateTime>,
    /// The id under which it was requeued.
    pub requeued_as: Option<Uuid>,
}

/// One operator action on a parked message.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct OperatorAction {
    /// `edited`, `requeued` or `dropped`.
    pub action: String,
    /// The operator who did it.
    pub operator: String,
    /// The operator's reason.
    pub note: String,
    /// The time of the action, by the database's clock.
    pub at: OffsetDateTime,
    /// The payload before an edit.
    pub before: Option<Vec<u8>>,
    /// The payload after an edit.
    pub after: Option<Vec<u8>>,
}

/// The refusal of an operator's action. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such parked message.
    #[error("there is no parked message {0}")]
    NotFound(Uuid),
    /// The message was requeued or dropped before: look at it again.
    #[error("it is {0} already")]
    NotParked(String),
    /// The handler cannot decode the new content, or it changes what must not change: correct it.
    #[error("{0}")]
    Edit(String),
    /// The database failed: try again.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

const COLUMNS: &str =
    "id, queue, message_id, kind, subject, headers, payload, cause, detail, state, parked_at,
                       resolved_at, requeued_as";

/// Returns parked messages, oldest first: those in `state` that come after the row `after`, up to `limit`. Cancel safe:
/// it only reads.
pub async fn list(
    db: impl PgExecutor<'_>,
    state: &str,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Parked>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from parked_message
         where state = $1
           and ($2::uuid is null
                or (parked_at, id) > (select parked_at, id from parked_message where id = $2))
         order by parked_at, id
         limit $3"
    )))
    .bind(state)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// Returns the number of messages that wait for an operator. Cancel safe: it only reads.
pub async fn open(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from parked_message where state = 'parked'")
        .fetch_one(db)
        .await
}

/// Returns one parked message; [`Error::NotFound`] if there is none with this id. Cancel safe: it only reads.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> Result<Parked, Error> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from parked_message where id = $1"
    )))
    .bind(id)
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound(id))
}

/// Returns the operator actions on a parked message, oldest first. Cancel safe: it only reads.
pub async fn actions(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Vec<OperatorAction>> {
    sqlx::query_as(
        "select action, operator, note, at, before, after from parked_message_audit where parked_id = $1 order by id",
    )
    .bind(id)
    .fetch_all(db)
    .await
}

/// Replaces the type and the payload of a parked message.
///
/// On the caller's transaction: after an error, or if this is dropped, roll it back. The handler of the queue must be
/// able to decode the new content, and every id and amount must stay.
pub async fn edit(
    conn: &mut PgConnection,
    decoders: &Decoders,
    id: Uuid,
    operator: &str,
    note: &str,
    kind: &str,
    payload: &[u8],
) -> Result<(), Error> {
    let parked = lock(conn, id).await?;
    edit::check(decoders, &parked, kind, payload).map_err(Error::Edit)?;
    sqlx::query("update parked_message set kind = $2, payload = $3 where id = $1")
        .bind(id)
        .bind(kind)
        .bind(payload)
        .execute(&mut *conn)
        .await?;
    audit(
        conn,
        id,
        "edited",
        operator,
        note,
        Some((&parked.payload, payload)),
    )
    .await
}

/// Requeues a parked message to the queue that could not handle it; returns its new id.
///
/// On the caller's transaction: after an error, or if this is dropped, roll it back; wake the outbox's relay after the
/// commit. Refused if the handler of its queue cannot decode the message, or if the service does not consume that queue
/// any more.
pub async fn requeue(
    conn: &mut PgConnection,
    decoders: &Decoders,
    id: Uuid,
    operator: &str,
    note: &str,
) -> Result<Uuid, Error> {
    let parked = lock(conn, id).await?;
    let new = Uuid::now_v7();
    let kind = parked.kind.as_deref().unwrap_or_default();
    // A message that still cannot be read would be parked again at once, so the operator gets the error now.
    let event =
        edit::candidate(decoders, &parked, new, kind, &parked.payload).map_err(Error::Edit)?;
    let mut headers = event.headers;
    headers::cut(&mut headers, headers::room(headers::FRAME_MAX));
    let message = Message {
        id: new,
        exchange: retry_exchange(&parked.queue),
        routing_key: parked.queue,
        headers,
        payload: event.data,
    };
    outbox::enqueue(conn, &[message]).await?;
    sqlx::query("update parked_message set state = 'requeued', resolved_at = now(), requeued_as = $2 where id = $1")
        .bind(id)
        .bind(new)
        .execute(&mut *conn)
        .await?;
    audit(conn, id, "requeued", operator, note, None).await?;
    Ok(new)
}

/// Drops a parked message without handling it.
///
/// On the caller's transaction: after an error, or if this is dropped, roll it back.
pub async fn discard(
    conn: &mut PgConnection,
    id: Uuid,
    operator: &str,
    note: &str,
) -> Result<(), Error> {
    lock(conn, id).await?;
    sqlx::query("update parked_message set state = 'dropped', resolved_at = now() where id = $1")
        .bind(id)
        .execute(&mut *conn)
        .await?;
    audit(conn, id, "dropped", operator, note, None).await
}

/// Locks a row that is still parked, and returns it.
async fn lock(conn: &mut PgConnection, id: Uuid) -> Result<Parked, Error> {
    let parked: Option<Parked> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from parked_message where id = $1 for update"
    )))
    .bind(id)
    .fetch_optional(conn)
    .await?;
    match parked {
        None => Err(Error::NotFound(id)),
        Some(parked) if parked.state != "parked" => Err(Error::NotParked(parked.state)),
        Some(parked) => Ok(parked),
    }
}

async fn audit(
    conn: &mut PgConnection,
    id: Uuid,
    action: &str,
    operator: &str,
    note: &str,
    change: Option<(&[u8], &[u8])>,
) -> Result<(), Error> {
    sqlx::query(
        "insert into parked_message_audit (parked_id, action, operator, note, before, after)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(action)
    .bind(operator)
    .bind(note)
    .bind(change.map(|(before, _)| before))
    .bind(change.map(|(_, after)| after))
    .execute(conn)
    .await?;
    Ok(())
}
