//! Puts the parts of the service together.

use std::net::SocketAddr;

use actix_web::web;
use chassis::{Chassis, Switch, settings::Environment};
use holdfast::{leased_work, outbox::Waker};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::{
    client::{Accounts, CardCompany},
    config::Config,
    consumer::{self, Consumer},
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
            locks,
            ..
        } = config;
        let environment = Environment::of(&chassis.identity);
        let (chassis, waker, _) =
            Chassis::new("payment", chassis, store::migrator())?.with_messaging(broker)?;
        environment.refuse_development_password("REDIS_URL", &locks.redis()?)?;
        let pool = chassis.pool().clone();
        let state = web::Data::new(http::State { pool: pool.clone() });
        let card = Waker::default();
        let company = CardCompany::new(&settings)?;
        let chassis = chassis.depends_on(company.dependency());
        let fencing = Switch::new(
            "fencing",
            "the database refuses an overtaken holder of an account's lock",
        );
        let chassis = chassis.may_switch_off(&fencing);
        let worker = CardWorker::new(
            pool,
            company,
            Accounts::new(&locks, fencing)?,
            waker.clone(),
            card.clone(),
            &settings,
        )?;
        let consumer = |queue| Consumer {
            queue,
            waker: waker.clone(),
            card: card.clone(),
        };
        let chassis = chassis
            .consume(consumer::CHOREOGRAPHY, consumer(consumer::CHOREOGRAPHY))
            .consume(consumer::COMMANDS, consumer(consumer::COMMANDS))
            .work("card calls", move |shutdown| {
                leased_work::run(worker, settings.pace(card), shutdown)
            })
            .failpoints(&[
                "payment.mid_batch",
                "payment.after_lock",
                "payment.before_card_call",
                "payment.after_card_call",
            ])
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

/// Registers the metrics' descriptions, which `/metrics` shows.
fn describe_metrics() {
    describe_counter!(
        "payments_total",
        Unit::Count,
        "Payments by outcome: captured, declined (with the reason), refunded, settled by an operator"
    );
    describe_counter!(
        "payments_minor_units_total",
        Unit::Count,
        "Amounts of these payments, in the currency's minor unit (cents)"
    );
    describe_histogram!(
        "card_call_duration_seconds",
        Unit::Seconds,
        "Calls of the card processor by outcome: captured, declined, refunded; unknown, if there was no definite answer; \
         not_asked, if the circuit breaker or the bulkhead rejected the call"
    );
    describe_counter!(
        "account_locks_overtaken_total",
        Unit::Count,
        "Times that the database refused an overtaken holder of an account's lock: the process was stopped for too long, \
         or Redis lost its memory"
    );
    counter!("account_locks_overtaken_total").increment(0);
    describe_counter!(
        "account_writes_unfenced_total",
        Unit::Count,
        "Answers of the card processor that an overtaken holder stored, because a drill had switched fencing off"
    );
    counter!("account_writes_unfenced_total").increment(0);
    describe_counter!(
        "card_answers_refused_total",
        Unit::Count,
        "Definite answers of the card processor that contradict the payment's row: each is a bug, here or there"
    );
    counter!("card_answers_refused_total").increment(0);
    describe_gauge!(
        "payments_waiting_for_card_company",
        Unit::Count,
        "Charges and refunds that have no definite answer yet"
    );
}
