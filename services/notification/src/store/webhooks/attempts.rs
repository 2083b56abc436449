//! What came of each attempt at a webhook.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Claimed;
use crate::domain::webhook::Verdict;

/// What is recorded of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewAttempt<'a> {
    pub(crate) verdict: Verdict,
    /// What was answered, in words.
    pub(crate) reply: &'a str,
    pub(crate) took: Duration,
    /// Whether nothing was stored of it before: else a try that may have committed is looked for.
    pub(crate) is_first_try: bool,
}

/// Records an attempt: it is counted and logged in any case, once, and decides what becomes of the webhook if that is still
/// ours to decide.
pub(crate) async fn attempted(
    conn: &mut PgConnection,
    webhook: &Claimed,
    attempt: &NewAttempt<'_>,
) -> sqlx::Result<()> {
    let NewAttempt {
        verdict,
        reply,
        took,
        is_first_try,
    } = *attempt;
    // One that was pruned meanwhile has no log any more. A try before this one that has committed has ended the lease.
    sqlx::query!(
        "with counted as (
             update webhook set attempts = attempts + 1 where id = $1 and ($5 or due_at = $6) returning id, attempts
         )
         insert into webhook_attempt (webhook_id, attempt, outcome, reply, took_ms)
         select id, attempts, $2, $3, $4 from counted",
        webhook.id,
        verdict.name(),
        reply,
        i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
        is_first_try,
        webhook.lease_until,
    )
    .execute(&mut *conn)
    .await?;
    let (state, again) = match verdict {
        Verdict::Delivered => ("delivered", None),
        Verdict::Again(again) => ("queued", Some(again.as_secs_f64())),
        Verdict::Gone | Verdict::GaveUp => ("failed", None),
    };
    // A worker whose lease had ended may come late. What it delivered is delivered, whoever has it now; but what was sent
    // again since then still goes.
    sqlx::query!(
        "update webhook
         set state = $2,
             due_at = case when $2 = 'queued' then now() + make_interval(secs => coalesce($3::float8, 0)) end,
             last_reply = $4,
             updated_at = now()
         where id = $1
               and (due_at = $6
                    or ($2 = 'delivered' and state in ('queued', 'held', 'failed') and resent_at is not distinct from $5))",
        webhook.id,
        state,
        again,
        reply,
        webhook.resent_at,
        webhook.lease_until,
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
