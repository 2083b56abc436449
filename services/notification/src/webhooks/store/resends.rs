//! Webhooks that are resent on request.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

/// A webhook whose row is locked.
pub(crate) struct Locked {
    pub(crate) id: Uuid,
    pub(crate) is_queued: bool,
}

/// Locks a webhook to an endpoint: until the transaction ends no attempt is recorded, and it is neither pruned nor
/// resent.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    endpoint: Uuid,
    message: Uuid,
) -> sqlx::Result<Option<Locked>> {
    sqlx::query_as!(
        Locked,
        r#"select id, state = 'queued' as "is_queued!"
           from webhook where endpoint_id = $1 and message_id = $2
           for update"#,
        endpoint,
        message,
    )
    .fetch_optional(conn)
    .await
}

/// Locks up to `limit` failed webhooks to an endpoint that were first queued at `since` or later, the oldest first.
/// Skips those that another transaction has locked.
pub(crate) async fn lock_failed(
    conn: &mut PgConnection,
    endpoint: Uuid,
    since: OffsetDateTime,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select id from webhook
         where endpoint_id = $1 and state = 'failed' and created_at >= $2
         order by created_at, id
         limit $3
         for update skip locked",
        endpoint,
        since,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Returns true if an endpoint has failed webhooks that were first queued at `since` or later.
pub(crate) async fn has_failed(
    db: impl PgExecutor<'_>,
    endpoint: Uuid,
    since: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
               select from webhook where endpoint_id = $1 and state = 'failed' and created_at >= $2
           ) as "has_failed!""#,
        endpoint,
        since,
    )
    .fetch_one(db)
    .await
}

/// The customer or operator who requested a resend, and the reason.
pub(crate) struct By<'a> {
    pub(crate) asked_by: &'a str,
    pub(crate) note: Option<&'a str>,
}

/// Queues locked webhooks again that are not queued, with age and waits as of new ones. Their attempts are counted on.
pub(crate) async fn resend(conn: &mut PgConnection, ids: &[Uuid], by: &By<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "with again as (
             update webhook
             set state = 'queued', due_at = now(), resent_at = now(), attempts_before = attempts, last_reply = null,
                 updated_at = now()
             where id = any($1)
             returning id
         )
         insert into webhook_resend (webhook_id, asked_by, note) select id, $2, $3 from again",
        ids,
        by.asked_by,
        by.note,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The record of a resend on request.
pub(crate) struct Resend {
    pub(crate) asked_by: String,
    pub(crate) note: Option<String>,
    pub(crate) at: OffsetDateTime,
}

/// Returns the newest `limit` resends of a webhook.
pub(crate) async fn resends(
    db: impl PgExecutor<'_>,
    webhook: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Resend>> {
    sqlx::query_as!(
        Resend,
        "select asked_by, note, at from webhook_resend where webhook_id = $1 order by id desc limit $2",
        webhook,
        limit,
    )
    .fetch_all(db)
    .await
}
