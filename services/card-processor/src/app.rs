//! Puts the parts of the service together.

use std::net::SocketAddr;

use actix_web::web;
use chassis::Chassis;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{config::Config, http, store};

/// The card processor, ready to run.
pub struct App(Chassis);

impl App {
    /// Puts the service together; connects to nothing yet.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let chassis = Chassis::new("card-processor", config.chassis, store::migrator())?;
        let state = web::Data::new(http::State {
            pool: chassis.pool().clone(),
        });
        let chassis = chassis
            .failpoints(&["card_processor.accepted", "card_processor.decided"])
            .audited(store::audit())
            .serve(http::Api::openapi(), move |routes| {
                http::routes(routes.app_data(state.clone()));
            });
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
