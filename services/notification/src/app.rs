//! How the parts are put together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::web;
use chassis::{Chassis, leased, settings::Environment};
use holdfast::outbox::Waker;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    client::{
        Post,
        webhook::{Courier, Lookup, Policy, System, Vault},
    },
    config::Config,
    consumer::{self, Consumer, Messages},
    http, store,
    template::Templates,
    worker::{
        Postman,
        webhook::{self, Messenger},
    },
};

/// The notification service, ready to run.
pub struct App(Chassis);

impl App {
    /// Puts the service together; connects to nothing yet.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        Self::build_with(config, Arc::new(System))
    }

    /// As [`App::build`], with somebody else who knows the addresses of webhooks' hosts: for tests of names that change.
    pub fn build_with(config: Config, lookup: Arc<dyn Lookup>) -> anyhow::Result<Self> {
        let Config {
            chassis,
            broker,
            mail: settings,
            webhook,
            ..
        } = config;
        // Before the service is put together, so that it is these switches that are named.
        let environment = Environment::of(&chassis.identity);
        let policy = Policy::of(&webhook, environment)?;
        let vault = Arc::new(Vault::open(&webhook, environment)?);
        let courier = Courier::new(&webhook, policy, Arc::clone(&vault), lookup)?;
        let courier = Arc::new(courier);
        let (chassis, waker, _) = Chassis::new("notification", chassis, store::migrator())?
            .with_messaging(broker, Messages)?;
        let pool = chassis.pool().clone();
        let (post, webhooks) = (Waker::default(), Waker::default());
        let state = web::Data::new(http::State {
            pool: pool.clone(),
            post: post.clone(),
            webhooks: webhooks.clone(),
            courier: Arc::clone(&courier),
            vault: Arc::clone(&vault),
            max_endpoints: webhook.webhook_max_endpoints,
        });
        let messenger = Messenger::new(pool.clone(), courier, webhooks.clone(), &webhook)?;
        let (pruned, kept) = (pool.clone(), pool.clone());
        let retention = Duration::from_secs(webhook.webhook_retention_hours * 3600);
        let server = Post::new(&settings)?;
        let chassis = chassis.depends_on(server.pipeline());
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
                webhook::settle_secrets(kept, vault, shutdown)
            })
            .work("webhook pruning", move |shutdown| {
                webhook::prune(pruned, retention, shutdown)
            })
            .failpoints(&[
                "notification.mid_batch",
                "notification.after_smtp",
                "notification.after_webhook",
            ])
            .audited(store::audit())
            .serve(http::Api::openapi(), move |routes| {
                http::routes(routes.app_data(state.clone()));
            });
        describe_metrics();
        Ok(Self(chassis))
    }

    /// The address that it listens on.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.address()
    }

    /// Describes the API that it would serve.
    pub fn document(self) -> utoipa::openapi::OpenApi {
        self.0.document()
    }

    /// Runs until `shutdown`, and stops in good order.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.0.run(shutdown).await
    }
}

/// Says what each metric is, for whoever reads `/metrics`.
fn describe_metrics() {
    describe_counter!(
        "mails_total",
        Unit::Count,
        "Attempts at sending a mail, by what the mail server said: accepted, deferred, refused, or unknown (nothing definite)"
    );
    describe_gauge!("mails_queued", Unit::Count, "Mails that wait to be sent");
    describe_gauge!(
        "mails_oldest_seconds",
        Unit::Seconds,
        "How long the oldest mail has waited to be sent"
    );
    describe_counter!(
        "webhooks_total",
        Unit::Count,
        "Webhooks by what became of an attempt: delivered, retried (it goes again), given_up, gone (410: the endpoint is disabled), or put_off (not tried: its destination's circuit breaker is open)"
    );
    describe_counter!(
        "webhooks_resent_total",
        Unit::Count,
        "Webhooks that were over and that somebody had sent again, one by one or as an endpoint was recovered"
    );
    describe_gauge!(
        "webhooks_queued",
        Unit::Count,
        "Webhooks that wait to be sent; not those held for a disabled endpoint"
    );
    describe_gauge!(
        "webhooks_oldest_seconds",
        Unit::Seconds,
        "How long the oldest webhook has waited to be sent, counted anew from when it was sent again"
    );
    describe_gauge!(
        "webhook_secrets_unopened",
        Unit::Count,
        "Webhook endpoints whose secret no key of WEBHOOK_KEYS_FILE opens: their webhooks wait"
    );
    describe_histogram!(
        "webhook_duration_seconds",
        Unit::Seconds,
        "How long an attempt at a webhook took, with looking its host up, by what became of it"
    );
}
