//! The SQL of mails, on the caller's transaction, and the migrations of the whole service.

use std::{collections::BTreeMap, time::Duration};

use contracts::value::{Email, OrderId};
use sqlx::{PgConnection, PgExecutor, migrate::Migrator};
use time::OffsetDateTime;
use uuid::Uuid;

/// Returns the migrations of the service's own schema.
pub(crate) fn migrator() -> Migrator {
    sqlx::migrate!()
}

/// Returns the migrations that show the auditor the books. They run after all others, whose tables they read.
pub(crate) fn audit() -> Migrator {
    let mut migrator = sqlx::migrate!("./audit");
    migrator.dangerous_set_table_name("_audit_migrations");
    migrator
}

/// Locks these orders' rows in `told`, by ascending id. Returns the versions of the last news, by order. A row that
/// does not exist yet cannot be locked: see [`tell_first`].
pub(crate) async fn lock_told(
    conn: &mut PgConnection,
    ids: &[OrderId],
) -> sqlx::Result<BTreeMap<OrderId, u32>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        "select order_id, order_version from told where order_id = any($1) order by order_id for update",
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (OrderId(row.order_id), version(row.order_version)))
        .collect())
}

fn version(version: i32) -> u32 {
    version.try_into().unwrap_or(0)
}

fn columns(told: &[(OrderId, u32)]) -> (Vec<Uuid>, Vec<i32>) {
    told.iter()
        .map(|(id, version)| (id.0, i32::try_from(*version).unwrap_or(i32::MAX)))
        .unzip()
}

/// Inserts the versions of the first news about orders into `told`, and returns how many. If they are fewer than were
/// given, another transaction has inserted one meanwhile, and the caller must roll back: it decided without that row.
pub(crate) async fn tell_first(
    conn: &mut PgConnection,
    told: &[(OrderId, u32)],
) -> sqlx::Result<usize> {
    let (ids, versions) = columns(told);
    let inserted = sqlx::query!(
        "insert into told (order_id, order_version) select * from unnest($1::uuid[], $2::int4[]) on conflict do nothing",
        &ids,
        &versions,
    )
    .execute(conn)
    .await?;
    Ok(usize::try_from(inserted.rows_affected()).unwrap_or(usize::MAX))
}

/// Updates the versions in locked rows of `told`, for further news about their orders.
pub(crate) async fn tell_again(
    conn: &mut PgConnection,
    told: &[(OrderId, u32)],
) -> sqlx::Result<()> {
    let (ids, versions) = columns(told);
    sqlx::query!(
        "update told set order_version = new.order_version, updated_at = now()
         from unnest($1::uuid[], $2::int4[]) as new (order_id, order_version)
         where told.order_id = new.order_id",
        &ids,
        &versions,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A mail to be queued.
#[derive(Clone, Debug)]
pub(crate) struct NewMail {
    pub(crate) id: Uuid,
    pub(crate) order_id: OrderId,
    pub(crate) kind: &'static str,
    pub(crate) recipient: Option<Email>,
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) traceparent: Option<String>,
}

/// Queues mails; one without an address is recorded as skipped. A second mail of a kind about an order is dropped.
pub(crate) async fn queue(conn: &mut PgConnection, mails: &[NewMail]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = mails.iter().map(|mail| mail.id).collect();
    let orders: Vec<Uuid> = mails.iter().map(|mail| mail.order_id.0).collect();
    let kinds: Vec<String> = mails.iter().map(|mail| mail.kind.to_owned()).collect();
    let recipients: Vec<Option<String>> = mails
        .iter()
        .map(|mail| mail.recipient.clone().map(String::from))
        .collect();
    let subjects: Vec<String> = mails.iter().map(|mail| mail.subject.clone()).collect();
    let bodies: Vec<String> = mails.iter().map(|mail| mail.body.clone()).collect();
    let traces: Vec<Option<String>> = mails.iter().map(|mail| mail.traceparent.clone()).collect();
    sqlx::query!(
        "insert into mail (id, order_id, kind, recipient, subject, body, traceparent, state, due_at)
         select *, case when recipient is null then 'skipped' else 'queued' end,
                   case when recipient is not null then now() end
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
              as new (id, order_id, kind, recipient, subject, body, traceparent)
         on conflict (order_id, kind) do nothing",
        &ids,
        &orders,
        &kinds,
        &recipients as &[Option<String>],
        &subjects,
        &bodies,
        &traces as &[Option<String>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A mail that belongs to this worker until its lease ends.
pub(crate) struct Claimed {
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) recipient: Option<String>,
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) traceparent: Option<String>,
    /// The number of attempts, this one included: at least 1.
    pub(crate) attempts: i32,
    /// The time since it was queued, in seconds.
    pub(crate) age_seconds: f64,
    /// The end of the lease, which identifies the claim: no other claim of the row has the same.
    lease_until: OffsetDateTime,
}

/// Claims up to `limit` mails that are due, for `lease`. If the worker dies, they are due again when the lease ends.
pub(crate) async fn claim(
    db: impl PgExecutor<'_>,
    limit: i64,
    lease: Duration,
) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"update mail
           set due_at = now() + make_interval(secs => $2), attempts = attempts + 1
           where id in (select id from mail where due_at <= now() order by due_at limit $1 for update skip locked)
           returning id, order_id, recipient, subject, body, traceparent, attempts, due_at as "lease_until!",
                     extract(epoch from now() - created_at)::float8 as "age_seconds!""#,
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(db)
    .await
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server has taken the mail.
    Accepted,
    /// The server refuses the mail for good.
    Refused,
    /// The server cannot take the mail now. Try again.
    Deferred,
    /// The server gave no definite reply, and may have taken the mail. Try again.
    Unknown,
}

/// The record of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) outcome: Outcome,
    /// The server's reply, or the error.
    pub(crate) reply: &'a str,
    /// The delay until the mail is due again; `None` if it is over.
    pub(crate) retry_in: Option<Duration>,
    /// True on the first try to store this record. On a later one, an earlier try may have committed, and is checked
    /// for.
    pub(crate) is_first_try: bool,
}

