//! All SQL of webhooks, on the caller's transaction: from their queueing to their end; in `endpoints`, endpoints and
//! their secrets; in `attempts`, the log of attempts; in `resends`, resending on request; and in `seen`, the queries
//! that show webhooks.

mod attempts;
pub(crate) mod endpoints;
mod resends;
mod seen;

use std::time::Duration;

pub(crate) use attempts::{Attempt, NewAttempt, attempted, attempts};
use contracts::value::{CustomerId, OrderId};
pub(crate) use resends::{By, Resend, has_failed, lock, lock_failed, resend, resends};
pub(crate) use seen::{Page, Webhook, find, list, list_failed, prune, queued};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use self::endpoints::{SecretColumns, Secrets};

/// The end of an order, to be queued for every endpoint that wants it.
pub(crate) struct NewWebhook {
    pub(crate) message_id: Uuid,
    pub(crate) order_id: OrderId,
    /// The order's customer.
    pub(crate) customer: CustomerId,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
    pub(crate) traceparent: Option<String>,
}

/// Queues one webhook for each endpoint that is enabled and wants it.
///
/// The lock keeps the endpoints from being pruned meanwhile. It conflicts with no other operation on them.
pub(crate) async fn queue(conn: &mut PgConnection, new: &[NewWebhook]) -> sqlx::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let messages: Vec<Uuid> = new.iter().map(|new| new.message_id).collect();
    let orders: Vec<Uuid> = new.iter().map(|new| new.order_id.0).collect();
    let customers: Vec<String> = new.iter().map(|new| new.customer.to_string()).collect();
    let kinds: Vec<String> = new.iter().map(|new| new.kind.to_owned()).collect();
    let bodies: Vec<String> = new.iter().map(|new| new.body.clone()).collect();
    let traces: Vec<Option<String>> = new.iter().map(|new| new.traceparent.clone()).collect();
    sqlx::query!(
        "insert into webhook (id, endpoint_id, message_id, order_id, kind, body, traceparent, state, due_at)
         select gen_random_uuid(), endpoint.id, new.message_id, new.order_id, new.kind, new.body, new.traceparent, 'queued', now()
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
              as new (message_id, order_id, customer, kind, body, traceparent)
         join webhook_endpoint as endpoint
              on (endpoint.owner is null or endpoint.owner = new.customer)
              and (endpoint.events is null or new.kind = any(endpoint.events))
         where endpoint.state = 'enabled'
         order by endpoint.id
         for key share of endpoint
         on conflict (endpoint_id, message_id) do nothing",
        &messages,
        &orders,
        &customers,
        &kinds,
        &bodies,
        &traces as &[Option<String>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A webhook that belongs to this worker until its lease ends.
pub(crate) struct Claimed {
    pub(crate) id: Uuid,
    pub(crate) endpoint_id: Uuid,
    pub(crate) message_id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) body: String,
    pub(crate) traceparent: Option<String>,
    /// The number of attempts so far, without this one.
    pub(crate) attempts: i32,
    /// The number of those attempts since it was last resent.
    pub(crate) attempts_since: i32,
    /// The time since it was queued or last resent, in seconds.
    pub(crate) age_seconds: f64,
    /// The time at which it was last resent.
    pub(crate) resent_at: Option<OffsetDateTime>,
    /// The time of this attempt, in seconds since 1970: the header webhook-timestamp.
    pub(crate) sent_at: i64,
    /// The customer whose endpoint it goes to; `None` for the operators' endpoints.
    pub(crate) owner: Option<String>,
    pub(crate) url: String,
    pub(crate) is_enabled: bool,
    pub(crate) secret: Vec<u8>,
    pub(crate) sealed: Option<String>,
    /// The secret before the last rotation, while it is valid.
    pub(crate) old_secret: Option<Vec<u8>>,
    pub(crate) old_sealed: Option<String>,
    /// The end of the lease, which identifies the claim: no other claim of the row has the same.
    lease_until: OffsetDateTime,
}

impl Claimed {
    /// Returns the secrets that sign the webhook, as they are stored.
    pub(crate) fn secrets(&self) -> Secrets {
        Secrets::from(SecretColumns {
            id: self.endpoint_id,
            secret: self.secret.clone(),
            sealed: self.sealed.clone(),
            old_secret: self.old_secret.clone(),
            old_sealed: self.old_sealed.clone(),
        })
    }
}

/// The limits of a claim.
pub(crate) struct Wanted<'a> {
    /// The most webhooks to claim.
    pub(crate) limit: i64,
    /// The most webhooks of one endpoint, so that the backlog of one does not keep the others waiting.
    pub(crate) of_one_endpoint: i64,
    /// The number of webhooks in flight, by endpoint; they count towards `of_one_endpoint`.
    pub(crate) under_way: &'a [(Uuid, i64)],
}

