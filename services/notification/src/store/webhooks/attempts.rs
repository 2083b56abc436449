//! What came of each attempt at a webhook.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Claimed;
use crate::domain::webhook::Verdict;

/// Records an attempt: it is counted and logged in any case, and decides what becomes of the webhook if that is still open.
pub(crate) async fn attempted(
    conn: &mut PgConnection,
    webhook: &Claimed,
    verdict: Verdict,
    reply: &str,
    took: Duration,
) -> sqlx::Result<()> {
    // One that was pruned meanwhile has no log any more.
    sqlx::query!(
        "with counted as (
             update webhook set attempts = attempts + 1 where id = $1 returning id, attempts
         )
         insert into webhook_attempt (webhook_id, attempt, outcome, reply, took_ms)
         select id, attempts, $2, $3, $4 from counted",
        webhook.id,
        verdict.name(),
        reply,
        i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
    )
    .execute(&mut *conn)
    .await?;
    let (state, again) = match verdict {
        Verdict::Delivered => ("delivered", None),
        Verdict::Again(again) => ("queued", Some(again.as_secs_f64())),
        Verdict::Gone | Verdict::GaveUp => ("failed", None),
    };
    // A worker whose lease had ended may come late: what is delivered stays delivered, and what was sent again since it was
    // claimed still goes.
    sqlx::query!(
        "update webhook
         set state = $2,
             due_at = case when $2 = 'queued' then now() + make_interval(secs => coalesce($3::float8, 0)) end,
             last_reply = $4,
             updated_at = now()
         where id = $1 and resent_at is not distinct from $5
               and (state = 'queued' or (state in ('held', 'failed') and $2 = 'delivered'))",
        webhook.id,
        state,
        again,
        reply,
        webhook.resent_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An attempt at a webhook, for the owner of its endpoint.
pub(crate) struct Attempt {
    /// Counted from 1.
    pub(crate) attempt: i32,
    pub(crate) outcome: String,
    pub(crate) reply: String,
    pub(crate) took_ms: i32,
    pub(crate) at: OffsetDateTime,
}

/// The attempts at a webhook, newest first: all, or those before one.
pub(crate) async fn attempts(
    db: impl PgExecutor<'_>,
    webhook: Uuid,
    before: Option<i32>,
    limit: i64,
) -> sqlx::Result<Vec<Attempt>> {
    sqlx::query_as!(
        Attempt,
        "select attempt, outcome, reply, took_ms, at
         from webhook_attempt where webhook_id = $1 and attempt < coalesce($2, 2147483647)
         order by attempt desc
         limit $3",
        webhook,
        before,
        limit,
    )
    .fetch_all(db)
    .await
}
