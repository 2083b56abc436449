//! The assembly of the service's parts.

use std::net::SocketAddr;

use actix_web::web;
use chassis::Chassis;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    client::Prices,
    config::Config,
    consumer::{self, Choreography, Commands, Timeline},
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
        let (chassis, waker, receiving) =
            Chassis::new("order", chassis, store::migrator())?.with_messaging(broker)?;
        let pool = chassis.pool().clone();
        let prices = Prices::new(&prices)?;
        let chassis = chassis.depends_on(prices.inventory());
        let state = web::Data::new(http::State {
            pool: pool.clone(),
            waker: waker.clone(),
            prices,
            waiting,
        });
        let sweeper = Sweeper {
            pool,
            waker: waker.clone(),
            receiving,
            waiting,
        };
        let choreography = Choreography {
            waker: waker.clone(),
            waiting,
        };
        let commands = Commands { waker, waiting };
        let chassis = chassis
            .consume(consumer::CHOREOGRAPHY, choreography)
            .consume(consumer::COMMANDS, commands)
            .consume(consumer::TIMELINE, Timeline)
            .work("deadlines and sweeps", |shutdown| sweeper.run(shutdown))
            .failpoints(&["order.after_commit", "order.mid_batch"])
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

/// Describes each metric, for the readers of `/metrics`.
fn describe_metrics() {
    describe_counter!(
        "orders_accepted_total",
        Unit::Count,
        "Accepted orders; a repeated request is counted once"
    );
    describe_counter!(
        "orders_priced_from_cache_total",
        Unit::Count,
        "Orders with the prices that inventory last named, because inventory was unavailable"
    );
    describe_counter!(
        "orders_ended_total",
        Unit::Count,
        "Orders that came to rest: confirmed, cancelled, or settled by an operator, with the reason of a cancel. An order \
         that its customer cancels after it was confirmed comes to rest twice"
    );
    describe_histogram!(
        "order_duration_seconds",
        Unit::Seconds,
        "The time from an order's acceptance until it is at rest"
    );
    describe_gauge!(
        "orders_stuck",
        Unit::Count,
        "Orders that wait for an operator, because none of the allowed sweeps got an answer"
    );
    describe_gauge!(
        "orders_awaiting_answer",
        Unit::Count,
        "Orders that are not at rest, and await an answer"
    );
    describe_gauge!(
        "orders_oldest_unrested_seconds",
        Unit::Seconds,
        "The longest time since an order that is not at rest last changed its state"
    );
}
