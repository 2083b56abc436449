//! Builds the service from its parts.

use std::{net::SocketAddr, sync::Arc};

use actix_web::web;
use chassis::Chassis;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    commands::{ENDS, Sagas},
    config::Config,
    consumer::{self, Replies, Requests},
    domain::DEFINITIONS,
    http, store,
    worker::Sweeper,
};

/// The orchestrator, ready to run.
pub struct App(Chassis);

impl App {
    /// Builds the service without connecting to anything.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let Config {
            chassis,
            broker,
            sagas: settings,
            ..
        } = config;
        let (chassis, waker, receiving) =
            Chassis::new("orchestrator", chassis, store::migrator())?.with_messaging(broker)?;
        let pool = chassis.pool().clone();
        let sagas = Arc::new(Sagas::new(&DEFINITIONS, settings.pace())?);
        let state = web::Data::new(http::State {
            pool: pool.clone(),
            waker: waker.clone(),
            sagas: Arc::clone(&sagas),
        });
        let requests = Requests {
            sagas: Arc::clone(&sagas),
            waker: waker.clone(),
        };
        let replies = Replies {
            sagas: Arc::clone(&sagas),
            waker: waker.clone(),
        };
        let sweeper = Sweeper {
            pool,
            sagas,
            waker,
            receiving,
            poll: settings.poll(),
        };
        let chassis = chassis
            .consume(consumer::COMMANDS, requests)
            .consume(consumer::REPLIES, replies)
            .work("overdue answers", |shutdown| sweeper.run(shutdown))
            .failpoints(&["orchestrator.mid_batch", "orchestrator.mid_sweep"])
            .audited(store::audit())
            .serve(http::Api::openapi(), move |routes| {
                http::routes(routes.app_data(state.clone()));
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

    /// Runs until `shutdown`, then finishes the work in progress.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.0.run(shutdown).await
    }
}

/// Describes each metric for readers of `/metrics`.
fn describe_metrics() {
    describe_counter!(
        "sagas_started_total",
        Unit::Count,
        "Sagas that were started, by definition"
    );
    describe_counter!(
        "sagas_ended_total",
        Unit::Count,
        "Sagas that ended: completed, compensated, or abandoned by an operator"
    );
    describe_counter!(
        "saga_commands_total",
        Unit::Count,
        "Commands that were sent, by step and direction; each resend counts"
    );
    describe_counter!(
        "saga_replies_ignored_total",
        Unit::Count,
        "Replies and cancels without effect: late, repeated, or for a saga that has ended or cannot be read"
    );
    describe_histogram!(
        "saga_duration_seconds",
        Unit::Seconds,
        "From a saga's start to its end"
    );
    describe_gauge!(
        "sagas_by_phase",
        Unit::Count,
        "Sagas that have not ended, by phase"
    );
    describe_gauge!(
        "sagas_stuck",
        Unit::Count,
        "Sagas that wait for an operator: a command was refused, or its last attempt had no reply"
    );
    describe_gauge!(
        "sagas_broken",
        Unit::Count,
        "Sagas that cannot be read: their definition's version is unknown, or their row is damaged"
    );
    describe_gauge!(
        "sagas_oldest_seconds",
        Unit::Seconds,
        "The age of the oldest saga that has not ended"
    );
    for definition in DEFINITIONS {
        counter!("sagas_started_total", "definition" => definition.name).increment(0);
        for end in ENDS {
            counter!("sagas_ended_total", "definition" => definition.name, "end" => end.name())
                .increment(0);
        }
    }
    counter!("saga_replies_ignored_total").increment(0);
}
