//! The service's own database.

use std::{str::FromStr, time::Duration};

use holdfast::backoff::Backoff;
use metrics::gauge;
use sqlx::{
    PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::{info, warn};

use crate::settings::DatabaseSettings;

/// A pool that connects when it must: a database that is away for a moment, also at the start, is no reason to die.
pub fn pool(name: &str, settings: &DatabaseSettings) -> anyhow::Result<PgPool> {
    let options = PgConnectOptions::from_str(&settings.url()?)?
        .application_name(name)
        .options([
            (
                "statement_timeout",
                settings.database_statement_timeout_ms.to_string(),
            ),
            // A process that was frozen in a transaction does not hold its locks for ever.
            ("idle_in_transaction_session_timeout", "60000".to_owned()),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(settings.database_max_connections)
        .acquire_timeout(Duration::from_millis(settings.database_acquire_timeout_ms))
        // A connection that the server closed shows at its first use; a ping before each use would cost more.
        .test_before_acquire(false)
        .connect_lazy_with(options))
}

/// Brings the schema up to date; waits for the database for as long as it takes.
///
/// Fails only on what waiting cannot mend: a migration that is wrong, or that was changed after it ran.
pub async fn migrate(
    pool: &PgPool,
    migrators: &[Migrator],
) -> Result<(), sqlx::migrate::MigrateError> {
    let mut delays = Backoff::RECONNECT.delays();
    for migrator in migrators {
        while let Err(error) = migrator.run(pool).await {
            match &error {
                sqlx::migrate::MigrateError::Execute(cause)
                    if holdfast::messaging::classify(cause)
                        != holdfast::messaging::Class::Other =>
                {
                    if delays.failures() == 0 {
                        warn!(%error, "waiting for the database");
                    }
                    delays.wait().await;
                }
                _ => return Err(error),
            }
        }
    }
    info!("the schema is up to date");
    Ok(())
}

/// Sets the gauges of the pool.
pub fn sample(pool: &PgPool) {
    gauge!("database_connections").set(f64::from(pool.size()));
    #[expect(clippy::cast_precision_loss, reason = "a pool is small")]
    gauge!("database_connections_idle").set(pool.num_idle() as f64);
}
