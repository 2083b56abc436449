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
