//! Puts the parts of the service together.

use std::{net::SocketAddr, sync::Arc};

use actix_web::web;
use chassis::{Chassis, settings::Environment};
use holdfast::{leased_work, outbox::Waker};
use metrics::{Unit, describe_counter, describe_gauge};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    client::Post,
    config::Config,
    consumer::{self, Consumer},
    http, store,
    template::Templates,
    webhooks::{Lookup, System, Webhooks},
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
        let webhooks = Webhooks::new(webhook, environment, lookup)?;
        let (chassis, waker, _) =
            Chassis::new("notification", chassis, store::migrator())?.with_messaging(broker)?;
        let pool = chassis.pool().clone();
        let post = Waker::default();
        let state = web::Data::new(http::State {
            pool: pool.clone(),
            post: post.clone(),
        });
        let webhook_state = web::Data::new(webhooks.state(pool.clone()));
        let server = Post::new(&settings)?;
        let chassis = chassis.depends_on(server.dependency());
        let postman = Postman::new(pool, server, &settings)?;
        let templates = Templates::new()?;
        let consumer = |queue| Consumer {
            queue,
            templates: templates.clone(),
            waker: waker.clone(),
            post: post.clone(),
            webhooks: webhooks.waker(),
        };
        let chassis = chassis
            .consume(consumer::CHOREOGRAPHY, consumer(consumer::CHOREOGRAPHY))
            .consume(consumer::COMMANDS, consumer(consumer::COMMANDS))
            .work("mails", move |shutdown| {
                leased_work::run(postman, settings.pace(post), shutdown)
            })
            .failpoints(&["notification.mid_batch", "notification.after_smtp"])
            .audited(store::audit())
            .serve(http::Api::openapi(), move |routes| {
                let routes = routes.app_data(state.clone());
                http::routes(routes.app_data(webhook_state.clone()));
            });
        let chassis = webhooks.work(chassis)?;
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

    /// Runs until `shutdown`, then finishes the work in progress.
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
}
