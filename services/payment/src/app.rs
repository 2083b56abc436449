//! How the parts are put together.

use std::net::SocketAddr;

use actix_web::web;
use chassis::{Chassis, leased};
use holdfast::outbox::Waker;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    client::CardCompany,
    config::Config,
    consumer::{self, Choreography, Messages},
    http, store,
    worker::CardWorker,
};

/// The payment service, ready to run.
pub struct App(Chassis);

impl App {
    /// Puts the service together; connects to nothing yet.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let Config {
            chassis,
            broker,
            card: settings,
            ..
        } = config;
        let (chassis, waker, _) = Chassis::new("payment", chassis, store::migrator())?
            .with_messaging(broker, Messages)?;
        let pool = chassis.pool().clone();
        let state = web::Data::new(http::State { pool: pool.clone() });
        let card = Waker::default();
        let company = CardCompany::new(&settings)?;
        let worker = CardWorker::new(pool, company, waker.clone(), card.clone(), &settings)?;
        let chassis = chassis
            .consume(
                consumer::CHOREOGRAPHY,
                Choreography {
                    waker,
                    card: card.clone(),
                },
            )
            .work("card calls", move |shutdown| {
                leased::run(worker, settings.pace(card), shutdown)
            })
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
