//! What waits for the card company: claimed by leases, on the database's clock.

use std::time::Duration;

use contracts::value::{CustomerId, OrderId};
use holdfast::telemetry::TraceContext;
use sqlx::PgExecutor;
use time::OffsetDateTime;

use super::{accounts::decode, payments::trace_of};

/// A payment that this worker alone works on until its lease ends.
pub(crate) struct Claimed {
    pub(crate) order_id: OrderId,
    /// Whose account is to be locked; none, if what is stored is no customer's id: no reason not to work on the others.
    pub(crate) customer: Option<CustomerId>,
    pub(crate) due: Due,
    /// The trace of what led to it.
    pub(crate) trace: Option<TraceContext>,
    /// How often it was tried, with this time.
    pub(crate) attempts: u32,
    /// When the lease ends: no other claim of it has the same.
    lease_until: OffsetDateTime,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Take the money.
    Charge,
    /// Give it back.
    Refund,
}

/// Claims up to `limit` payments that are due, for `lease`. One that a worker dies with is due again when its lease ends.
pub(crate) async fn claim(
    db: impl PgExecutor<'_>,
    limit: i64,
    lease: Duration,
) -> sqlx::Result<Vec<Claimed>> {
    let rows = sqlx::query!(
        r#"update payment
         set due_at = now() + make_interval(secs => $2), attempts = attempts + 1
         where order_id in (
             select order_id from payment
             where due_at <= now()
             order by due_at
             limit $1
             for update skip locked
         )
         returning order_id, state, attempts, traceparent, tracestate, customer_id as "customer!", due_at as "due_at!""#,
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Claimed {
            order_id: OrderId(row.order_id),
            customer: decode(&row.customer).ok(),
            trace: trace_of(row.traceparent.as_deref(), row.tracestate.as_deref()),
            due: if row.state == "refunding" {
                Due::Refund
            } else {
                Due::Charge
            },
            attempts: row.attempts.try_into().unwrap_or(u32::MAX),
            lease_until: row.due_at,
        })
        .collect())
}

/// There was no definite answer: it is due again after `delay`. Not if it is somebody else's by now, or has ended.
pub(crate) async fn put_off(
    db: impl PgExecutor<'_>,
    claimed: &Claimed,
    delay: Duration,
    error: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update payment set due_at = now() + make_interval(secs => $3), last_error = $4
         where order_id = $1 and due_at = $2",
        claimed.order_id.0,
        claimed.lease_until,
        delay.as_secs_f64(),
        error,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// It was not asked: it is due again after `delay`, and this was no attempt. Not if it is somebody else's by now, or has ended.
pub(crate) async fn put_back(
    db: impl PgExecutor<'_>,
    claimed: &Claimed,
    delay: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update payment set due_at = now() + make_interval(secs => $3), attempts = greatest(attempts - 1, 0)
         where order_id = $1 and due_at = $2",
        claimed.order_id.0,
        claimed.lease_until,
        delay.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How many wait for the card company, for the gauge.
pub(crate) async fn in_hand(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from payment where due_at is not null"#)
        .fetch_one(db)
        .await
}
