//! An order service of its own for each test, with an inventory of its own that knows the prices.

use clap::Parser;
use contracts::value::OrderId;
use order::{App, Config};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::{
    Answer, Database, Probe, Proxy, TestApp, Vhost, answer, arguments, broker_arguments,
    eventually, service_token_file,
};
use tokio::sync::OnceCell;
use uuid::Uuid;

pub(crate) struct Orders {
    pub(crate) app: TestApp,
    pub(crate) vhost: Vhost,
    pub(crate) probe: Probe,
    pub(crate) inventory: TestApp,
    /// The proxy to inventory.
    pub(crate) prices: Proxy,
    /// The proxy to the broker.
    pub(crate) broker: Proxy,
    /// The proxy to the database.
    pub(crate) database: Proxy,
}

/// The virtual host of all tests' inventories, to which no test publishes.
static ELSEWHERE: OnceCell<Vhost> = OnceCell::const_new();

pub(crate) async fn spawn_app() -> Orders {
    // Longer than a busy machine may take. Tests of the timeout set it themselves.
    spawn_app_with(&["--price-timeout-ms=10000"]).await
}

/// Starts the service with additional arguments.
pub(crate) async fn spawn_app_with(more: &[&str]) -> Orders {
    let (database, vhost, inventory) = tokio::join!(
        Database::create("order"),
        Vhost::of("order"),
        spawn_inventory()
    );
    let prices = Proxy::start(inventory.address()).await;
    let broker = Proxy::start(vhost.server()).await;
    let line = Proxy::start(database.server()).await;
    let probe = Probe::attach(&vhost).await;
    let mut all = arguments("order", &database.url_via(line.address()));
    all.extend([
        format!("--amqp-url={}", vhost.url_via("order", broker.address())),
        format!("--inventory-url=http://{}", prices.address()),
        format!(
            "--service-token-file={}",
            service_token_file("order").display()
        ),
        "--worker-poll-ms=20".to_owned(),
    ]);
    // Tests of the sweep set it themselves. In the others a sweep would hide a lost message before their patience is
    // over.
    if !more
        .iter()
        .any(|argument| argument.starts_with("--sweep-after-ms"))
    {
        all.push("--sweep-after-ms=3600000".to_owned());
    }
    all.extend(more.iter().map(|argument| (*argument).to_owned()));
    let app = App::build(Config::parse_from(all)).expect("it is put together");
    let address = app.address().expect("it is bound");
    let app = TestApp::start(address, database, |shutdown| app.run(shutdown)).await;
    Orders {
        app,
        vhost,
        probe,
        inventory,
        prices,
        broker,
        database: line,
    }
}

/// Starts an inventory that only knows prices: it is on another virtual host, and the tests publish its events.
async fn spawn_inventory() -> TestApp {
    let (stock, elsewhere) = tokio::join!(
        Database::create("inventory"),
        ELSEWHERE.get_or_init(|| Vhost::of("inventory"))
    );
    let mut all = arguments("inventory", stock.url());
    all.extend(broker_arguments(elsewhere, "inventory"));
    let inventory =
        inventory::App::build(inventory::Config::parse_from(all)).expect("it is put together");
    let address = inventory.address().expect("it is bound");
    let inventory = TestApp::start(address, stock, |shutdown| inventory.run(shutdown)).await;
    for (sku, price, currency) in [
        ("TEA", 690, "EUR"),
        ("CUP", 850, "EUR"),
        ("CARD", 2500, "USD"),
    ] {
        let product = json!({ "name": sku, "price_minor": price, "currency": currency });
        let path = format!("/operator/products/{sku}");
        answer(inventory.as_operator(Method::PUT, &path).json(&product))
            .await
            .expect(204);
    }
    inventory
}

/// Returns an order of two teas, paid from the wallet.
pub(crate) fn tea() -> Value {
    json!({ "lines": [{ "sku": "TEA", "quantity": 2 }], "payment": { "method": "wallet" } })
}

impl Orders {
    /// Returns a request to place this order under this key.
    pub(crate) fn request(&self, customer: &str, key: &str, order: &Value) -> RequestBuilder {
        self.app
            .as_customer(customer, Method::POST, "/orders")
            .header("Idempotency-Key", key)
            .json(order)
    }

    /// Places an order as this customer, under a new key.
    pub(crate) async fn try_place(&self, customer: &str, order: &Value) -> Answer {
        answer(self.request(customer, &Uuid::now_v7().to_string(), order)).await
    }

    /// Places an order, and returns its id once it was published.
    pub(crate) async fn place(&self, customer: &str, order: &Value) -> OrderId {
        let placed = self.try_place(customer, order).await;
        let location = placed.header("location").map(str::to_owned);
        let id: OrderId = placed.expect(202)["id"]
            .as_str()
            .expect("an id")
            .parse()
            .expect("a UUID");
        assert_eq!(location, Some(format!("/orders/{id}")));
        self.probe.wait_for("order.created.v1", id).await;
        id
    }

    pub(crate) async fn order(&self, id: OrderId) -> Value {
        answer(self.app.as_operator(Method::GET, &format!("/orders/{id}")))
            .await
            .expect(200)
    }

    pub(crate) async fn operator_view(&self, id: OrderId) -> Value {
        answer(
            self.app
                .as_operator(Method::GET, &format!("/operator/orders/{id}")),
        )
        .await
        .expect(200)
    }

    pub(crate) async fn cancel(&self, customer: &str, id: OrderId) -> Answer {
        answer(
            self.app
                .as_customer(customer, Method::POST, &format!("/orders/{id}/cancel")),
        )
        .await
    }

    /// Acts on an order as an operator.
    pub(crate) async fn act(&self, id: OrderId, action: &str, body: Value) -> Answer {
        let path = format!("/operator/orders/{id}/{action}");
        answer(self.app.as_operator(Method::POST, &path).json(&body)).await
    }

    /// Waits until an order is stuck, and returns the operator's view of it.
    pub(crate) async fn wait_until_stuck(&self, id: OrderId) -> Value {
        eventually(&format!("{id} is stuck"), || async {
            let view = self.operator_view(id).await;
            if view["stuck_since"].is_string() {
                Ok(view)
            } else {
                Err(view)
            }
        })
        .await
    }

    /// Waits until an order is in this state, and returns it.
    pub(crate) async fn wait_for(&self, id: OrderId, state: &str, at_rest: bool) -> Value {
        eventually(&format!("{id} is {state}, at rest: {at_rest}"), || async {
            let order = self.order(id).await;
            if order["state"] == state && order["at_rest"] == at_rest {
                Ok(order)
            } else {
                Err(order)
            }
        })
        .await
    }

    /// Returns the number of orders.
    pub(crate) async fn count(&self) -> i64 {
        sqlx::query_scalar("select count(*) from orders")
            .fetch_one(&self.app.pool)
            .await
            .expect("counted")
    }

    pub(crate) async fn stop(self) {
        self.app.stop().await;
        self.inventory.stop().await;
        self.vhost.delete().await;
    }
}
