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

/// Shows the auditor what books are made of. Runs after all other migrations, whose tables it looks at.
pub(crate) fn audit() -> Migrator {
    let mut migrator = sqlx::migrate!("./audit");
    migrator.dangerous_set_table_name("_audit_migrations");
    migrator
}
