//! Wallets: charged and refunded in the transaction of the message.

use contracts::value::{OrderId, PaymentMethod};
use holdfast::messaging::Event;
use reqwest::Method;
use serde_json::json;
use testkit::{answer, eventually};

use crate::helpers::{cancelling, created, settling, spawn_app, start};

#[tokio::test]
async fn charged_once_and_refunded_once() {
    let payment = spawn_app().await;
    payment.fund("alice", 1000).await;
    let (order, probe) = (OrderId::new(), &payment.probe);
    for n in 1..=3 {
        probe
            .publish(&created(order, "alice", 300, &PaymentMethod::Wallet))
            .await;
        let completed = probe.wait_for_nth("payment.completed.v1", order, n).await;
        // The event carries the lines, which inventory needs.
        assert_eq!(completed.data["lines"][0]["sku"], "TEA");
        assert_eq!(
            completed.headers["cloudEvents_idempotencykey"],
            format!("{order}/payment/do")
        );
        assert_eq!(payment.balance("alice").await, 700);
    }
    for n in 1..=3 {
        probe.publish(&cancelling(order)).await;
        probe.wait_for_nth("payment.refunded.v1", order, n).await;
        assert_eq!(payment.balance("alice").await, 1000);
    }
    // A late charge is answered without being carried out.
    probe
        .publish(&created(order, "alice", 300, &PaymentMethod::Wallet))
        .await;
    let declined = probe.wait_for("payment.declined.v1", order).await;
    assert_eq!(declined.data["reason"], "order_cancelled");
    assert_eq!(payment.balance("alice").await, 1000);
    payment.stop().await;
}

#[tokio::test]
async fn early_cancel_keeps_a_late_charge_from_happening() {
    let payment = spawn_app().await;
    payment.fund("alice", 1000).await;
    let (order, probe) = (OrderId::new(), &payment.probe);
    probe.publish(&cancelling(order)).await;
    probe.wait_for("payment.nothing_to_undo.v1", order).await;
    probe
        .publish(&created(order, "alice", 300, &PaymentMethod::Wallet))
        .await;
    probe.wait_for("payment.declined.v1", order).await;
    assert_eq!(
        (
            payment.balance("alice").await,
            payment.state(order).await.as_str()
        ),
        (1000, "void")
    );
    payment.stop().await;
}

#[tokio::test]
async fn wallet_is_not_overdrawn_by_concurrent_charges() {
    let payment = spawn_app().await;
    payment.fund("alice", 1000).await;
    let second = start(payment.app.database.clone(), &payment.vhost, &payment.line).await;
    let orders: Vec<OrderId> = (0..50).map(|_| OrderId::new()).collect();
    let messages: Vec<_> = orders
        .iter()
        .map(|order| {
            let data = serde_json::to_vec(&created(*order, "alice", 300, &PaymentMethod::Wallet))
                .expect("JSON");
            Event::new("order.created.v1", "/order", order.to_string(), data)
                .into_message("events", "choreography.order.created.v1".to_owned())
        })
        .collect();
    payment.probe.send_all(&messages).await;
    let outcomes = eventually("an answer to everyone", || async {
        let kinds: Vec<String> = orders
            .iter()
            .filter_map(|order| payment.probe.kinds(order).get(1).cloned())
            .collect();
        if kinds.len() == orders.len() {
            Ok(kinds)
        } else {
            Err(kinds.len())
        }
    })
    .await;
    assert_eq!(
        outcomes
            .iter()
            .filter(|kind| *kind == "payment.completed.v1")
            .count(),
        3
    );
    assert_eq!(
        outcomes
            .iter()
            .filter(|kind| *kind == "payment.declined.v1")
            .count(),
        47
    );
    assert_eq!(payment.balance("alice").await, 100);
    second.stop().await;
    payment.stop().await;
}