/// Claims webhooks that are due, for `lease`. If the worker dies, they are due again when the lease ends.
pub(crate) async fn claim(
    db: impl PgExecutor<'_>,
    wanted: &Wanted<'_>,
    lease: Duration,
) -> sqlx::Result<Vec<Claimed>> {
    let (endpoints, counts): (Vec<Uuid>, Vec<i64>) = wanted.under_way.iter().copied().unzip();
    let is_full = |(_, n): &&(Uuid, i64)| *n >= wanted.of_one_endpoint;
    let full: Vec<Uuid> = wanted
        .under_way
        .iter()
        .filter(is_full)
        .map(|(id, _)| *id)
        .collect();
    sqlx::query_as!(
        Claimed,
        r#"with first as (
               select id, endpoint_id, due_at from webhook
               where due_at <= now() and endpoint_id <> all($4)
               order by due_at
               limit 500
           ), ranked as (
               select first.id,
                      row_number() over (partition by first.endpoint_id order by first.due_at) + coalesce(under_way.n, 0) as place
               from first
               left join unnest($5::uuid[], $6::int8[]) as under_way (endpoint_id, n) using (endpoint_id)
           ), due as (
               select id from webhook
               where id in (select id from ranked where place <= $2) and due_at <= now()
               order by due_at
               limit $1
               for update skip locked
           )
           update webhook set due_at = now() + make_interval(secs => $3)
           from due, webhook_endpoint as endpoint
           where webhook.id = due.id and endpoint.id = webhook.endpoint_id
           returning webhook.id, webhook.due_at as "lease_until!", webhook.endpoint_id, webhook.message_id, webhook.order_id, webhook.body,
                     webhook.traceparent, webhook.attempts, webhook.resent_at, endpoint.owner, endpoint.url, endpoint.secret,
                     endpoint.sealed, endpoint.old_sealed,
                     webhook.attempts - webhook.attempts_before as "attempts_since!",
                     case when endpoint.old_secret_until > now() then endpoint.old_secret end as old_secret,
                     endpoint.state = 'enabled' as "is_enabled!",
                     extract(epoch from now())::int8 as "sent_at!",
                     extract(epoch from now() - coalesce(webhook.resent_at, webhook.created_at))::float8 as "age_seconds!""#,
        wanted.limit,
        wanted.of_one_endpoint,
        lease.as_secs_f64(),
        &full,
        &endpoints,
        &counts,
    )
    .fetch_all(db)
    .await
}

/// Gives a webhook up without a further attempt. Changes nothing if another worker has claimed it since, or it was
/// resent. The reply to its last attempt, if there was one, is kept.
pub(crate) async fn give_up(
    db: impl PgExecutor<'_>,
    webhook: &Claimed,
    why: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook
         set state = 'failed', due_at = null, last_reply = coalesce(last_reply, $2), updated_at = now()
         where id = $1 and due_at = $3",
        webhook.id,
        why,
        webhook.lease_until,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Puts off a webhook that was not tried, by `after` and up to `spread` more. Changes nothing if another worker has
/// claimed it since, or it was resent.
pub(crate) async fn put_off(
    db: impl PgExecutor<'_>,
    webhook: &Claimed,
    after: Duration,
    spread: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook set due_at = now() + make_interval(secs => $2 + random() * $3)
         where id = $1 and due_at = $4",
        webhook.id,
        after.as_secs_f64(),
        spread.as_secs_f64(),
        webhook.lease_until,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Puts off up to `limit` webhooks that are due at an endpoint, each by `after` and up to `spread` more. Claimed
/// webhooks are not due, and stay as they are.
pub(crate) async fn put_off_others(
    db: impl PgExecutor<'_>,
    endpoint: Uuid,
    after: Duration,
    spread: Duration,
    limit: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook set due_at = now() + make_interval(secs => $2 + random() * $3)
         where id in (
             select id from webhook where endpoint_id = $1 and due_at <= now() order by due_at limit $4 for update skip locked
         )",
        endpoint,
        after.as_secs_f64(),
        spread.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Holds a webhook whose endpoint is not enabled. Changes nothing if another worker has claimed the webhook since. The
/// lock of the endpoint makes it wait for a transaction that is enabling the endpoint; it is taken after the webhook's,
/// as in every transaction that locks both.
pub(crate) async fn hold(db: impl PgExecutor<'_>, webhook: &Claimed) -> sqlx::Result<()> {
    sqlx::query!(
        "with mine as (
             select id, endpoint_id from webhook where id = $1 and due_at = $2 for update
         ), disabled as (
             select mine.id
             from mine join webhook_endpoint endpoint on endpoint.id = mine.endpoint_id
             where endpoint.state <> 'enabled'
             for share of endpoint
         )
         update webhook set state = 'held', due_at = null, updated_at = now()
         from disabled
         where webhook.id = disabled.id",
        webhook.id,
        webhook.lease_until,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Queues up to `limit` webhooks that were held for an endpoint; returns how many.
pub(crate) async fn release(
    db: impl PgExecutor<'_>,
    endpoint: Uuid,
    limit: i64,
) -> sqlx::Result<u64> {
    let released = sqlx::query!(
        "update webhook set state = 'queued', due_at = now(), updated_at = now()
         where id in (select id from webhook where endpoint_id = $1 and state = 'held' limit $2 for update skip locked)",
        endpoint,
        limit,
    )
    .execute(db)
    .await?;
    Ok(released.rows_affected())
}
