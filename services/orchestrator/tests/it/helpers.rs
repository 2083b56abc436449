//! An orchestrator for each test, which plays the participants itself.

use chassis::events::Publishing;
use clap::Parser;
use contracts::{
    Message,
    order::{Customer, Saga, StartSaga},
    value::{Currency, Money, OrderId, PaymentMethod, PricedLine, Quantity},
};
use orchestrator::{App, Config, domain::saga_id};
use reqwest::Method;
use serde_json::Value;
use testkit::{
    Database, Probe, Seen, TestApp, Vhost, answer, arguments, broker_arguments, eventually,
};

pub(crate) struct Orchestrator {
    pub(crate) app: TestApp,
    pub(crate) vhost: Vhost,
    pub(crate) probe: Probe,
}

/// Starts an orchestrator. Timeouts are `pace` percent of those in the definitions: a few milliseconds if it is small.
pub(crate) async fn spawn_app(pace: u32) -> Orchestrator {
    let (database, vhost) =
        tokio::join!(Database::create("orchestrator"), Vhost::of("orchestrator"));
    let probe = Probe::attach(&vhost).await;
    let mut all = arguments("orchestrator", database.url());
    all.extend(broker_arguments(&vhost, "orchestrator"));
    all.extend([
        "--saga-pace".to_owned(),
        pace.to_string(),
        "--saga-poll-ms".to_owned(),
        "20".to_owned(),
    ]);
    let app = App::build(Config::parse_from(all)).expect("it is put together");
    let address = app.address().expect("it is bound");
    Orchestrator {
        app: TestApp::start(address, database, |shutdown| app.run(shutdown)).await,
        vhost,
        probe,
    }
}

/// Returns the lines of an order of 12.50.
pub(crate) fn lines() -> Vec<PricedLine> {
    vec![PricedLine {
        sku: "TEA".parse().expect("a SKU"),
        quantity: Quantity::try_from(1).expect("a quantity"),
        unit_price: Money::new(1250, Currency::EUR),
    }]
}

pub(crate) fn start(order_id: OrderId, saga: Saga) -> StartSaga {
    StartSaga {
        order_id,
        order_version: 1,
        saga,
        customer: Customer {
            id: "alice".parse().expect("an id"),
            email: None,
        },
        lines: lines(),
        amount: Money::new(1250, Currency::EUR),
        payment: PaymentMethod::Wallet,
    }
}

/// Returns the key of a command of `place_order`.
pub(crate) fn key(order: OrderId, step: &str, asked: &str) -> String {
    format!("{}/{step}/{asked}", saga_id(order, Saga::PlaceOrder))
}

impl Orchestrator {
    /// Requests a saga as the order service does.
    pub(crate) async fn begin(&self, order: OrderId) {
        let start = start(order, Saga::PlaceOrder);
        self.probe
            .command("orchestrator", &start, &format!("{order}/place_order"))
            .await;
    }

    /// Waits until the command was sent for the `n`th time, and returns the message.
    pub(crate) async fn asked(&self, kind: &str, order: OrderId, n: usize) -> Seen {
        self.probe
            .wait_for_nth(&format!("orchestrator.{kind}.v1"), order, n)
            .await
    }

    /// Sends a participant's reply.
    pub(crate) async fn reply<M: Message>(&self, message: &M, key: &str) {
        let service = M::TYPE.split('.').next().unwrap_or_default();
        let service = ["order", "payment", "inventory", "notification"]
            .into_iter()
            .find(|known| *known == service);
        let publishing = Publishing::by(service.expect("a participant"));
        self.probe.send(publishing.reply(message, key)).await;
    }

    /// Returns an order's saga as operators see it.
    pub(crate) async fn saga(&self, order: OrderId) -> Value {
        let path = format!("/operator/sagas/{order}");
        answer(self.app.as_operator(Method::GET, &path))
            .await
            .expect(200)
    }

    /// Waits until an order's saga is in this phase, and returns it.
    pub(crate) async fn comes_to(&self, order: OrderId, phase: &str) -> Value {
        eventually(&format!("the saga is {phase}"), || async {
            let saga = self.saga(order).await;
            if saga["phase"] == phase {
                Ok(saga)
            } else {
                Err(saga.to_string())
            }
        })
        .await
    }

    pub(crate) async fn stop(self) {
        self.app.stop().await;
        self.vhost.delete().await;
    }
}
