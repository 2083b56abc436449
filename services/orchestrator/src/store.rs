//! The tables and the SQL of the saga pattern. The views for the auditor are this service's only own objects.

pub(crate) use holdfast::saga::{Counts, counts, list, migrator};
use sqlx::migrate::Migrator;

/// Returns the migrations that let the auditor see what `reconcile` compares. They run after all others, whose tables
/// they read.
pub(crate) fn audit() -> Migrator {
    let mut migrator = sqlx::migrate!("./audit");
    migrator.dangerous_set_table_name("_audit_migrations");
    migrator
}
