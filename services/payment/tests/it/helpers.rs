//! A payment service and a card processor of its own for each test.

use clap::Parser;
use contracts::{
    Message,
    orchestrator::{ChargePayment, RefundPayment, SettlePayment},
    order::{CancelReason, Customer, OrderCancelling, OrderCreated, OrderSettling, Participant},
    value::{Currency, Money, OrderId, PaymentMethod, PricedLine, Quantity},
};
use payment::{App, Config};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    Database, Probe, Proxy, Redis, Seen, TestApp, Vhost, answer, arguments, broker_arguments,
    eventually, service_token_file,
};

pub(crate) struct Payment {
    pub(crate) app: TestApp,
    pub(crate) vhost: Vhost,
    pub(crate) probe: Probe,
    /// The card processor.
    pub(crate) company: TestApp,
    /// The proxy between the payment service and the card processor.
    pub(crate) line: Proxy,
}

pub(crate) async fn spawn_app() -> Payment {
    spawn_app_on(Redis::shared().url()).await
}

/// Starts a payment service with its locks in that Redis.
pub(crate) async fn spawn_app_on(redis: &str) -> Payment {
    spawn_app_with(redis, &[]).await
}

/// Starts a payment service with its locks in that Redis, and more arguments.
pub(crate) async fn spawn_app_with(redis: &str, more: &[&str]) -> Payment {
    let (database, ledger, vhost) = tokio::join!(
        Database::create("payment"),
        Database::create("card_processor"),
        Vhost::of("payment")
    );
    let config = card_processor::Config::parse_from(arguments("card-processor", ledger.url()));
    let company = card_processor::App::build(config).expect("it is put together");
    let address = company.address().expect("it is bound");
    let company = TestApp::start(address, ledger, |shutdown| company.run(shutdown)).await;
    let line = Proxy::start(address).await;
    let probe = Probe::attach(&vhost).await;
    let app = start_with(database, &vhost, &line, redis, more).await;
    let payment = Payment {
        app,
        vhost,
        probe,
        company,
        line,
    };
    payment.turn(json!({})).await;
    payment
}

/// Starts one more server on the same database and queues.
pub(crate) async fn start(database: Database, vhost: &Vhost, line: &Proxy) -> TestApp {
    let redis = Redis::shared();
    start_with(database, vhost, line, redis.url(), &[]).await
}

/// Starts one more server with its locks in that Redis, and more arguments.
pub(crate) async fn start_with(
    database: Database,
    vhost: &Vhost,
    line: &Proxy,
    redis: &str,
    more: &[&str],
) -> TestApp {
    let mut all = arguments("payment", database.url());
    all.extend(broker_arguments(vhost, "payment"));
    all.extend([
        format!("--card-processor-url=http://{}", line.address()),
        format!(
            "--service-token-file={}",
            service_token_file("payment").display()
        ),
        "--card-timeout-ms=400".to_owned(),
        "--card-backoff-cap-ms=200".to_owned(),
        "--card-poll-ms=20".to_owned(),
        format!("--redis-url={redis}"),
        // The servers on one database share their locks, and no others do.
        format!("--account-lock-name={}", database.name()),
        "--card-breaker-open-ms=100".to_owned(),
    ]);
    all.extend(more.iter().map(|argument| (*argument).to_owned()));
    let app = App::build(Config::parse_from(all)).expect("it is put together");
    let address = app.address().expect("it is bound");
    TestApp::start(address, database, |shutdown| app.run(shutdown)).await
}

pub(crate) fn created(
    order_id: OrderId,
    customer: &str,
    amount: i64,
    payment: &PaymentMethod,
) -> OrderCreated {
    let line = PricedLine {
        sku: "TEA".parse().expect("a SKU"),
        quantity: Quantity::try_from(1).expect("a quantity"),
        unit_price: Money::new(amount, Currency::EUR),
    };
    OrderCreated {
        order_id,
        order_version: 1,
        customer: Customer {
            id: customer.parse().expect("an id"),
            email: None,
        },
        lines: vec![line],
        amount: Money::new(amount, Currency::EUR),
        payment: payment.clone(),
    }
}

pub(crate) fn card(token: &str) -> PaymentMethod {
    PaymentMethod::Card {
        token: token.parse().expect("a token"),
    }
}

pub(crate) fn cancelling(order_id: OrderId) -> OrderCancelling {
    OrderCancelling {
        order_id,
        order_version: 2,
        reason: CancelReason::Customer,
    }
}

