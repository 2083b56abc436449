//! The responses under Idempotency-Keys.

use std::time::Duration;

use contracts::value::{CustomerId, OrderId};
use sqlx::{PgConnection, PgExecutor, types::Json};

/// A response under an Idempotency-Key, and the hash of its request.
pub(crate) struct Answered {
    pub(crate) request_hash: Vec<u8>,
    pub(crate) order_id: OrderId,
    pub(crate) response: serde_json::Value,
}

/// Returns the response that this customer got under this key.
pub(crate) async fn lookup(
    db: impl PgExecutor<'_>,
    customer: &CustomerId,
    key: &str,
) -> sqlx::Result<Option<Answered>> {
    let row = sqlx::query!(
        "select request_hash, order_id, response from idempotency_key where customer_id = $1 and key = $2",
        customer.as_str(),
        key,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Answered {
        request_hash: row.request_hash,
        order_id: OrderId(row.order_id),
        response: row.response,
    }))
}

/// Stores a response. Returns false if the key has one already. Waits for a request under the same key that is not
/// committed yet.
pub(crate) async fn answer(
    conn: &mut PgConnection,
    customer: &CustomerId,
    key: &str,
    answered: &Answered,
) -> sqlx::Result<bool> {
    let inserted = sqlx::query!(
        "insert into idempotency_key (customer_id, key, request_hash, order_id, response)
         values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        customer.as_str(),
        key,
        answered.request_hash,
        answered.order_id.0,
        Json(&answered.response) as _,
    )
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Deletes up to `limit` responses that are older than `retention`. Returns how many.
pub(crate) async fn forget_old(
    db: impl PgExecutor<'_>,
    retention: Duration,
    limit: i64,
) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from idempotency_key where (customer_id, key) in (
             select customer_id, key from idempotency_key
             where created_at < now() - make_interval(secs => $1)
             order by created_at
             limit $2
             for update skip locked
         )",
        retention.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
