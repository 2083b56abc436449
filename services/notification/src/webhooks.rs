//! Webhooks: programs are told by HTTP requests how orders ended.
//!
//! The folder is a component: it has the layers of a service, so that webhooks can be read, and copied, in one place.
//!
//! - `domain`: the payload, and the meaning of an answer; `store`: all SQL of webhooks;
//! - `commands`: queues webhooks with the news, and in `resend`, on request;
//! - `client`: forbidden hosts, signatures, circuit breakers; `worker`: sends webhooks, and keeps their secrets sealed;
//! - `http`: the API of endpoints and of webhooks; `config`: the settings; [`Webhooks`] puts the parts together.

mod client;
pub(crate) mod commands;
pub(crate) mod config;
mod domain;
pub(crate) mod http;
mod store;
mod worker;

use std::{sync::Arc, time::Duration};

use chassis::{Chassis, settings::Environment};
pub(crate) use client::System;
pub use client::{Lookup, Lookups};
use holdfast::{leased_work, outbox::Waker};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use sqlx::PgPool;

use self::{
    client::{Courier, Policy, Vault},
    config::WebhookSettings,
    worker::Messenger,
};

/// The parts of webhooks that a service runs.
pub(crate) struct Webhooks {
    settings: WebhookSettings,
    courier: Arc<Courier>,
    vault: Arc<Vault>,
    waker: Waker,
}

impl Webhooks {
    /// Puts the parts together; connects to nothing yet. Fails if the file of keys is not valid, or production refuses
    /// a setting. `lookup` is the resolver of endpoints' hosts.
    pub(crate) fn new(
        settings: WebhookSettings,
        environment: Environment,
        lookup: Arc<dyn Lookup>,
    ) -> anyhow::Result<Self> {
        let policy = Policy::of(&settings, environment)?;
        let vault = Arc::new(Vault::open(&settings, environment)?);
        let courier = Courier::new(&settings, policy, Arc::clone(&vault), lookup)?;
        Ok(Self {
            settings,
            courier: Arc::new(courier),
            vault,
            waker: Waker::default(),
        })
    }

    /// Returns the waker of the worker, to be called after each commit that queued webhooks.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Returns the state of the handlers in `http`.
    pub(crate) fn state(&self, pool: PgPool) -> http::State {
        http::State {
            pool,
            waker: self.waker(),
            courier: Arc::clone(&self.courier),
            vault: Arc::clone(&self.vault),
            max_endpoints: self.settings.webhook_max_endpoints,
        }
    }

    /// Adds the background work to a service, and describes its metrics.
    pub(crate) fn work(self, chassis: Chassis) -> anyhow::Result<Chassis> {
        let Self {
            settings,
            courier,
            vault,
            waker,
        } = self;
        let pool = chassis.pool().clone();
        let (kept, pruned) = (pool.clone(), pool.clone());
        let messenger = Messenger::new(pool, courier, waker.clone(), &settings)?;
        let retention = Duration::from_secs(settings.webhook_retention_hours * 3600);
        describe_metrics();
        Ok(chassis
            .work("webhooks", move |shutdown| {
                leased_work::run(messenger, settings.pace(waker), shutdown)
            })
            .work("webhook secrets", move |shutdown| {
                worker::settle_secrets(kept, vault, shutdown)
            })
            .work("webhook pruning", move |shutdown| {
                worker::prune(pruned, retention, shutdown)
            })
            .failpoints(&["notification.after_webhook"]))
    }
}

/// Registers the metrics' descriptions, which `/metrics` shows.
fn describe_metrics() {
    describe_counter!(
        "webhooks_total",
        Unit::Count,
        "Webhooks by the outcome of an attempt: delivered, retried (to be tried again), given_up, gone (410: the endpoint is disabled), or put_off (not tried: its destination's circuit breaker is open, or none of its secrets opens)"
    );
    describe_counter!(
        "webhooks_resent_total",
        Unit::Count,
        "Webhooks that a customer or an operator had resent, one by one or by recovering an endpoint"
    );
    describe_gauge!(
        "webhooks_queued",
        Unit::Count,
        "Webhooks that wait to be sent, without those held for a disabled endpoint"
    );
    describe_gauge!(
        "webhooks_oldest_seconds",
        Unit::Seconds,
        "Time for which the oldest webhook has waited to be sent, since it was queued or last resent"
    );
    describe_gauge!(
        "webhook_secrets_unopened",
        Unit::Count,
        "Webhook secrets that no key of WEBHOOK_KEYS_FILE opens: they do not sign, and webhooks of endpoints without another secret wait"
    );
    describe_histogram!(
        "webhook_duration_seconds",
        Unit::Seconds,
        "Duration of an attempt at a webhook, with the look-up of its host, by outcome"
    );
}
