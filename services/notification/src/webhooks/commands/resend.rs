//! Resends webhooks on request: their receiver has lost them, or had failed for too long.
//!
//! A webhook is resent under its own `webhook-id`, so that a receiver that has handled it already can ignore it.

use chassis::http::Problem;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::webhooks::store::{self, By, endpoints};

/// The most webhooks that one request recovers.
const RECOVER_AT_MOST: i64 = 500;

/// The reason for which nothing is resent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The webhook does not exist, or has been pruned.
    #[error("there is no such webhook")]
    NoWebhook,
    /// The endpoint has been deleted.
    #[error("there is no such webhook endpoint")]
    NoEndpoint,
    /// The endpoint is disabled, so the webhook would only be held. Enable the endpoint first.
    #[error("the endpoint is disabled ({0}): enable it first")]
    Disabled(String),
    /// The database failed; its own error says if a retry can help.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NoWebhook | Error::NoEndpoint => Self::not_found(error),
            Error::Disabled(_) => Self::conflict(error),
            Error::Database(error) => error.into(),
        }
    }
}

/// Queues a webhook again, also one that was delivered. Returns false if it is queued already.
pub(crate) async fn resend(
    conn: &mut PgConnection,
    endpoint: Uuid,
    message: Uuid,
    by: &By<'_>,
) -> Result<bool, Error> {
    let webhook = store::lock(conn, endpoint, message).await?;
    let webhook = webhook.ok_or(Error::NoWebhook)?;
    expect_enabled(conn, endpoint).await?;
    if webhook.is_queued {
        return Ok(false);
    }
    store::resend(conn, &[webhook.id], by).await?;
    Ok(true)
}

/// The result of [`recover`].
pub(crate) struct Recovered {
    /// The number of webhooks that were queued again.
    pub(crate) resent: usize,
    /// True if further failed webhooks are left: call [`recover`] again.
    pub(crate) more: bool,
}

/// Queues failed webhooks again that were first queued at `since` or later: the oldest first, at most
/// [`RECOVER_AT_MOST`].
pub(crate) async fn recover(
    conn: &mut PgConnection,
    endpoint: Uuid,
    since: OffsetDateTime,
    by: &By<'_>,
) -> Result<Recovered, Error> {
    let failed = store::lock_failed(conn, endpoint, since, RECOVER_AT_MOST).await?;
    expect_enabled(conn, endpoint).await?;
    store::resend(conn, &failed, by).await?;
    Ok(Recovered {
        resent: failed.len(),
        more: store::has_failed(conn, endpoint, since).await?,
    })
}

/// Locks an endpoint against changes, and fails if it is disabled or deleted. Called after its webhooks are locked: a
/// worker that records an attempt locks in the same order, so the two cannot deadlock.
async fn expect_enabled(conn: &mut PgConnection, endpoint: Uuid) -> Result<(), Error> {
    let standing = endpoints::lock(conn, endpoint).await?;
    match standing.ok_or(Error::NoEndpoint)?.reason {
        None => Ok(()),
        Some(reason) => Err(Error::Disabled(reason)),
    }
}
