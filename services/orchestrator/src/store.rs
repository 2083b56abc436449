//! What this service keeps is what the saga pattern keeps: its tables, its SQL. Nothing here is the service's own but what
//! the auditor sees of it.

pub(crate) use holdfast::saga::{Counts, counts, list, migrator};
use sqlx::migrate::Migrator;

/// Shows the auditor what books are made of. Runs after all other migrations, whose tables it looks at.
pub(crate) fn audit() -> Migrator {
    let mut migrator = sqlx::migrate!("./audit");
    migrator.dangerous_set_table_name("_audit_migrations");
    migrator
}
