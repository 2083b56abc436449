//! All SQL of this service, on the caller's transaction.

mod idempotency;
mod operator;
mod orders;
mod row;
mod timeline;

pub(crate) use idempotency::{Answered, answer, forget_old, lookup};
pub(crate) use operator::{OperatorAction, actions, counts, record_action};
pub(crate) use orders::{
    Filter, Saved, asked_again, due_for_sweep, find, insert, list, lock, lock_one, mark_stuck,
    overdue, save, unstick,
};
pub(crate) use row::{NewOrder, StoredOrder, reason_name, undo_name};
use sqlx::migrate::Migrator;
pub(crate) use timeline::{Entry, Fact, record, timeline};

/// Returns the migrations of the service's own schema.
pub(crate) fn migrator() -> Migrator {
    sqlx::migrate!()
}

/// Returns the migrations that show the auditor the books. They run after all others, because they read their tables.
pub(crate) fn audit() -> Migrator {
    let mut migrator = sqlx::migrate!("./audit");
    migrator.dangerous_set_table_name("_audit_migrations");
    migrator
}
