//! All SQL of this service, on the caller's transaction.

mod catalogue;
mod reservations;

pub(crate) use catalogue::{
    Product, deliver, delivery, list, lock_stock, prices, put_product, save_stock, show,
};
pub(crate) use reservations::{
    Reservation, Settlement, find, insert, lock, settle, state_name, update,
};
use sqlx::migrate::Migrator;

/// The service's own schema.
pub(crate) fn migrator() -> Migrator {
    sqlx::migrate!()
}
