//! A notification service and a mail server of its own for each test.

use std::sync::Arc;

use clap::Parser;
use contracts::{
    Message,
    orchestrator::{News, SendNotification},
    order::{CancelReason, Customer, OrderCancelled, OrderConfirmed},
    value::{Currency, Money, OrderId},
};
use notification::{App, Config, Lookup};
use reqwest::Method;
use serde_json::Value;
use testkit::{
    Database, Mail, Probe, Proxy, Seen, SmtpSink, TestApp, Vhost, answer, arguments,
    broker_arguments, eventually,
};

pub(crate) struct Notification {
    pub(crate) app: TestApp,
    pub(crate) vhost: Vhost,
    pub(crate) probe: Probe,
    pub(crate) sink: SmtpSink,
    /// The proxy between the notification service and the mail server.
    pub(crate) line: Proxy,
}

pub(crate) async fn spawn_app() -> Notification {
    spawn_with(&[], None).await
}

/// The file with the development key.
pub(crate) const DEVELOPMENT_KEYS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../deploy/development/secrets/webhook-keys"
);

/// Starts a service as [`spawn_app`] does, with more settings, and maybe with another resolver of webhooks' hosts.
pub(crate) async fn spawn_with(settings: &[&str], lookup: Option<Arc<dyn Lookup>>) -> Notification {
    spawn_on(Database::create("notification").await, settings, lookup).await
}

/// Starts a service as [`spawn_with`] does, on a database that may have been used before.
pub(crate) async fn spawn_on(
    database: Database,
    settings: &[&str],
    lookup: Option<Arc<dyn Lookup>>,
) -> Notification {
    let vhost = Vhost::of("notification").await;
    let probe = Probe::attach(&vhost).await;
    let sink = SmtpSink::start().await;
    let line = Proxy::start(sink.address()).await;
    let mut all = arguments("notification", database.url());
    all.extend(broker_arguments(&vhost, "notification"));
    if !settings
        .iter()
        .any(|setting| setting.starts_with("--webhook-keys-file"))
    {
        all.push(format!("--webhook-keys-file={DEVELOPMENT_KEYS}"));
    }
    all.extend(settings.iter().map(|setting| (*setting).to_owned()));
    all.extend([
        format!("--smtp-url=smtp://{}", line.address()),
        "--mail-poll-ms=20".to_owned(),
        "--mail-backoff-cap-ms=500".to_owned(),
        "--webhook-poll-ms=20".to_owned(),
    ]);
    if !settings.iter().any(|s| s.starts_with("--smtp-timeout-ms")) {
        all.push("--smtp-timeout-ms=500".to_owned());
    }
    let config = Config::parse_from(all);
    let app = match lookup {
        Some(lookup) => App::build_with(config, lookup),
        None => App::build(config),
    };
    let app = app.expect("it is put together");
    let address = app.address().expect("it is bound");
    let app = TestApp::start(address, database, |shutdown| app.run(shutdown)).await;
    Notification {
        app,
        vhost,
        probe,
        sink,
        line,
    }
}

fn customer(email: Option<&str>) -> Customer {
    let email = email.map(|email| email.parse().expect("an address"));
    Customer {
        id: "alice".parse().expect("an id"),
        email,
    }
}

pub(crate) fn confirmed(order_id: OrderId) -> OrderConfirmed {
    OrderConfirmed {
        order_id,
        order_version: 2,
        customer: customer(Some("alice@example.test")),
        amount: Money::new(1250, Currency::EUR),
    }
}

pub(crate) fn cancelled(order_id: OrderId, email: Option<&str>) -> OrderCancelled {
    OrderCancelled {
        order_id,
        order_version: 4,
        reason: CancelReason::OutOfStock,
        customer: customer(email),
        amount: Money::new(1250, Currency::EUR),
        refunded: true,
        settled: false,
    }
}

/// Makes the orchestrator's command to tell a customer these news, at this version of the order.
pub(crate) fn send(
    order_id: OrderId,
    order_version: u32,
    news: News,
    email: Option<&str>,
) -> SendNotification {
    SendNotification {
        order_id,
        order_version,
        customer: customer(email),
        amount: Money::new(1250, Currency::EUR),
        news,
    }
}

/// The idempotency key of a command of an order's saga.
pub(crate) fn key(order: OrderId, step: &str) -> String {
    format!("saga-of-{order}/{step}")
}

impl Notification {
    /// Sends a command and waits for its reply, which is the `n`th under this key.
    pub(crate) async fn ask<M: Message>(&self, command: &M, key: &str, n: usize) -> Seen {
        let cause = self.probe.command("notification", command, key).await;
        let reply = self.probe.wait_for_nth_reply(key, n).await;
        assert_eq!(reply.headers["cloudEvents_causationid"], cause.to_string());
        assert_eq!(reply.routing_key, "orchestrator");
        assert_eq!(reply.kind, "notification.queued.v1");
        reply
    }

    /// Returns the mails that were delivered about an order.
    pub(crate) fn delivered(&self, order: OrderId) -> Vec<Mail> {
        self.sink.mails(&order.to_string())
    }

    /// Returns the mails about an order as an operator sees them.
    pub(crate) async fn mails(&self, order: OrderId) -> Vec<Value> {
        let list = answer(
            self.app
                .as_operator(Method::GET, &format!("/operator/mails?order={order}")),
        )
        .await;
        list.expect(200).as_array().cloned().unwrap_or_default()
    }

    /// Waits until the mail of this kind about an order is in this state, and returns it.
    pub(crate) async fn wait_for(&self, order: OrderId, kind: &str, state: &str) -> Value {
        eventually(&format!("{kind} about {order} is {state}"), || async {
            let mails = self.mails(order).await;
            let found = mails
                .iter()
                .find(|mail| mail["kind"] == kind && mail["state"] == state)
                .cloned();
            found.ok_or_else(|| format!("{mails:?}"))
        })
        .await
    }

    /// Waits until an attempt to deliver had this outcome.
    pub(crate) async fn wait_for_outcome(&self, outcome: &str) {
        eventually(&format!("an attempt that is {outcome}"), || async {
            let outcomes = self.outcomes().await;
            if outcomes.iter().any(|had| had == outcome) {
                Ok(())
            } else {
                Err(format!("{outcomes:?}"))
            }
        })
        .await;
    }

    /// Returns the outcomes of all attempts to deliver, over all mails.
    pub(crate) async fn outcomes(&self) -> Vec<String> {
        sqlx::query_scalar("select outcome from delivery order by id")
            .fetch_all(&self.app.pool)
            .await
            .expect("the table is there")
    }

    pub(crate) async fn stop(self) {
        self.app.stop().await;
        self.vhost.delete().await;
    }
}
