//! The outbox's SQL.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgExecutor, types::Json};
use time::OffsetDateTime;
use tracing::{Instrument, info_span};
use uuid::Uuid;

use super::Message;

/// Writes messages on the caller's transaction. They are published after it commits, and only if it does. After an
/// error, or if this is dropped, roll the transaction back.
pub async fn enqueue(conn: &mut PgConnection, messages: &[Message]) -> sqlx::Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = messages.iter().map(|m| m.id).collect();
    let exchanges: Vec<&str> = messages.iter().map(|m| m.exchange.as_str()).collect();
    let routing_keys: Vec<&str> = messages.iter().map(|m| m.routing_key.as_str()).collect();
    let headers: Vec<Json<&BTreeMap<String, String>>> =
        messages.iter().map(|m| Json(&m.headers)).collect();
    let payloads: Vec<&[u8]> = messages.iter().map(|m| m.payload.as_slice()).collect();
    let span = info_span!(
        "INSERT outbox",
        otel.kind = "client",
        db.system.name = "postgresql",
        db.operation.name = "INSERT",
        db.collection.name = "outbox",
        messaging.batch.message_count = messages.len(),
    );
    sqlx::query(
        "insert into outbox (message_id, exchange, routing_key, headers, payload)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::bytea[])",
    )
    .bind(ids)
    .bind(exchanges)
    .bind(routing_keys)
    .bind(headers)
    .bind(payloads)
    .execute(conn)
    .instrument(span)
    .await?;
    Ok(())
}

/// A claimed row.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    pub(super) seq: i64,
    message_id: Uuid,
    exchange: String,
    routing_key: String,
    headers: Json<BTreeMap<String, String>>,
    payload: Vec<u8>,
    pub(super) attempts: i32,
}

impl Row {
    pub(super) fn into_message(self) -> Message {
        Message {
            id: self.message_id,
            exchange: self.exchange,
            routing_key: self.routing_key,
            headers: self.headers.0,
            payload: self.payload,
        }
    }
}

/// Claims up to `limit` rows that are due and that no other relay has claimed, until the transaction ends.
pub(super) async fn claim(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as(
        "select seq, message_id, exchange, routing_key, headers, payload, attempts
         from outbox
         where quarantined_at is null and available_at <= now()
         order by seq
         limit $1
         for update skip locked",
    )
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Deletes rows that the broker has confirmed.
pub(super) async fn delete(conn: &mut PgConnection, seqs: &[i64]) -> sqlx::Result<()> {
    sqlx::query("delete from outbox where seq = any($1)")
        .bind(seqs)
        .execute(conn)
        .await?;
    Ok(())
}

/// Counts a refusal by the broker. The row is due again in `delay` seconds, or, in quarantine, once an operator
/// releases it.
pub(super) async fn refuse(
    conn: &mut PgConnection,
    seq: i64,
    error: &str,
    delay: f64,
    quarantine: bool,
) -> sqlx::Result<()> {
    sqlx::query(
        "update outbox
         set attempts = attempts + 1,
             last_error = $2,
             available_at = clock_timestamp() + make_interval(secs => $3),
             quarantined_at = case when $4 then now() end
         where seq = $1",
    )
    .bind(seq)
    .bind(error)
    .bind(delay)
    .bind(quarantine)
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts off a row that the broker could not store now. Counts no attempt.
///
/// The row waits for as long again as it has waited since it was written, at least `shortest` and at most `longest`
/// seconds: so the wait doubles without a counter of its own.
pub(super) async fn put_off(
    conn: &mut PgConnection,
    seq: i64,
    error: &str,
    shortest: f64,
    longest: f64,
) -> sqlx::Result<()> {
    sqlx::query(
        "update outbox
         set last_error = $2,
             available_at = clock_timestamp() + least(
                 greatest(clock_timestamp() - created_at, make_interval(secs => $3)),
                 make_interval(secs => $4)
             )
         where seq = $1",
    )
    .bind(seq)
    .bind(error)
    .bind(shortest)
    .bind(longest)
    .execute(conn)
    .await?;
    Ok(())
}

/// The number of rows in an outbox, and the age of the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, sqlx::FromRow)]
pub struct Backlog {
    /// The rows that wait to be published.
    pub waiting: i64,
    /// The rows in quarantine.
    pub quarantined: i64,
    /// The age of the oldest row that waits, in seconds by the database's clock; zero if none does.
    pub oldest_seconds: f64,
}

/// Counts the rows of the outbox. Cancel safe: it only reads.
pub async fn backlog(db: impl PgExecutor<'_>) -> sqlx::Result<Backlog> {
    sqlx::query_as(
        "select count(*) filter (where quarantined_at is null) as waiting,
                count(*) filter (where quarantined_at is not null) as quarantined,
                coalesce(extract(epoch from now() - min(created_at) filter (where quarantined_at is null)), 0)::float8
                    as oldest_seconds
         from outbox",
    )
    .fetch_one(db)
    .await
}

/// A row in quarantine: the broker refused it too often.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Quarantined {
    /// The message's id.
    pub message_id: Uuid,
    /// The exchange to which the message was to be published.
    pub exchange: String,
    /// The routing key of the message.
    pub routing_key: String,
    /// The number of refusals.
    pub attempts: i32,
    /// The broker's last reply.
    pub last_error: Option<String>,
    /// The time at which the row was quarantined, by the database's clock.
    pub quarantined_at: OffsetDateTime,
}

/// Returns the rows in quarantine, oldest first, up to `limit`. Cancel safe: it only reads.
pub async fn quarantined(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Quarantined>> {
    sqlx::query_as(
        "select message_id, exchange, routing_key, attempts, last_error, quarantined_at
         from outbox where quarantined_at is not null order by quarantined_at limit $1",
    )
    .bind(limit)
    .fetch_all(db)
    .await
}

/// Releases a row from quarantine, so that the relay publishes it; returns false if there was none with this id. Its
/// last error stays on record until it is published. If this is dropped, the row may be released or not; calling it
/// again is safe.
pub async fn release(db: impl PgExecutor<'_>, message_id: Uuid) -> sqlx::Result<bool> {
    let released = sqlx::query(
        "update outbox set quarantined_at = null, attempts = 0, available_at = now()
         where message_id = $1 and quarantined_at is not null",
    )
    .bind(message_id)
    .execute(db)
    .await?;
    Ok(released.rows_affected() == 1)
}
