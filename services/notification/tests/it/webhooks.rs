//! Each end of an order is one webhook to each endpoint that wants it, signed.

use std::time::Duration;

use contracts::value::OrderId;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{answer, eventually};
use uuid::Uuid;

use crate::{
    helpers::{Notification, cancelled, confirmed, key, send, spawn_with},
    receiver::{Mode, Receiver},
};

/// The settings of tests, whose endpoints are on this machine and are tried again soon.
pub(crate) const LOCAL: [&str; 4] = [
    "--webhook-allow-http",
    "--webhook-allow-private",
    "--webhook-timeout-ms=500",
    "--webhook-backoff-cap-ms=200",
];

/// Starts a service and a receiver, and registers an endpoint of the operators' there, at `/hook`.
pub(crate) async fn listening() -> (Notification, Receiver, Value) {
    let notification = spawn_with(&LOCAL, None).await;
    let receiver = Receiver::start().await;
    let endpoint = notification
        .register(json!({ "url": receiver.url("/hook") }))
        .await;
    (notification, receiver, endpoint)
}

impl Notification {
    /// Registers an endpoint as an operator; returns it, with its secret.
    pub(crate) async fn register(&self, body: Value) -> Value {
        let request = self.app.as_operator(Method::POST, "/webhooks").json(&body);
        answer(request).await.expect(201)
    }

    /// Requests an action on an endpoint as an operator, and returns the response.
    pub(crate) async fn act(&self, endpoint: &Value, action: &str) -> Value {
        let path = format!("/webhooks/{}/{action}", text(endpoint, "id"));
        let answered = answer(self.app.as_operator(Method::POST, &path)).await;
        answered.expect(200)
    }

    /// Returns an endpoint as an operator sees it.
    pub(crate) async fn endpoint(&self, endpoint: &Value) -> Value {
        let path = format!("/webhooks/{}", text(endpoint, "id"));
        answer(self.app.as_operator(Method::GET, &path))
            .await
            .expect(200)
    }

    /// Waits until the endpoint satisfies `wanted`, and returns it.
    pub(crate) async fn wait_for_endpoint(
        &self,
        endpoint: &Value,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(what, || async {
            let seen = self.endpoint(endpoint).await;
            if wanted(&seen) {
                Ok(seen)
            } else {
                Err(format!("{seen:#}"))
            }
        })
        .await
    }

    /// Waits until the webhook about an order is in this state, and returns it.
    pub(crate) async fn wait_for_webhook(
        &self,
        endpoint: &Value,
        order: OrderId,
        state: &str,
    ) -> Value {
        let order = order.to_string();
        let is_so = |hook: &Value| hook["order_id"] == order && hook["state"] == state;
        let find = |seen: &Value| {
            let hooks = seen["webhooks"].as_array();
            hooks.and_then(|hooks| hooks.iter().find(|hook| is_so(hook)).cloned())
        };
        let what = format!("the webhook about {order} is {state}");
        let seen = self
            .wait_for_endpoint(endpoint, &what, |seen| find(seen).is_some())
            .await;
        find(&seen).expect("it was there")
    }

    /// Waits until the last reply to the newest webhook of an endpoint contains `reply`, and returns the endpoint.
    pub(crate) async fn wait_for_reply(&self, endpoint: &Value, reply: &str) -> Value {
        let is_so = |seen: &Value| {
            let last = seen["webhooks"][0]["last_reply"].as_str();
            last.is_some_and(|last| last.contains(reply))
        };
        self.wait_for_endpoint(endpoint, reply, is_so).await
    }

    /// Changes the one row that matches `id`, in place of waiting for hours.
    pub(crate) async fn alter(&self, sql: &'static str, id: &Value) {
        let id: Uuid = id.as_str().expect("an id").parse().expect("a UUID");
        let altered = sqlx::query(sql).bind(id).execute(&self.app.pool).await;
        assert_eq!(altered.expect("valid SQL").rows_affected(), 1, "{sql}");
    }
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name}: {value}"))
}

