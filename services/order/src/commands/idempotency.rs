//! A request that comes again under its Idempotency-Key gets the answer that it got the first time.

use contracts::value::CustomerId;
use sqlx::{PgConnection, PgExecutor};

use crate::{
    error::Error,
    store::{self, Answered},
};

/// A request under an Idempotency-Key. Each customer has keys of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed<'a> {
    pub(crate) customer: &'a CustomerId,
    pub(crate) key: &'a str,
    /// The hash by which a repeated request is distinguished from another one under its key.
    pub(crate) request_hash: &'a [u8],
}

/// Returns the answer that the request got before. Errors if another request used its key.
pub(crate) async fn answered(
    db: impl PgExecutor<'_>,
    request: Keyed<'_>,
) -> Result<Option<Answered>, Error> {
    match store::lookup(db, request.customer, request.key).await? {
        Some(before) if before.request_hash != request.request_hash => Err(Error::KeyReused),
        before => Ok(before),
    }
}

/// Stores the answer to the request. If another server was faster with the same key, returns that server's answer
/// instead, and the caller rolls back what this request did.
pub(crate) async fn answer(
    conn: &mut PgConnection,
    request: Keyed<'_>,
    answer: &Answered,
) -> Result<Option<Answered>, Error> {
    if store::answer(conn, request.customer, request.key, answer).await? {
        return Ok(None);
    }
    let before = answered(conn, request).await?;
    before.map(Some).ok_or(Error::KeyReused)
}
