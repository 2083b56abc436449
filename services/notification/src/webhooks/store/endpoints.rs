//! Webhook endpoints, and their secrets.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

/// An endpoint as its owner sees it, without its secrets.
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

/// A secret as it is stored: sealed, or in plain by a replica that cannot seal. If both are there, the plain one was
/// written last, and holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The secret in plain; empty if it is only stored sealed.
    pub(crate) plain: Vec<u8>,
    pub(crate) sealed: Option<String>,
}

impl Kept {
    pub(crate) fn plain(secret: &[u8]) -> Self {
        Self {
            plain: secret.to_vec(),
            sealed: None,
        }
    }

    pub(crate) fn sealed(sealed: String) -> Self {
        Self {
            plain: Vec::new(),
            sealed: Some(sealed),
        }
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_plain = !self.plain.is_empty();
        f.debug_struct("Kept")
            .field("is_plain", &is_plain)
            .field("sealed", &self.sealed)
            .finish_non_exhaustive()
    }
}

/// An endpoint's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secrets {
    pub(crate) endpoint_id: Uuid,
    pub(crate) secret: Kept,
    /// The secret before the last rotation, while it is valid.
    pub(crate) old: Option<Kept>,
}

/// An endpoint's secrets as the table's columns hold them.
pub(crate) struct SecretColumns {
    pub(crate) id: Uuid,
    pub(crate) secret: Vec<u8>,
    pub(crate) sealed: Option<String>,
    /// The old secret in plain, empty if it is sealed; `None` if there is no valid one.
    pub(crate) old_secret: Option<Vec<u8>>,
    pub(crate) old_sealed: Option<String>,
}

impl From<SecretColumns> for Secrets {
    fn from(columns: SecretColumns) -> Self {
        let SecretColumns {
            id,
            secret,
            sealed,
            old_secret,
            old_sealed,
        } = columns;
        // An older replica that rotates a sealed secret moves the empty plain one to `old_secret`, and leaves `sealed`
        // as it was: then `sealed` is the secret before.
        let is_rotated_over = !secret.is_empty()
            && sealed.is_some()
            && old_secret.as_ref().is_some_and(Vec::is_empty);
        let (sealed, old_sealed) = if is_rotated_over {
            (None, sealed)
        } else {
            (sealed, old_sealed)
        };
        Self {
            endpoint_id: id,
            secret: Kept {
                plain: secret,
                sealed,
            },
            old: old_secret.map(|plain| Kept {
                plain,
                sealed: old_sealed,
            }),
        }
    }
}

/// An endpoint to be added.
pub(crate) struct NewEndpoint<'a> {
    pub(crate) id: Uuid,
    pub(crate) owner: Option<&'a str>,
    pub(crate) url: &'a str,
    pub(crate) events: Option<&'a [String]>,
    pub(crate) secret: &'a Kept,
}

/// Adds an endpoint; returns false if its owner has `most` already. A lock admits one addition at a time for an owner,
/// so that two cannot both be the last.
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
        "insert into webhook_endpoint (id, owner, url, events, secret, sealed, state)
         select $1, $2, $3, $4, $5, $7, 'enabled'
         where (select count(*) from webhook_endpoint where owner is not distinct from $2 and state <> 'deleted') < $6",
        new.id,
        new.owner,
        new.url,
        new.events as Option<&[String]>,
        new.secret.plain,
        most,
        new.secret.sealed,
    )
    .execute(conn)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Returns the number of an owner's endpoints, or of the operators' for `None`.
pub(crate) async fn count(db: impl PgExecutor<'_>, owner: Option<&str>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from webhook_endpoint
           where owner is not distinct from $1 and state <> 'deleted'"#,
        owner,
    )
    .fetch_one(db)
    .await
}

/// Returns up to `limit` endpoints, newest first: an owner's, or all for `None`.
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

/// Finds an endpoint of an owner, or of any for `None`.
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

/// The standing of a locked endpoint.
pub(crate) struct Standing {
    /// The reason for which it is disabled; `None` if it is enabled.
    pub(crate) reason: Option<String>,
}

