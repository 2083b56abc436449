//! How the parts are put together.

use std::net::SocketAddr;

use actix_web::web;
use chassis::Chassis;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    client::Prices,
    config::Config,
    consumer::{self, Choreography, Messages, Timeline},
    http, store,
    worker::Sweeper,
};

/// The order service, ready to run.
pub struct App(Chassis);

impl App {
    /// Puts the service together; connects to nothing yet.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let Config {
            chassis,
            broker,
            prices,
            waiting,
            ..
        } = config;
        let (chassis, waker, consuming) =
            Chassis::new("order", chassis, store::migrator())?.with_messaging(broker, Messages)?;
        let pool = chassis.pool().clone();
        let prices = Prices::new(&prices)?;
        let state = web::Data::new(http::State {
            pool: pool.clone(),
            waker: waker.clone(),
            prices,
            waiting,
        });
        let sweeper = Sweeper {
            pool,
            waker: waker.clone(),
            consuming,
            waiting,
        };
        let chassis = chassis
            .consume(consumer::CHOREOGRAPHY, Choreography { waker, waiting })
            .consume(consumer::TIMELINE, Timeline)
            .work("deadlines and sweeps", |shutdown| sweeper.run(shutdown))
            .serve(http::Api::openapi(), move |config| {
                config.app_data(state.clone()).configure(http::routes);
            });
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
