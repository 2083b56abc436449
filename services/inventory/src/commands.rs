//! The use cases, each on the caller's transaction.

mod answer;
mod batch;

use chassis::events::{self, Publishing};
use contracts::value::{OrderLine, Sku};
use sqlx::PgConnection;

pub(crate) use self::batch::apply;
use crate::{domain, error::Error, store};

const PUBLISHING: Publishing<'static> = Publishing {
    service: "inventory",
    cause: None,
};

/// A message about an order.
pub(crate) type Command = events::Command<Request>;

/// The request that a message makes of a reservation.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// A reservation of these units: all of them, or none.
    Reserve(Vec<OrderLine>),
    /// The sale of the reserved units.
    Commit,
    /// An undo: the units become available again, or a tombstone is left if none were reserved yet.
    Release,
    /// A write-off by an operator.
    Settle { operator: String, note: String },
}

/// Adds delivered units, once per key. Returns true if this delivery is new, [`Error::UnknownSku`] if there is no such
/// product, and [`Error::OtherDelivery`] if the key was used for another product or quantity.
pub(crate) async fn deliver(
    conn: &mut PgConnection,
    key: &str,
    sku: &Sku,
    quantity: i64,
    operator: &str,
) -> Result<bool, Error> {
    if store::show(&mut *conn, sku).await?.is_none() {
        return Err(Error::UnknownSku(sku.clone()));
    }
    if store::deliver(conn, key, sku, quantity, operator).await? {
        return Ok(true);
    }
    // The key was used before: for this delivery, or for another one.
    match store::delivery(conn, key).await? {
        Some((before, units)) if before == *sku && units == quantity => Ok(false),
        _ => Err(Error::OtherDelivery),
    }
}

impl From<domain::Shortfall> for Error {
    fn from(shortfall: domain::Shortfall) -> Self {
        Self::Shortfall(shortfall)
    }
}
