//! An inventory service of its own for each test.

use clap::Parser;
use contracts::{
    Message,
    orchestrator::{CommitInventory, ReleaseInventory, ReserveInventory, SettleInventory},
    order::{CancelReason, Customer, OrderCancelling, OrderConfirmed},
    payment::PaymentCompleted,
    value::{Currency, Money, OrderId, PricedLine, Quantity},
};
use inventory::{App, Config};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    Database, Probe, Seen, TestApp, Vhost, answer, arguments, broker_arguments, eventually,
};

pub(crate) struct Inventory {
    pub(crate) app: TestApp,
    pub(crate) vhost: Vhost,
    pub(crate) probe: Probe,
}

pub(crate) async fn spawn_app() -> Inventory {
    let (database, vhost) = tokio::join!(Database::create("inventory"), Vhost::of("inventory"));
    let probe = Probe::attach(&vhost).await;
    Inventory {
        app: start(database, &vhost).await,
        vhost,
        probe,
    }
}

/// Starts one more server on this database and these queues.
pub(crate) async fn start(database: Database, vhost: &Vhost) -> TestApp {
    let mut all = arguments("inventory", database.url());
    all.extend(broker_arguments(vhost, "inventory"));
    let app = App::build(Config::parse_from(all)).expect("it is put together");
    let address = app.address().expect("it is bound");
    TestApp::start(address, database, |shutdown| app.run(shutdown)).await
}

/// Returns the lines of an order from SKUs and quantities.
pub(crate) fn lines(lines: &[(&str, u64)]) -> Vec<PricedLine> {
    lines
        .iter()
        .map(|(sku, quantity)| PricedLine {
            sku: sku.parse().expect("a SKU"),
            quantity: Quantity::try_from(*quantity).expect("a quantity"),
            unit_price: Money::new(100, Currency::EUR),
        })
        .collect()
}

pub(crate) fn paid(order_id: OrderId, ordered: &[(&str, u64)]) -> PaymentCompleted {
    let units: u64 = ordered.iter().map(|(_, quantity)| quantity).sum();
    let amount = 100 * i64::try_from(units).expect("a few units");
    PaymentCompleted {
        order_id,
        order_version: 1,
        amount: Money::new(amount, Currency::EUR),
        lines: lines(ordered),
    }
}

pub(crate) fn cancelling(order_id: OrderId) -> OrderCancelling {
    OrderCancelling {
        order_id,
        order_version: 2,
        reason: CancelReason::Customer,
    }
}

pub(crate) fn confirmed(order_id: OrderId) -> OrderConfirmed {
    let customer = Customer {
        id: "alice".parse().expect("an id"),
        email: None,
    };
    OrderConfirmed {
        order_id,
        order_version: 2,
        customer,
        amount: Money::new(100, Currency::EUR),
    }
}

pub(crate) fn reserve(order_id: OrderId, ordered: &[(&str, u64)]) -> ReserveInventory {
    ReserveInventory {
        order_id,
        order_version: 1,
        lines: lines(ordered),
    }
}

pub(crate) fn commit(order_id: OrderId) -> CommitInventory {
    CommitInventory {
        order_id,
        order_version: 2,
    }
}

pub(crate) fn release(order_id: OrderId) -> ReleaseInventory {
    ReleaseInventory {
        order_id,
        order_version: 3,
    }
}

pub(crate) fn settle(order_id: OrderId) -> SettleInventory {
    SettleInventory {
        order_id,
        order_version: 3,
        operator: "olga".into(),
        note: "fell off a lorry".into(),
    }
}

/// Returns the idempotency key of a command of an order's saga.
pub(crate) fn key(order: OrderId, step: &str) -> String {
    format!("saga-of-{order}/{step}")
}

impl Inventory {
    /// Sends a command, and returns its reply, which is the `n`th under this key.
    pub(crate) async fn ask<M: Message>(&self, command: &M, key: &str, n: usize) -> Seen {
        let cause = self.probe.command("inventory", command, key).await;
        let reply = self.probe.wait_for_nth_reply(key, n).await;
        assert_eq!(reply.headers["cloudEvents_causationid"], cause.to_string());
        assert_eq!(reply.routing_key, "orchestrator");
        reply
    }

    /// Creates a product, and has so many units of it delivered.
    pub(crate) async fn stock(&self, sku: &str, units: i64) {
        let product =
            json!({ "name": format!("The {sku}"), "price_minor": 100, "currency": "EUR" });
        let path = format!("/operator/products/{sku}");
        answer(self.app.as_operator(Method::PUT, &path).json(&product))
            .await
            .expect(204);
        if units > 0 {
            let delivery = json!({ "delivery": OrderId::new().to_string(), "quantity": units });
            let path = format!("{path}/deliveries");
            answer(self.app.as_operator(Method::POST, &path).json(&delivery))
                .await
                .expect(200);
        }
    }

    /// Returns a product's units: available, reserved, sold, written off.
    pub(crate) async fn shelves(&self, sku: &str) -> (i64, i64, i64, i64) {
        sqlx::query_as("select available, reserved, sold, written_off from stock where sku = $1")
            .bind(sku)
            .fetch_one(&self.app.pool)
            .await
            .expect("there is such a product")
    }

    /// Waits until the shelves hold this.
    pub(crate) async fn wait_for_shelves(&self, sku: &str, expected: (i64, i64, i64, i64)) {
        eventually(&format!("{sku}: {expected:?}"), || async {
            let shelves = self.shelves(sku).await;
            if shelves == expected {
                Ok(())
            } else {
                Err(format!("{shelves:?}"))
            }
        })
        .await;
    }

    /// Returns the reservation of an order.
    pub(crate) async fn reservation(&self, order: OrderId) -> Value {
        let path = format!("/operator/reservations/{order}");
        answer(self.app.as_operator(Method::GET, &path))
            .await
            .expect(200)
    }

    pub(crate) async fn stop(self) {
        self.app.stop().await;
        self.vhost.delete().await;
    }
}
