//! The queries that show webhooks, and the pruning of old ones.

use std::time::Duration;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// The webhooks that wait to be sent: their number, and the age of the oldest in seconds.
pub(crate) struct Queued {
    pub(crate) count: i64,
    pub(crate) oldest_seconds: f64,
}

/// Returns the number of webhooks that wait to be sent, and the age of the oldest, counted from its queueing or last
/// resend.
pub(crate) async fn queued(db: impl PgExecutor<'_>) -> sqlx::Result<Queued> {
    sqlx::query_as!(
        Queued,
        r#"select count(*) as "count!",
                  coalesce(extract(epoch from now() - min(coalesce(resent_at, created_at))), 0)::float8 as "oldest_seconds!"
           from webhook where due_at is not null"#
    )
    .fetch_one(db)
    .await
}

/// A webhook as the owner of its endpoint sees it.
pub(crate) struct Webhook {
    pub(crate) id: Uuid,
    pub(crate) message_id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) last_reply: Option<String>,
    /// The time of the next attempt; `None` if the webhook is over or held.
    pub(crate) due_at: Option<OffsetDateTime>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
}

/// A page of the webhooks to an endpoint.
pub(crate) struct Page {
    /// The webhook-id after which the page begins; without such a webhook the page is empty.
    pub(crate) before: Option<Uuid>,
    pub(crate) limit: i64,
}

/// Returns a page of the webhooks to an endpoint, newest first.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    endpoint: Uuid,
    page: &Page,
) -> sqlx::Result<Vec<Webhook>> {
    sqlx::query_as!(
        Webhook,
        "select id, message_id, order_id, kind, state, attempts, last_reply, due_at, created_at, updated_at
         from webhook
         where endpoint_id = $1
               and ($2::uuid is null or (created_at, id) < (
                   select created_at, id from webhook where endpoint_id = $1 and message_id = $2
               ))
         order by created_at desc, id desc
         limit $3",
        endpoint,
        page.before,
        page.limit,
    )
    .fetch_all(db)
    .await
}

/// Returns a page of the failed webhooks to an endpoint, newest first. The query is apart because an index of its own
/// serves it.
pub(crate) async fn list_failed(
    db: impl PgExecutor<'_>,
    endpoint: Uuid,
    page: &Page,
) -> sqlx::Result<Vec<Webhook>> {
    sqlx::query_as!(
        Webhook,
        "select id, message_id, order_id, kind, state, attempts, last_reply, due_at, created_at, updated_at
         from webhook
         where endpoint_id = $1 and state = 'failed'
               and ($2::uuid is null or (created_at, id) < (
                   select created_at, id from webhook where endpoint_id = $1 and message_id = $2
               ))
         order by created_at desc, id desc
         limit $3",
        endpoint,
        page.before,
        page.limit,
    )
    .fetch_all(db)
    .await
}

/// Finds a webhook to an endpoint by its webhook-id.
pub(crate) async fn find(
    db: impl PgExecutor<'_>,
    endpoint: Uuid,
    message: Uuid,
) -> sqlx::Result<Option<Webhook>> {
    sqlx::query_as!(
        Webhook,
        "select id, message_id, order_id, kind, state, attempts, last_reply, due_at, created_at, updated_at
         from webhook where endpoint_id = $1 and message_id = $2",
        endpoint,
        message,
    )
    .fetch_optional(db)
    .await
}

/// Deletes up to `limit` webhooks that have been over, or held, for `retention`, with their attempts; returns how many.
pub(crate) async fn prune(
    db: impl PgExecutor<'_>,
    retention: Duration,
    limit: i64,
) -> sqlx::Result<u64> {
    let pruned = sqlx::query!(
        "delete from webhook where id in (
             select id from webhook
             where due_at is null and updated_at < now() - make_interval(secs => $1)
             order by updated_at
             limit $2
             for update skip locked
         )",
        retention.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(pruned.rows_affected())
}