/// Records an attempt: logs it exactly once, and makes the mail over, or due again after `retry_in`. If another worker
/// has claimed the mail since, its state is left to that worker, except that an accepted mail becomes sent.
pub(crate) async fn delivered(
    conn: &mut PgConnection,
    mail: &Claimed,
    attempt: &Attempt<'_>,
) -> sqlx::Result<()> {
    let Attempt {
        outcome,
        reply,
        retry_in,
        is_first_try,
    } = *attempt;
    let name = match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Refused => "refused",
        Outcome::Deferred => "deferred",
        Outcome::Unknown => "unknown",
    };
    // An earlier try that has committed has ended the lease.
    sqlx::query!(
        "insert into delivery (mail_id, attempt, outcome, reply)
         select $1, $2, $3, $4
         where $5 or exists (select from mail where id = $1 and due_at = $6)",
        mail.id,
        mail.attempts,
        name,
        reply,
        is_first_try,
        mail.lease_until,
    )
    .execute(&mut *conn)
    .await?;
    let state = match (outcome, retry_in) {
        (Outcome::Accepted, _) => "sent",
        (_, Some(_)) => "queued",
        (_, None) => "failed",
    };
    sqlx::query!(
        "update mail
         set state = $2,
             due_at = case when $2 = 'queued' then now() + make_interval(secs => coalesce($3::float8, 0)) end,
             updated_at = now()
         where id = $1 and (due_at = $4 or ($2 = 'sent' and state <> 'sent'))",
        mail.id,
        state,
        retry_in.map(|wait| wait.as_secs_f64()),
        mail.lease_until,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes a mail due again after `delay`, and does not count the attempt, because it was not handed to the server.
/// Changes nothing if another worker has claimed the mail since, or it is over.
pub(crate) async fn put_back(
    db: impl PgExecutor<'_>,
    mail: &Claimed,
    delay: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update mail set due_at = now() + make_interval(secs => $2), attempts = greatest(attempts - 1, 0)
         where id = $1 and due_at = $3",
        mail.id,
        delay.as_secs_f64(),
        mail.lease_until,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The mails that wait to be sent: their number, and the age of the oldest in seconds.
pub(crate) struct Queued {
    pub(crate) count: i64,
    pub(crate) oldest_seconds: f64,
}

/// Returns the number of mails that wait to be sent, and the age of the oldest.
pub(crate) async fn queued(db: impl PgExecutor<'_>) -> sqlx::Result<Queued> {
    sqlx::query_as!(
        Queued,
        r#"select count(*) as "count!",
                  coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as "oldest_seconds!"
           from mail where due_at is not null"#
    )
    .fetch_one(db)
    .await
}

/// A mail as operators see it.
pub(crate) struct Mail {
    pub(crate) id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) kind: String,
    pub(crate) recipient: Option<String>,
    pub(crate) subject: String,
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) last_reply: Option<String>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
}

/// Returns up to `limit` mails, newest first: of one order or of all, in one state or in all.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    order: Option<OrderId>,
    state: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Mail>> {
    sqlx::query_as!(
        Mail,
        r#"select id, order_id, kind, recipient, subject, state, attempts, created_at, updated_at,
                  (select reply from delivery where mail_id = mail.id order by delivery.id desc limit 1) as last_reply
           from mail
           where ($1::uuid is null or order_id = $1) and ($2::text is null or state = $2)
           order by created_at desc, id
           limit $3"#,
        order.map(|order| order.0),
        state,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Queues a failed mail again, with its attempts and age reset. Returns false if there is no failed mail of this id.
pub(crate) async fn requeue(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<bool> {
    let requeued = sqlx::query!(
        "update mail set state = 'queued', attempts = 0, due_at = now(), created_at = now(), updated_at = now()
         where id = $1 and state = 'failed'",
        id,
    )
    .execute(db)
    .await?;
    Ok(requeued.rows_affected() == 1)
}
