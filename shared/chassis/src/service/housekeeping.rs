//! The background work of every service: it samples gauges, and prunes the inbox.

use std::time::Duration;

use holdfast::{
    backoff::Backoff,
    inbox,
    messaging::{self, Link},
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    database,
    dependencies::{self, Dependencies},
};

/// Publishes the state of the dependencies every second.
pub(super) async fn sample_dependencies(dependencies: Dependencies, shutdown: CancellationToken) {
    dependencies::describe_metrics();
    loop {
        dependencies.publish();
        let pause = holdfast::backoff::pause(Duration::from_secs(1));
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// Sets the gauges of the links to the broker every second.
pub(super) async fn sample_links(links: [(&'static str, Link); 2], shutdown: CancellationToken) {
    metrics::describe_gauge!(
        "broker_link_up",
        metrics::Unit::Count,
        "1 while the connection to the broker can be used; one is for publishing, one for consuming"
    );
    loop {
        for (name, link) in &links {
            metrics::gauge!("broker_link_up", "link" => *name)
                .set(f64::from(u8::from(link.is_up())));
        }
        let pause = holdfast::backoff::pause(Duration::from_secs(1));
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// Sets the gauges of the connection pool every five seconds.
pub(super) async fn sample_pool(pool: Option<PgPool>, shutdown: CancellationToken) {
    database::describe();
    while shutdown
        .run_until_cancelled(holdfast::backoff::pause(Duration::from_secs(5)))
        .await
        .is_some()
    {
        if let Some(pool) = &pool {
            database::sample(pool);
        }
        holdfast::telemetry::upkeep();
    }
}

/// Counts the parked messages every five seconds, for the alert on them.
pub(super) async fn sample_parked(pool: PgPool, shutdown: CancellationToken) {
    metrics::describe_gauge!(
        "parked_messages",
        metrics::Unit::Count,
        "Messages that are parked and wait for an operator"
    );
    loop {
        // The gauge keeps its value while the database is unavailable.
        if let Ok(open) = messaging::parking::open(&pool).await {
            #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
            metrics::gauge!("parked_messages").set(open as f64);
        }
        let pause = holdfast::backoff::pause(Duration::from_secs(5));
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// Prunes the inbox every ten minutes.
pub(super) async fn prune_inbox(pool: PgPool, retention: Duration, shutdown: CancellationToken) {
    const CHUNK: i64 = 5_000;
    let mut delays = Backoff::RECONNECT.delays();
    loop {
        let pruned: sqlx::Result<()> = async {
            let mut conn = pool.acquire().await?;
            while inbox::prune(&mut conn, retention, CHUNK).await? == CHUNK as u64 {}
            Ok(())
        }
        .await;
        let pause = match pruned {
            Ok(()) => {
                delays.reset();
                Duration::from_secs(600)
            }
            Err(error) => {
                warn!(%error, "cannot prune the inbox");
                Duration::from_secs(30)
            }
        };
        if shutdown
            .run_until_cancelled(holdfast::backoff::pause(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}
