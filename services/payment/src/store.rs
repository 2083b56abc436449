//! All SQL of this service, on the caller's transaction.

mod accounts;
mod fence;
mod payments;
mod work;

pub(crate) use accounts::{AccountKey, balances, deposit, lock_accounts, save_accounts};
pub(crate) use fence::pass;
pub(crate) use payments::{
    Payment, Settlement, Terms, find, insert, lock, lock_one, method_name, reason_name, settle,
    state_name, update,
};
use sqlx::migrate::Migrator;
pub(crate) use work::{Claimed, Due, claim, in_hand, put_back, put_off, set_aside};

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
