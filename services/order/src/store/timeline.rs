//! The timeline of orders: the messages about each, in the sequence in which this service received them.

use contracts::value::OrderId;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

/// A fact to be recorded.
pub(crate) struct Fact {
    pub(crate) order_id: Uuid,
    pub(crate) message_id: Uuid,
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) causation_id: Option<Uuid>,
    pub(crate) traceparent: Option<String>,
    pub(crate) occurred_at: Option<OffsetDateTime>,
    pub(crate) data: serde_json::Value,
}

/// A recorded fact.
pub(crate) struct Entry {
    pub(crate) message_id: Uuid,
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) causation_id: Option<Uuid>,
    pub(crate) traceparent: Option<String>,
    pub(crate) occurred_at: Option<OffsetDateTime>,
    pub(crate) recorded_at: OffsetDateTime,
    pub(crate) data: serde_json::Value,
}

/// Records facts, in the sequence given.
pub(crate) async fn record(conn: &mut PgConnection, facts: &[Fact]) -> sqlx::Result<()> {
    let order_ids: Vec<Uuid> = facts.iter().map(|fact| fact.order_id).collect();
    let message_ids: Vec<Uuid> = facts.iter().map(|fact| fact.message_id).collect();
    let kinds: Vec<String> = facts.iter().map(|fact| fact.kind.clone()).collect();
    let sources: Vec<String> = facts.iter().map(|fact| fact.source.clone()).collect();
    let causes: Vec<Option<Uuid>> = facts.iter().map(|fact| fact.causation_id).collect();
    let traces: Vec<Option<String>> = facts.iter().map(|fact| fact.traceparent.clone()).collect();
    let times: Vec<Option<OffsetDateTime>> = facts.iter().map(|fact| fact.occurred_at).collect();
    let data: Vec<serde_json::Value> = facts.iter().map(|fact| fact.data.clone()).collect();
    sqlx::query!(
        "insert into timeline (order_id, message_id, kind, source, causation_id, traceparent, occurred_at, data)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[],
                              $8::jsonb[])",
        &order_ids,
        &message_ids,
        &kinds,
        &sources,
        &causes as &[Option<Uuid>],
        &traces as &[Option<String>],
        &times as &[Option<OffsetDateTime>],
        &data,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns the first 1000 entries of an order's timeline.
pub(crate) async fn timeline(db: impl PgExecutor<'_>, order: OrderId) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        "select message_id, kind, source, causation_id, traceparent, occurred_at, recorded_at, data
         from timeline where order_id = $1 order by seq limit 1000",
        order.0,
    )
    .fetch_all(db)
    .await
}
