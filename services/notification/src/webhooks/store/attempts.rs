//! The log of attempts at webhooks.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Claimed;
use crate::webhooks::domain::Verdict;

/// The record of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewAttempt<'a> {
    pub(crate) verdict: Verdict,
    /// The receiver's answer in words, or the reason for which there is none.
    pub(crate) reply: &'a str,
    pub(crate) took: Duration,
    /// True on the first try to store this record. On a later one, an earlier try may have committed, and is checked
    /// for.
    pub(crate) is_first_try: bool,
}

/// Records an attempt: counts and logs it exactly once, and sets the webhook's new state if this worker's claim still
/// holds.
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
    // A webhook that was pruned meanwhile has no log any more. An earlier try that has committed has ended the lease.
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
    let (state, retry_in) = match verdict {
        Verdict::Delivered => ("delivered", None),
        Verdict::Retry(wait) => ("queued", Some(wait.as_secs_f64())),
        Verdict::Gone | Verdict::GaveUp => ("failed", None),
    };
    // A worker whose lease has ended may come late. A webhook that it delivered counts as delivered, also if another
    // worker has claimed it since; but if it was resent since, it is still to be sent.
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
        retry_in,
        reply,
        webhook.resent_at,
        webhook.lease_until,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An attempt at a webhook, as the owner of its endpoint sees it.
pub(crate) struct Attempt {
    /// The attempt's number, counted from 1.
    pub(crate) attempt: i32,
    pub(crate) outcome: String,
    pub(crate) reply: String,
    pub(crate) took_ms: i32,
    pub(crate) at: OffsetDateTime,
}

/// Returns up to `limit` attempts at a webhook, newest first: all, or those before the one numbered `before`.
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
