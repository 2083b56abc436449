//! Measurements of the stack while orders are on their way.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use contracts::value::OrderId;
use holdfast::backoff::pause;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    api::{Api, insist},
    load::{
        depths::Gauge,
        processes::{ELSE, Snapshot, Whose, snapshot, used},
    },
    reconcile::Sources,
    traffic::{Coordination, Ending},
};

/// The longest time for everything to come to rest.
const PATIENCE: Duration = Duration::from_secs(180);

/// The connections to a stack that is measured.
pub(super) struct Bench {
    pub(super) api: Arc<Api>,
    /// The order service's database, by the auditor's role.
    pub(super) orders: PgPool,
    sagas: PgPool,
    gauge: Gauge,
    whose: Whose,
}

/// The counters since the stack was started.
#[derive(Clone, Debug)]
pub(super) struct Odometer {
    at: Instant,
    pub(super) messages: f64,
    pub(super) commits: f64,
    usage: Snapshot,
}

/// The difference between two readings of the counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) seconds: f64,
    pub(super) messages: f64,
    pub(super) commits: f64,
    pub(super) cpu_ms: f64,
}

impl Odometer {
    pub(super) fn until(&self, later: &Self) -> Done {
        let cpu_ms = used(&self.usage, &later.usage)
            .into_iter()
            // The load generator and the auditor are no part of the comparison.
            .filter(|(part, _)| {
                part != ELSE && part != "load generator" && !part.contains("auditor")
            })
            .map(|(_, ms)| ms)
            .sum();
        Done {
            seconds: (later.at - self.at).as_secs_f64(),
            messages: later.messages - self.messages,
            commits: later.commits - self.commits,
            cpu_ms,
        }
    }
}

impl Bench {
    pub(super) fn new(api: Arc<Api>, sources: &Sources) -> anyhow::Result<Self> {
        let pool = |url: &str| {
            anyhow::Ok(
                PgPoolOptions::new()
                    .max_connections(2)
                    .connect_lazy(&sources.open(url)?)?,
            )
        };
        Ok(Self {
            api,
            orders: pool(&sources.order_database_url)?,
            sagas: pool(&sources.orchestrator_database_url)?,
            gauge: Gauge::new(sources)?,
            whose: Whose::find(),
        })
    }

    /// Reads the counters.
    pub(super) async fn read(&self) -> anyhow::Result<Odometer> {
        let urls = self.api.urls();
        let mut messages = 0.0;
        for url in [
            &urls.order_url,
            &urls.payment_url,
            &urls.inventory_url,
            &urls.notification_url,
            &urls.orchestrator_url,
        ] {
            messages += self.api.metric(url, "outbox_published_total").await?;
        }
        let commits: i64 = sqlx::query_scalar(
            "select sum(xact_commit)::int8 from pg_stat_database where datname like '%\\_service' or datname = 'card_processor'",
        )
        .fetch_one(&self.orders)
        .await?;
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let commits = commits as f64;
        Ok(Odometer {
            at: Instant::now(),
            messages,
            commits,
            usage: snapshot(&self.whose),
        })
    }

    /// Returns the number of orders that are not at rest.
    pub(super) async fn open(&self) -> anyhow::Result<i64> {
        let open = "select count(*) from orders where not (state = 'cancelled' or (state = 'confirmed' and committed))";
        Ok(sqlx::query_scalar(open).fetch_one(&self.orders).await?)
    }

    /// Waits until nothing moves at two looks in a row: orders at rest, sagas ended, queues and outboxes empty. Fails
    /// after [`PATIENCE`].
    pub(super) async fn quiet(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut calm = 0;
        while calm < 2 {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "not at rest after {PATIENCE:?}");
            let sagas: i64 = sqlx::query_scalar(
                "select count(*) from saga where phase in ('running', 'compensating')",
            )
            .fetch_one(&self.sagas)
            .await?;
            let depths = self.gauge.read().await?;
            let moves = self.open().await? > 0
                || sagas > 0
                || depths.in_queues() > 0
                || depths.in_outboxes() > 0;
            calm = if moves { 0 } else { calm + 1 };
            pause(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Places an order, with the same key until it is accepted.
    pub(super) async fn place(&self, ending: Ending, way: Coordination) -> anyhow::Result<OrderId> {
        let (customer, order, key) = (
            ending.customer(),
            ending.order(way),
            Uuid::now_v7().to_string(),
        );
        let placed = insist(|| self.api.place(customer, &key, &order)).await?;
        let id = placed["id"].as_str().context("an order has an id")?;
        Ok(id.parse()?)
    }
}