/// Locks an endpoint against being enabled, disabled or deleted. The lock is shared: other transactions may hold it
/// too.
pub(crate) async fn lock(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Standing>> {
    sqlx::query_as!(
        Standing,
        "select reason from webhook_endpoint where id = $1 and state <> 'deleted' for share",
        id,
    )
    .fetch_optional(conn)
    .await
}

/// Locks an endpoint, and returns its secrets.
pub(crate) async fn lock_secrets(
    conn: &mut PgConnection,
    id: Uuid,
) -> sqlx::Result<Option<Secrets>> {
    let columns = sqlx::query_as!(
        SecretColumns,
        "select id, secret, sealed, case when old_secret_until > now() then old_secret end as old_secret, old_sealed
         from webhook_endpoint where id = $1 and state <> 'deleted' for no key update",
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(columns.map(Secrets::from))
}

/// Gives a locked endpoint a new secret. `old`, the one that it had, signs too for another `overlap`; returns the end
/// of that time.
pub(crate) async fn rotate(
    conn: &mut PgConnection,
    id: Uuid,
    secret: &Kept,
    old: &Kept,
    overlap: Duration,
) -> sqlx::Result<OffsetDateTime> {
    sqlx::query_scalar!(
        r#"update webhook_endpoint
           set secret = $2, sealed = $3, old_secret = $4, old_sealed = $5,
               old_secret_until = now() + make_interval(secs => $6), updated_at = now()
           where id = $1
           returning old_secret_until as "until!""#,
        id,
        secret.plain,
        secret.sealed,
        old.plain,
        old.sealed,
        overlap.as_secs_f64(),
    )
    .fetch_one(conn)
    .await
}

/// Returns the ids of up to `limit` endpoints after `after`, in the order of their ids.
pub(crate) async fn ids_after(
    db: impl PgExecutor<'_>,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select id from webhook_endpoint where id > $1 and state <> 'deleted' order by id limit $2",
        after,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Stores the secrets of a locked endpoint in another form, and deletes an old one that is not valid any more.
pub(crate) async fn keep_secrets(conn: &mut PgConnection, secrets: &Secrets) -> sqlx::Result<()> {
    let old = secrets.old.as_ref();
    sqlx::query!(
        "update webhook_endpoint
         set secret = $2, sealed = $3, old_secret = $4, old_sealed = $5,
             old_secret_until = case when $4::bytea is not null then old_secret_until end
         where id = $1",
        secrets.endpoint_id,
        secrets.secret.plain,
        secrets.secret.sealed,
        old.map(|old| &old.plain),
        old.and_then(|old| old.sealed.as_ref()),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Enables an endpoint, and forgets its failures. The caller [releases](super::release) its held webhooks
/// afterwards.
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

/// Disables an endpoint; returns false if it is not enabled. Its queued webhooks are held one by one, as they come due.
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

/// Marks an endpoint as deleted, and deletes its secrets. The row is deleted after its webhooks have been pruned.
pub(crate) async fn delete(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook_endpoint
         set state = 'deleted', reason = null, secret = '', sealed = null, old_secret = null, old_sealed = null,
             old_secret_until = null, updated_at = now()
         where id = $1",
        id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Records that a webhook was delivered: the endpoint is not failing.
pub(crate) async fn succeeded(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update webhook_endpoint set failing_since = null where id = $1 and failing_since is not null",
        id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Records that an attempt failed. Returns the seconds since the first failure after the last delivery.
pub(crate) async fn failed(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<f64> {
    // Most failures follow another one, so they write nothing and wait for no lock.
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

/// Deletes the rows of up to `limit` deleted endpoints that have no webhooks any more; returns how many.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(
        secret: &[u8],
        sealed: Option<&str>,
        old_secret: Option<&[u8]>,
        old_sealed: Option<&str>,
    ) -> Secrets {
        Secrets::from(SecretColumns {
            id: Uuid::nil(),
            secret: secret.to_vec(),
            sealed: sealed.map(str::to_owned),
            old_secret: old_secret.map(<[u8]>::to_vec),
            old_sealed: old_sealed.map(str::to_owned),
        })
    }

    #[test]
    fn rotation_by_an_older_replica_keeps_the_secret_before() {
        let sealed = |text: &str| Kept::sealed(text.to_owned());
        let both = columns(b"", Some("k:new"), Some(b""), Some("k:old"));
        assert_eq!(
            (both.secret, both.old),
            (sealed("k:new"), Some(sealed("k:old")))
        );
        let plain = columns(b"new", None, Some(b"old"), None);
        assert_eq!(
            (plain.secret, plain.old),
            (Kept::plain(b"new"), Some(Kept::plain(b"old")))
        );
        // The older replica knew nothing of `sealed`: it moved an empty secret to `old_secret`.
        let over = columns(b"new", Some("k:before"), Some(b""), Some("k:long ago"));
        assert_eq!(
            (over.secret, over.old),
            (Kept::plain(b"new"), Some(sealed("k:before")))
        );
        let over = columns(b"new", Some("k:before"), None, None);
        assert_eq!(over.old, None, "the old secret has expired");
    }
}
