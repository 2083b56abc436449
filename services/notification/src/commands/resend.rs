//! Webhooks go again because somebody wants it: their receiver has lost them, or had failed for too long.
//!
//! What goes again goes under its own `webhook-id`, so that a receiver which has it after all does nothing the second time.

use chassis::http::Problem;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::{
    endpoints,
    webhooks::{self, By},
};

/// How many webhooks are recovered at a time.
const RECOVER_AT_MOST: i64 = 500;

/// Why nothing goes again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Or not any more.
    #[error("there is no such webhook")]
    NoWebhook,
    /// It was deleted meanwhile.
    #[error("there is no such webhook endpoint")]
    NoEndpoint,
    /// What is queued would only be held. Enable it first.
    #[error("the endpoint is disabled ({0}): enable it first")]
    Disabled(String),
    /// The database failed.
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

/// Has a webhook sent again, whatever became of it; false if it is on its way already.
pub(crate) async fn resend(
    conn: &mut PgConnection,
    endpoint: Uuid,
    message: Uuid,
    by: &By<'_>,
) -> Result<bool, Error> {
    let webhook = webhooks::lock(conn, endpoint, message).await?;
    let webhook = webhook.ok_or(Error::NoWebhook)?;
    expect_enabled(conn, endpoint).await?;
    if webhook.is_queued {
        return Ok(false);
    }
    webhooks::resend(conn, &[webhook.id], by).await?;
    Ok(true)
}

/// What was recovered.
pub(crate) struct Recovered {
    /// How many go again.
    pub(crate) resent: usize,
    /// Whether there are more.
    pub(crate) more: bool,
}

/// Has webhooks sent again that have failed and are no older than `since`: the oldest first, and so many at a time.
pub(crate) async fn recover(
    conn: &mut PgConnection,
    endpoint: Uuid,
    since: OffsetDateTime,
    by: &By<'_>,
) -> Result<Recovered, Error> {
    let failed = webhooks::lock_failed(conn, endpoint, since, RECOVER_AT_MOST).await?;
    expect_enabled(conn, endpoint).await?;
    webhooks::resend(conn, &failed, by).await?;
    Ok(Recovered {
        resent: failed.len(),
        more: webhooks::has_failed(conn, endpoint, since).await?,
    })
}

/// Locks an endpoint as it is. After its webhooks, in the order of who records an attempt: two cannot wait for each other.
async fn expect_enabled(conn: &mut PgConnection, endpoint: Uuid) -> Result<(), Error> {
    let standing = endpoints::lock(conn, endpoint).await?;
    match standing.ok_or(Error::NoEndpoint)?.reason {
        None => Ok(()),
        Some(reason) => Err(Error::Disabled(reason)),
    }
}
