//! The service's own database.

mod trouble;

use std::{
    ops::{Deref, DerefMut},
    str::FromStr,
    time::Duration,
};

use holdfast::{
    backoff::Backoff,
    telemetry,
    transaction::{self, Class, Transaction as Inner, classify},
};
use metrics::{Unit, describe_gauge, describe_histogram, gauge, histogram};
use sqlx::{
    PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::Instant;
use tracing::{Span, info, warn};
pub use trouble::{Look, Trouble};

use crate::settings::DatabaseSettings;

/// Makes a pool that connects on demand: a database that is unavailable for a moment, even at the start, is no reason
/// to end the process.
pub fn pool(name: &str, settings: &DatabaseSettings) -> anyhow::Result<PgPool> {
    let options = PgConnectOptions::from_str(&settings.url()?)?
        .application_name(name)
        .options([
            (
                "statement_timeout",
                settings.database_statement_timeout_ms.to_string(),
            ),
            // Shorter than the limit of a statement: so a held row counts as a lost race, and not as a slow statement.
            (
                "lock_timeout",
                (settings.database_statement_timeout_ms / 2)
                    .max(1)
                    .to_string(),
            ),
            // A process that is frozen in a transaction must not hold its locks for ever.
            ("idle_in_transaction_session_timeout", "60000".to_owned()),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(settings.database_max_connections)
        .acquire_timeout(Duration::from_millis(settings.database_acquire_timeout_ms))
        // A connection that the server closed is found at its first use; a ping before each use would cost more.
        .test_before_acquire(false)
        .connect_lazy_with(options))
}

/// Brings the schema up to date; waits for the database for as long as it takes.
///
/// Fails only where waiting cannot help: at a migration that is wrong, or that was changed after it ran.
pub async fn migrate(
    pool: &PgPool,
    migrators: &[Migrator],
) -> Result<(), sqlx::migrate::MigrateError> {
    let mut delays = Backoff::RECONNECT.delays();
    for migrator in migrators {
        while let Err(error) = migrator.run(pool).await {
            match &error {
                sqlx::migrate::MigrateError::Execute(cause) if classify(cause) != Class::Other => {
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

/// A transaction, with a span of the same duration.
#[derive(Debug)]
pub struct Transaction {
    transaction: Inner,
    span: Span,
}

/// Begins a transaction; `what` names its span, in a few words. Cancel safe.
pub async fn begin(pool: &PgPool, what: &str) -> sqlx::Result<Transaction> {
    let span = telemetry::sql("TRANSACTION", what);
    let begun = Instant::now();
    let transaction = transaction::begin(pool).await;
    histogram!("database_begin_duration_seconds").record(begun.elapsed());
    match transaction {
        Ok(transaction) => Ok(Transaction { transaction, span }),
        Err(error) => {
            telemetry::fail(&span, "begin", &error);
            Err(error)
        }
    }
}

impl Transaction {
    /// Commits. After an error the outcome is unknown. Cancel safe: a commit that has begun goes on to its end.
    pub async fn commit(self) -> sqlx::Result<()> {
        let committed = self.transaction.commit().await;
        if let Err(error) = &committed {
            telemetry::fail(&self.span, "commit", error);
        }
        committed
    }

    /// Rolls back, and waits for the end of it; dropping the transaction rolls back without waiting. Cancel safe.
    pub async fn rollback(self) -> sqlx::Result<()> {
        self.transaction.rollback().await
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

/// Sets the gauges of the pool.
pub fn sample(pool: &PgPool) {
    gauge!("database_connections").set(f64::from(pool.size()));
    #[expect(clippy::cast_precision_loss, reason = "a pool is small")]
    gauge!("database_connections_idle").set(pool.num_idle() as f64);
    gauge!("database_connections_max").set(f64::from(pool.options().get_max_connections()));
}

/// Describes each metric, for readers of `/metrics`.
pub(crate) fn describe() {
    trouble::describe();
    describe_gauge!(
        "database_connections",
        Unit::Count,
        "Connections of the pool, in use or idle"
    );
    describe_gauge!(
        "database_connections_idle",
        Unit::Count,
        "Idle connections of the pool"
    );
    describe_gauge!(
        "database_connections_max",
        Unit::Count,
        "The most connections that the pool may have"
    );
    describe_histogram!(
        "database_begin_duration_seconds",
        Unit::Seconds,
        "Time that a request or a worker waited for its transaction to begin: for a connection of the pool, and for BEGIN"
    );
}
