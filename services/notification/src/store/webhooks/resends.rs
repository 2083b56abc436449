//! Webhooks that go again because somebody wants it.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

/// A webhook under lock.
pub(crate) struct Locked {
    pub(crate) id: Uuid,
    pub(crate) is_queued: bool,
}

/// Locks a webhook to an endpoint: nobody records an attempt at it, prunes it, or has it sent again meanwhile.
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

/// Locks up to `limit` webhooks to an endpoint that have failed and are no older than `since`, the oldest first; not those
/// that somebody else has locked.
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

/// Whether there are such.
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

/// Who wants it, and why.
pub(crate) struct By<'a> {
    pub(crate) asked_by: &'a str,
    pub(crate) note: Option<&'a str>,
}

/// Queues webhooks again that are locked and not queued, as if they had not been tried yet; but attempts are counted on.
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

/// That somebody had a webhook sent again.
pub(crate) struct Resend {
    pub(crate) asked_by: String,
    pub(crate) note: Option<String>,
    pub(crate) at: OffsetDateTime,
}

/// The newest times that a webhook was sent again.
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