pub(crate) fn settling(order_id: OrderId) -> OrderSettling {
    OrderSettling {
        order_id,
        order_version: 2,
        participants: vec![Participant::Payment],
        operator: "olga".into(),
        note: "paid back by bank transfer".into(),
    }
}

pub(crate) fn charge(
    order_id: OrderId,
    customer: &str,
    amount: i64,
    payment: &PaymentMethod,
) -> ChargePayment {
    let OrderCreated {
        order_id,
        order_version,
        customer,
        lines,
        amount,
        payment,
    } = created(order_id, customer, amount, payment);
    ChargePayment {
        order_id,
        order_version,
        customer,
        lines,
        amount,
        payment,
    }
}

pub(crate) fn refund(order_id: OrderId) -> RefundPayment {
    RefundPayment {
        order_id,
        order_version: 2,
    }
}

pub(crate) fn settle(order_id: OrderId) -> SettlePayment {
    SettlePayment {
        order_id,
        order_version: 2,
        operator: "olga".into(),
        note: "paid back by bank transfer".into(),
    }
}

/// The idempotency key of a command of an order's saga.
pub(crate) fn key(order: OrderId, direction: &str) -> String {
    format!("saga-of-{order}/charge_payment/{direction}")
}

impl Payment {
    /// Sends a command; returns the message's id.
    pub(crate) async fn send<M: Message>(&self, command: &M, key: &str) -> String {
        let id = self.probe.command("payment", command, key).await;
        id.to_string()
    }

    /// Sends a command and waits for its reply, which is the `n`th under this key.
    pub(crate) async fn ask<M: Message>(&self, command: &M, key: &str, n: usize) -> Seen {
        let cause = self.send(command, key).await;
        let reply = self.probe.wait_for_nth_reply(key, n).await;
        assert_eq!(reply.headers["cloudEvents_causationid"], cause);
        assert_eq!(reply.routing_key, "orchestrator");
        reply
    }

    /// Waits until every command that was sent before has been handled.
    pub(crate) async fn catch_up(&self) {
        let order = OrderId::new();
        self.ask(&refund(order), &key(order, "undo"), 1).await;
    }

    /// Pays money into a wallet.
    pub(crate) async fn fund(&self, customer: &str, amount: i64) {
        let deposit = json!({ "deposit": format!("for {customer}"), "amount_minor": amount, "currency": "EUR" });
        let path = format!("/operator/wallets/{customer}/deposits");
        answer(self.app.as_operator(Method::POST, &path).json(&deposit))
            .await
            .expect(200);
    }

    /// Returns the balance of a wallet, in cents.
    pub(crate) async fn balance(&self, customer: &str) -> i64 {
        let wallet = answer(self.app.as_customer(
            customer,
            Method::GET,
            &format!("/wallets/{customer}"),
        ))
        .await;
        wallet.expect(200)["balances"][0]["amount_minor"]
            .as_i64()
            .expect("a balance")
    }

    /// Returns the state of an order's payment, or "unheard of".
    pub(crate) async fn state(&self, order: OrderId) -> String {
        let path = format!("/operator/payments/{order}");
        let view: Value = answer(self.app.as_operator(Method::GET, &path)).await.body;
        view["state"].as_str().unwrap_or("unheard of").to_owned()
    }

    /// Waits until the payment of an order is in this state.
    pub(crate) async fn wait_for_state(&self, order: OrderId, expected: &str) {
        eventually(&format!("{order} is {expected}"), || async {
            let state = self.state(order).await;
            if state == expected {
                Ok(())
            } else {
                Err(state)
            }
        })
        .await;
    }

    /// Turns some of the card processor's knobs, and resets the others.
    pub(crate) async fn turn(&self, knobs: Value) {
        let mut all = json!({
            "latency_min_ms": 0, "latency_max_ms": 0, "fail_before": 0.0, "fail_after": 0.0, "decline": 0.0
        });
        for (name, value) in knobs.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        answer(self.company.as_operator(Method::PUT, "/knobs").json(&all))
            .await
            .expect(204);
    }

    /// Returns the entries of the card processor's ledger about an order, oldest first.
    pub(crate) async fn ledger(&self, order: OrderId) -> Vec<String> {
        sqlx::query_scalar(
            "select kind from ledger join charge on charge.id = charge_id where reference = $1 order by seq",
        )
        .bind(order.to_string())
        .fetch_all(&self.company.pool)
        .await
        .expect("the ledger is there")
    }

    pub(crate) async fn stop(self) {
        self.app.stop().await;
        self.company.stop().await;
        self.vhost.delete().await;
    }
}
