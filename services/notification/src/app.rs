//! How the parts are put together.

use std::net::SocketAddr;

use actix_web::web;
use chassis::{Chassis, leased};
use holdfast::outbox::Waker;
use metrics::{Unit, describe_counter, describe_gauge};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    client::Post,
    config::Config,
    consumer::{self, Consumer, Messages},
    http, store,
    template::Templates,
    worker::Postman,
};

/// The notification service, ready to run.
pub struct App(Chassis);

impl App {
    /// Puts the service together; connects to nothing yet.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let Config {
            chassis,
            broker,
            mail: settings,
            ..
        } = config;
        let (chassis, waker, _) = Chassis::new("notification", chassis, store::migrator())?
            .with_messaging(broker, Messages)?;
        let pool = chassis.pool().clone();
        let post = Waker::default();
        let state = web::Data::new(http::State {
            pool: pool.clone(),
            post: post.clone(),
        });
        let postman = Postman::new(pool, Post::new(&settings)?, &settings)?;
        let templates = Templates::new()?;
        let consumer = |queue| Consumer {
            queue,
            templates: templates.clone(),
            waker: waker.clone(),
            post: post.clone(),
        };
        let chassis = chassis
            .consume(consumer::CHOREOGRAPHY, consumer(consumer::CHOREOGRAPHY))
            .consume(consumer::COMMANDS, consumer(consumer::COMMANDS))
            .work("mails", move |shutdown| {
                leased::run(postman, settings.pace(post), shutdown)
            })
            .failpoints(&["notification.mid_batch", "notification.after_smtp"])
            .serve(http::Api::openapi(), move |config| {
                config.app_data(state.clone()).configure(http::routes);
            });
        describe_metrics();
        Ok(Self(chassis))
    }

    /// The address that it listens on.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.address()
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
}