#[tokio::test]
async fn uncovered_charge_is_declined() {
    let payment = spawn_app().await;
    payment.fund("alice", 299).await;
    for (customer, reason) in [("alice", "insufficient_funds"), ("mallory", "no_account")] {
        let order = OrderId::new();
        payment
            .probe
            .publish(&created(order, customer, 300, &PaymentMethod::Wallet))
            .await;
        let declined = payment.probe.wait_for("payment.declined.v1", order).await;
        assert_eq!(declined.data["reason"], reason);
        payment.probe.publish(&cancelling(order)).await;
        payment
            .probe
            .wait_for("payment.nothing_to_undo.v1", order)
            .await;
    }
    assert_eq!(payment.balance("alice").await, 299);
    payment.stop().await;
}

#[tokio::test]
async fn settled_payment_is_never_refunded() {
    let payment = spawn_app().await;
    payment.fund("alice", 1000).await;
    let (order, probe) = (OrderId::new(), &payment.probe);
    probe
        .publish(&created(order, "alice", 300, &PaymentMethod::Wallet))
        .await;
    probe.wait_for("payment.completed.v1", order).await;
    probe.publish(&settling(order)).await;
    probe.wait_for("payment.settled.v1", order).await;
    probe.publish(&cancelling(order)).await;
    probe.wait_for_nth("payment.settled.v1", order, 2).await;
    assert_eq!(payment.balance("alice").await, 700);
    let settlement: (i64, String, String) =
        sqlx::query_as("select amount_minor, operator, note from settlement")
            .fetch_one(&payment.app.pool)
            .await
            .expect("recorded");
    assert_eq!(
        settlement,
        (300, "olga".into(), "paid back by bank transfer".into())
    );
    payment.stop().await;
}

#[tokio::test]
async fn deposit_counts_once_and_wallets_are_private() {
    let payment = spawn_app().await;
    let app = &payment.app;
    let deposit = async |customer: &str, name: &str, amount: i64, currency: &str| {
        let body = json!({ "deposit": name, "amount_minor": amount, "currency": currency });
        let path = format!("/operator/wallets/{customer}/deposits");
        answer(app.as_operator(Method::POST, &path).json(&body)).await
    };
    assert_eq!(
        deposit("alice", "d-1", 500, "EUR").await.expect(200)["new"],
        true
    );
    assert_eq!(
        deposit("alice", "d-1", 500, "EUR").await.expect(200)["new"],
        false
    );
    deposit("alice", "d-1", 501, "EUR")
        .await
        .expect_problem(409, "conflict", None);
    deposit("bob", "d-1", 500, "EUR")
        .await
        .expect_problem(409, "conflict", None);
    deposit("alice", "d-2", 70, "USD").await.expect(200);
    for (amount, currency, field) in [
        (0, "EUR", "amount_minor"),
        (-5, "EUR", "amount_minor"),
        (5, "eur", "currency"),
    ] {
        deposit("alice", "d-3", amount, currency)
            .await
            .expect_problem(422, "invalid-field", Some(field));
    }
    deposit("a%20b", "d-4", 5, "EUR").await.expect_problem(
        422,
        "invalid-field",
        Some("path customer"),
    );

    let wallet = answer(app.as_customer("alice", Method::GET, "/wallets/alice"))
        .await
        .expect(200);
    let balances = json!([{ "amount_minor": 500, "currency": "EUR" }, { "amount_minor": 70, "currency": "USD" }]);
    assert_eq!(wallet["balances"], balances);
    assert_eq!(
        answer(app.as_operator(Method::GET, "/wallets/alice"))
            .await
            .expect(200),
        wallet
    );
    // Another customer's wallet looks like a missing one.
    let strangers = answer(app.as_customer("bob", Method::GET, "/wallets/alice")).await;
    let nobodys = answer(app.as_customer("bob", Method::GET, "/wallets/nobody")).await;
    assert_eq!(
        (strangers.status, &strangers.body),
        (nobodys.status, &nobodys.body)
    );
    strangers.expect_problem(404, "not-found", None);
    let as_customer = app.as_customer("alice", Method::POST, "/operator/wallets/alice/deposits");
    let body = json!({ "deposit": "d-9", "amount_minor": 1, "currency": "EUR" });
    answer(as_customer.json(&body))
        .await
        .expect_problem(403, "forbidden", None);
    payment.stop().await;
}