#[tokio::test]
async fn webhook_tells_the_orders_end_under_a_valid_signature() {
    let notification = spawn_with(&LOCAL, None).await;
    let receiver = Receiver::start().await;
    let endpoint = notification
        .register(json!({ "url": receiver.url("/hook?shop=1") }))
        .await;
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    let hook = receiver.wait_for("/hook?shop=1", 1).await.remove(0);
    assert!(hook.is_signed_by(text(&endpoint, "secret")), "{hook:?}");
    assert!(!hook.is_signed_by("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    assert_eq!(hook.signatures(), 1);
    assert_eq!(hook.header("content-type"), "application/json");
    assert!(hook.header("user-agent").starts_with("Holdfast-Webhooks/"));
    let sent: i64 = hook.header("webhook-timestamp").parse().expect("a number");
    let now: i64 = sqlx::query_scalar("select extract(epoch from now())::int8")
        .fetch_one(&notification.app.pool)
        .await
        .expect("the time");
    assert!((now - 60..=now).contains(&sent), "{sent}, at {now}");
    let body = hook.json();
    assert_eq!(body["type"], "order.confirmed");
    assert!(text(&body, "timestamp").ends_with('Z'), "{body}");
    assert_eq!(
        body["data"],
        json!({
            "order_id": order.to_string(),
            "order_version": 2,
            "customer_id": "alice",
            "amount": { "amount_minor": 1250, "currency": "EUR" },
        })
    );
    let seen = notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    assert_eq!(seen["id"], hook.id());
    assert_eq!(
        (&seen["attempts"], &seen["last_reply"]),
        (&json!(1), &json!("answered 204"))
    );

    notification.probe.publish(&cancelled(order, None)).await;
    let undone = receiver.wait_for("/hook?shop=1", 2).await.remove(1);
    assert_ne!(undone.id(), hook.id());
    let data = &undone.json()["data"];
    assert_eq!(
        (&data["reason"], &data["payment"], &data["order_version"]),
        (&json!("out_of_stock"), &json!("refunded"), &json!(4))
    );
    notification.stop().await;
}

#[tokio::test]
async fn repeated_message_sends_one_webhook_in_both_coordinations() {
    let (notification, receiver, endpoint) = listening().await;
    let (chosen, asked) = (OrderId::new(), OrderId::new());
    for n in 1..=3 {
        notification.probe.publish(&confirmed(chosen)).await;
        let news = send(asked, 2, contracts::orchestrator::News::Confirmed, None);
        notification.ask(&news, &key(asked, "do"), n).await;
    }
    for order in [chosen, asked] {
        notification
            .wait_for_webhook(&endpoint, order, "delivered")
            .await;
    }
    // Another order is behind them in the queue: once its webhook is delivered, the repeated ones have been handled.
    let next = OrderId::new();
    notification.probe.publish(&confirmed(next)).await;
    notification
        .wait_for_webhook(&endpoint, next, "delivered")
        .await;
    assert_eq!(receiver.seen("/hook").len(), 3);
    notification.stop().await;
}

#[tokio::test]
async fn endpoint_receives_its_types_and_its_customers_orders_only() {
    let notification = spawn_with(&LOCAL, None).await;
    let receiver = Receiver::start().await;
    let all = notification
        .register(json!({ "url": receiver.url("/all") }))
        .await;
    let undone = json!({ "url": receiver.url("/undone"), "events": ["order.cancelled"] });
    notification.register(undone).await;
    for customer in ["alice", "bob"] {
        let body = json!({ "url": receiver.url(&format!("/{customer}")) });
        let request = notification
            .app
            .as_customer(customer, Method::POST, "/webhooks");
        answer(request.json(&body)).await.expect(201);
    }
    let (kept, lost) = (OrderId::new(), OrderId::new());
    notification.probe.publish(&confirmed(kept)).await;
    notification.probe.publish(&cancelled(lost, None)).await;
    receiver.wait_for("/all", 2).await;
    receiver.wait_for("/alice", 2).await;
    let undone = receiver.wait_for("/undone", 1).await;
    assert_eq!(undone[0].json()["data"]["order_id"], lost.to_string());
    for order in [kept, lost] {
        notification
            .wait_for_webhook(&all, order, "delivered")
            .await;
    }
    // All endpoints receive the same id.
    let ids = |path: &str| {
        let seen = receiver.seen(path);
        let mut ids: Vec<String> = seen.iter().map(|hook| hook.id().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids("/all"), ids("/alice"));
    assert!(ids("/all").contains(&undone[0].id().to_owned()));
    assert_eq!(receiver.seen("/undone").len(), 1);
    assert!(receiver.seen("/bob").is_empty(), "they are alice's orders");
    notification.stop().await;
}

#[tokio::test]
async fn old_and_new_secret_both_sign_after_a_rotation() {
    let (notification, receiver, endpoint) = listening().await;
    let old = text(&endpoint, "secret");
    let rotated = notification.act(&endpoint, "rotate").await;
    let new = text(&rotated, "secret");
    assert_ne!(old, new);
    let seen = notification.endpoint(&endpoint).await;
    assert_eq!(seen["old_secret_until"], rotated["old_secret_until"]);
    let valid_for: f64 = sqlx::query_scalar(
        "select extract(epoch from old_secret_until - now())::float8 from webhook_endpoint",
    )
    .fetch_one(&notification.app.pool)
    .await
    .expect("a number");
    let day = 24.0 * 3600.0;
    assert!((day - 60.0..=day).contains(&valid_for), "{valid_for}");

    notification.probe.publish(&confirmed(OrderId::new())).await;
    let hook = receiver.wait_for("/hook", 1).await.remove(0);
    assert_eq!(hook.signatures(), 2);
    assert!(hook.is_signed_by(old) && hook.is_signed_by(new), "{hook:?}");

    let over = "update webhook_endpoint set old_secret_until = now() where id = $1";
    notification.alter(over, &endpoint["id"]).await;
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    let hook = receiver.wait_for("/hook", 2).await.remove(1);
    assert_eq!(hook.signatures(), 1);
    assert!(
        !hook.is_signed_by(old) && hook.is_signed_by(new),
        "{hook:?}"
    );
    let seen = notification
        .wait_for_endpoint(&endpoint, "the old secret has expired", |seen| {
            seen["old_secret_until"].is_null()
        })
        .await;
    assert_eq!(seen["state"], "enabled");
    notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    notification.stop().await;
}

#[tokio::test]
async fn receiver_that_hangs_delays_no_mail_and_no_other_endpoint() {
    // More webhooks than there are places hang for as long as the test runs.
    let settings = [
        "--webhook-allow-http",
        "--webhook-allow-private",
        "--webhook-timeout-ms=60000",
        "--webhook-concurrency=4",
    ];
    let notification = spawn_with(&settings, None).await;
    let (hanging, well) = (Receiver::start().await, Receiver::start().await);
    hanging.set(Mode::Hang);
    for receiver in [&hanging, &well] {
        notification
            .register(json!({ "url": receiver.url("/hook") }))
            .await;
    }
    let orders: Vec<OrderId> = (0..12).map(|_| OrderId::new()).collect();
    let begun = tokio::time::Instant::now();
    for order in &orders {
        notification.probe.publish(&confirmed(*order)).await;
    }
    for order in &orders {
        notification
            .wait_for(*order, "order.confirmed", "sent")
            .await;
    }
    well.wait_for("/hook", orders.len()).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    // The receiver that hangs has had half of the places.
    assert_eq!(hanging.seen("/hook").len(), 2);
    hanging.set(Mode::status(204));
    hanging.wait_for("/hook", orders.len() + 2).await;
    notification.stop().await;
}
