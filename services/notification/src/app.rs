//! Puts the parts of the service together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::web;
use chassis::{Chassis, leased, settings::Environment};
use holdfast::outbox::Waker;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    client::Post,
    config::Config,
    consumer::{self, Consumer},
    http, store,
    template::Templates,
    webhooks::{
        self,
        client::{Courier, Lookup, Policy, System, Vault},
        worker::Messenger,
    },
    worker::Postman,
};

/// The notification service, ready to run.
pub struct App(Chassis);

impl App {
    /// Puts the service together; connects to nothing yet.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        Self::build_with(config, Arc::new(System))
    }

    /// Puts the service together as [`App::build`] does, with another resolver of webhooks' hosts: for tests of names
    /// whose addresses change.
    pub fn build_with(config: Config, lookup: Arc<dyn Lookup>) -> anyhow::Result<Self> {
        let Config {
            chassis,
            broker,
            mail: settings,
            webhook,
            ..
        } = config;
        // Checked first, so that a refusal in production names these switches.
        let environment = Environment::of(&chassis.identity);
        let policy = Policy::of(&webhook, environment)?;
        let vault = Arc::new(Vault::open(&webhook, environment)?);
        let courier = Courier::new(&webhook, policy, Arc::clone(&vault), lookup)?;
        let courier = Arc::new(courier);
        let (chassis, waker, _) =
            Chassis::new("notification", chassis, store::migrator())?.with_messaging(broker)?;
        let pool = chassis.pool().clone();
        let (post, webhooks) = (Waker::default(), Waker::default());
        let state = web::Data::new(http::State {
            pool: pool.clone(),
            post: post.clone(),
        });
        let webhook_state = web::Data::new(webhooks::http::State {
            pool: pool.clone(),
            waker: webhooks.clone(),
            courier: Arc::clone(&courier),
            vault: Arc::clone(&vault),
            max_endpoints: webhook.webhook_max_endpoints,
        });
        let messenger = Messenger::new(pool.clone(), courier, webhooks.clone(), &webhook)?;
        let (pruned, kept) = (pool.clone(), pool.clone());
        let retention = Duration::from_secs(webhook.webhook_retention_hours * 3600);
        let server = Post::new(&settings)?;
        let chassis = chassis.depends_on(server.dependency());
        let postman = Postman::new(pool, server, &settings)?;
        let templates = Templates::new()?;
        let consumer = |queue| Consumer {
            queue,
            templates: templates.clone(),
            waker: waker.clone(),
            post: post.clone(),
            webhooks: webhooks.clone(),
        };
        let chassis = chassis
            .consume(consumer::CHOREOGRAPHY, consumer(consumer::CHOREOGRAPHY))
            .consume(consumer::COMMANDS, consumer(consumer::COMMANDS))
            .work("mails", move |shutdown| {
                leased::run(postman, settings.pace(post), shutdown)
            })
            .work("webhooks", move |shutdown| {
                leased::run(messenger, webhook.pace(webhooks), shutdown)
            })
            .work("webhook secrets", move |shutdown| {
                webhooks::worker::settle_secrets(kept, vault, shutdown)
            })
            .work("webhook pruning", move |shutdown| {
                webhooks::worker::prune(pruned, retention, shutdown)
            })
            .failpoints(&[
                "notification.mid_batch",
                "notification.after_smtp",
                "notification.after_webhook",
            ])
            .audited(store::audit())
            .serve(http::Api::openapi(), move |routes| {
                let routes = routes.app_data(state.clone());
                http::routes(routes.app_data(webhook_state.clone()));
            });
        describe_metrics();
        Ok(Self(chassis))
    }

    /// Returns the address that the service listens on.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.address()
    }

    /// Returns the OpenAPI document of the service, without running it.
    pub fn document(self) -> utoipa::openapi::OpenApi {
        self.0.document()
    }

    /// Runs until `shutdown`, then finishes what is in hand.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.0.run(shutdown).await
    }
}

/// Registers the metrics' descriptions, which `/metrics` shows.
fn describe_metrics() {
    describe_counter!(
        "mails_total",
        Unit::Count,
        "Attempts at sending a mail, by the mail server's reply: accepted, deferred, refused, or unknown (no definite reply)"
    );
    describe_gauge!("mails_queued", Unit::Count, "Mails that wait to be sent");
    describe_gauge!(
        "mails_oldest_seconds",
        Unit::Seconds,
        "Time for which the oldest mail has waited to be sent"
    );
    describe_counter!(
        "webhooks_total",
        Unit::Count,
        "Webhooks by the outcome of an attempt: delivered, retried (to be tried again), given_up, gone (410: the endpoint is disabled), or put_off (not tried: its destination's circuit breaker is open, or its secret cannot be opened)"
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
        "Webhook endpoints with a secret that no key of WEBHOOK_KEYS_FILE opens: their webhooks wait"
    );
    describe_histogram!(
        "webhook_duration_seconds",
        Unit::Seconds,
        "Duration of an attempt at a webhook, with the look-up of its host, by outcome"
    );
}
