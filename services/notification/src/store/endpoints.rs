//! Where webhooks go.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

/// An endpoint, for its owner. Its secrets are not in it.
pub(crate) struct Endpoint {
    pub(crate) id: Uuid,
    pub(crate) owner: Option<String>,
    pub(crate) url: String,
    pub(crate) events: Option<Vec<String>>,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) old_secret_until: Option<OffsetDateTime>,
    pub(crate) failing_since: Option<OffsetDateTime>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
}

/// An endpoint to be.
pub(crate) struct NewEndpoint<'a> {
    pub(crate) id: Uuid,
    pub(crate) owner: Option<&'a str>,
    pub(crate) url: &'a str,
    pub(crate) events: Option<&'a [String]>,
    pub(crate) secret: &'a [u8],
}

/// Adds an endpoint; false if its owner has `most` already. One at a time for an owner, so that two cannot both be the last.
pub(crate) async fn add(
    conn: &mut PgConnection,
    new: &NewEndpoint<'_>,
    most: i64,
) -> sqlx::Result<bool> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('webhook_endpoint ' || coalesce($1, ''), 0))",
        new.owner,
    )
    .execute(&mut *conn)
    .await?;
    let added = sqlx::query!(
        "insert into webhook_endpoint (id, owner, url, events, secret, state)
         select $1, $2, $3, $4, $5, 'enabled'
         where (select count(*) from webhook_endpoint where owner is not distinct from $2 and state <> 'deleted') < $6",
        new.id,
        new.owner,
        new.url,
        new.events as Option<&[String]>,
        new.secret,
        most,
    )
    .execute(conn)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Endpoints, newest first: an owner's, or all.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    owner: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Endpoint>> {
    sqlx::query_as!(
        Endpoint,
        "select id, owner, url, events, state, reason, failing_since, created_at, updated_at,
                case when old_secret_until > now() then old_secret_until end as old_secret_until
         from webhook_endpoint
         where state <> 'deleted' and ($1::text is null or owner = $1)
         order by created_at desc, id
         limit $2",
        owner,
        limit,
    )
    .fetch_all(db)
    .await
}

/// An endpoint: an owner's, or anybody's.
pub(crate) async fn find(
    db: impl PgExecutor<'_>,
    id: Uuid,
    owner: Option<&str>,
) -> sqlx::Result<Option<Endpoint>> {
    sqlx::query_as!(
        Endpoint,
        "select id, owner, url, events, state, reason, failing_since, created_at, updated_at,
                case when old_secret_until > now() then old_secret_until end as old_secret_until
         from webhook_endpoint
         where id = $1 and state <> 'deleted' and ($2::text is null or owner = $2)",
        id,
        owner,
    )
    .fetch_optional(db)
    .await
}

/// How an endpoint stands that is locked.
pub(crate) struct Standing {
    /// Why it is disabled; none: it is enabled.
    pub(crate) reason: Option<String>,
}

/// Locks an endpoint as it is: nobody enables, disables or deletes it meanwhile. Others may lock it so as well.
pub(crate) async fn lock(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Standing>> {
    sqlx::query_as!(
        Standing,
        "select reason from webhook_endpoint where id = $1 and state <> 'deleted' for share",
        id,
    )
    .fetch_optional(conn)
    .await
}

/// Gives an endpoint a new secret; the one that it has signs too for another `overlap`, of which it answers the end. One that
/// was still valid from the time before is not any more.
pub(crate) async fn rotate(
    db: impl PgExecutor<'_>,
    id: Uuid,
    secret: &[u8],
    overlap: Duration,
) -> sqlx::Result<Option<OffsetDateTime>> {
    sqlx::query_scalar!(
        r#"update webhook_endpoint
           set old_secret = secret, old_secret_until = now() + make_interval(secs => $3), secret = $2, updated_at = now()
           where id = $1 and state <> 'deleted'
           returning old_secret_until as "until!""#,
        id,
        secret,
        overlap.as_secs_f64(),
    )
    .fetch_optional(db)
    .await
}

/// Enables an endpoint, as if nothing had ever failed. What is held for it is [released](super::webhooks::release) after that.
pub(crate) async fn enable(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook_endpoint set state = 'enabled', reason = null, failing_since = null, updated_at = now()
         where id = $1 and state = 'disabled'",
        id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Disables an endpoint; false if it is not enabled. What is queued for it is held, one by one as it comes due.
pub(crate) async fn disable(db: impl PgExecutor<'_>, id: Uuid, reason: &str) -> sqlx::Result<bool> {
    let disabled = sqlx::query!(
        "update webhook_endpoint set state = 'disabled', reason = $2, updated_at = now()
         where id = $1 and state = 'enabled'",
        id,
        reason,
    )
    .execute(db)
    .await?;
    Ok(disabled.rows_affected() == 1)
}

/// Deletes an endpoint, with its secrets. The row goes when its webhooks are pruned.
pub(crate) async fn delete(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook_endpoint
         set state = 'deleted', reason = null, secret = '', old_secret = null, old_secret_until = null, updated_at = now()
         where id = $1",
        id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Something was delivered.
pub(crate) async fn succeeded(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook_endpoint set failing_since = null where id = $1 and failing_since is not null",
        id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Something failed. Answers since how many seconds nothing else has happened.
pub(crate) async fn failed(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<f64> {
    // Most failures follow another one: they write nothing, and wait for nobody.
    sqlx::query!(
        "update webhook_endpoint set failing_since = now() where id = $1 and failing_since is null",
        id,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_scalar!(
        r#"select coalesce(extract(epoch from now() - failing_since), 0)::float8 as "seconds!"
           from webhook_endpoint where id = $1"#,
        id,
    )
    .fetch_one(conn)
    .await
}

/// Forgets up to `limit` deleted endpoints that have no webhooks any more; answers how many.
pub(crate) async fn prune(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<u64> {
    let pruned = sqlx::query!(
        "delete from webhook_endpoint where id in (
             select id from webhook_endpoint
             where state = 'deleted' and not exists (select from webhook where endpoint_id = webhook_endpoint.id)
             limit $1
             for update skip locked
         )",
        limit,
    )
    .execute(db)
    .await?;
    Ok(pruned.rows_affected())
}
