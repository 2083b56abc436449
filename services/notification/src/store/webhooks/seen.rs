//! What is to be seen of webhooks, and for how long.

use std::time::Duration;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::Queued;

/// How many webhooks wait to be sent, and for how many seconds the one has that was queued, or sent again, longest ago.
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

/// A webhook, for the owner of its endpoint.
pub(crate) struct Webhook {
    pub(crate) id: Uuid,
    pub(crate) message_id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) last_reply: Option<String>,
    /// When it is tried next.
    pub(crate) due_at: Option<OffsetDateTime>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
}

/// A page of the webhooks to an endpoint.
pub(crate) struct Page {
    /// Only what comes after this one; nothing, if there is no such.
    pub(crate) before: Option<Uuid>,
    pub(crate) limit: i64,
}

/// The webhooks to an endpoint, newest first.
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

/// Those of them that have failed. A query of its own, as an index of its own has those.
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

/// A webhook to an endpoint.
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

/// Forgets up to `limit` webhooks that have been over, or held, for `retention`, with their attempts; answers how many.
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
