//! Puts the parts of the service together.

use std::net::SocketAddr;

use actix_web::web;
use chassis::Chassis;
use metrics::{Unit, describe_counter};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    config::Config,
    consumer::{self, Consumer},
    http, store,
};

/// The inventory service, ready to run.
pub struct App(Chassis);

impl App {
    /// Puts the service together; connects to nothing yet.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let Config {
            chassis, broker, ..
        } = config;
        let (chassis, waker, _) =
            Chassis::new("inventory", chassis, store::migrator())?.with_messaging(broker)?;
        let state = web::Data::new(http::State {
            pool: chassis.pool().clone(),
        });
        let consumer = |queue| Consumer {
            queue,
            waker: waker.clone(),
        };
        let chassis = chassis
            .consume(consumer::CHOREOGRAPHY, consumer(consumer::CHOREOGRAPHY))
            .consume(consumer::COMMANDS, consumer(consumer::COMMANDS))
            .failpoints(&["inventory.mid_batch"])
            .audited(store::audit())
            .serve(http::Api::openapi(), move |routes| {
                http::routes(routes.app_data(state.clone()));
            });
        describe_counter!(
            "reservations_total",
            Unit::Count,
            "Reservations by the state that they entered: reserved, rejected, sold, released, void, settled"
        );
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
