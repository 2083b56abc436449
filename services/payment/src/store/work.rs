//! Payments that wait for the card processor, claimed by leases on the database's clock.

use std::time::Duration;

use contracts::value::{CustomerId, OrderId};
use holdfast::telemetry::TraceContext;
use sqlx::PgExecutor;
use time::OffsetDateTime;

use super::{accounts::decode, payments::trace_of};

/// A payment that belongs to this worker until its lease ends.
pub(crate) struct Claimed {
    pub(crate) order_id: OrderId,
    /// The customer whose account is to be locked. `None` if the stored id is invalid: that must not keep the other
    /// rows from being worked on.
    pub(crate) customer: Option<CustomerId>,
    pub(crate) due: Due,
    /// The trace of the message that led to the call.
    pub(crate) trace: Option<TraceContext>,
    /// The number of attempts since the payment entered its state, this one included: at least 1.
    pub(crate) attempts: u32,
    /// The end of the lease, which identifies the claim: no other claim of the row has the same.
    lease_until: OffsetDateTime,
}

/// The operation that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A charge of the customer's card.
    Charge,
    /// A refund of the captured charge.
    Refund,
}

/// Claims up to `limit` payments that are due, for `lease`. If the worker dies, they are due again when the lease ends.
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

/// Makes a payment due again after `delay`, because the call got no definite answer. Changes nothing if another worker
/// has claimed the payment since, or it waits no more.
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

/// Makes a payment due again after `delay`, and does not count the attempt, because the call was not made. Changes
/// nothing if another worker has claimed the payment since, or it waits no more.
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

/// Makes a payment due again after `delay`, and records the reason for which no call can be made for it. Does not count
/// the attempt. Changes nothing if another worker has claimed the payment since, or it waits no more.
pub(crate) async fn set_aside(
    db: impl PgExecutor<'_>,
    claimed: &Claimed,
    delay: Duration,
    why: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update payment
         set due_at = now() + make_interval(secs => $3), attempts = greatest(attempts - 1, 0), last_error = $4
         where order_id = $1 and due_at = $2",
        claimed.order_id.0,
        claimed.lease_until,
        delay.as_secs_f64(),
        why,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the number of payments that wait for the card processor.
pub(crate) async fn in_hand(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from payment where due_at is not null"#)
        .fetch_one(db)
        .await
}
