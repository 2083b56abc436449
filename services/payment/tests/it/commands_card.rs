//! Commands whose reply must wait for the card processor: a worker sends it, under the key of the newest command.

use contracts::value::OrderId;
use serde_json::json;
use testkit::eventually;

use crate::helpers::{Payment, card, charge, key, refund, settle, spawn_app};

/// Starts an order's charge, and returns while it waits for the card processor.
async fn charging(payment: &Payment, token: &str) -> OrderId {
    let order = OrderId::new();
    let charge = charge(order, "alice", 300, &card(token));
    payment.send(&charge, &key(order, "do")).await;
    payment.wait_for_state(order, "charging").await;
    order
}

#[tokio::test]
async fn charge_is_answered_after_the_card_processor_has_answered() {
    let payment = spawn_app().await;
    payment.line.cut();
    let order = OrderId::new();
    let (key, charge) = (
        key(order, "do"),
        charge(order, "alice", 300, &card("tok_visa")),
    );
    let cause = payment.send(&charge, &key).await;
    payment.send(&charge, &key).await;
    payment.catch_up().await;
    assert_eq!(payment.state(order).await, "charging");
    assert!(payment.probe.replies(&key).is_empty(), "no outcome yet");
    payment.line.restore();
    let completed = payment.probe.wait_for_reply(&key).await;
    assert_eq!(completed.kind, "payment.completed.v1");
    assert_eq!(completed.headers["cloudEvents_causationid"], cause);

    let completed = payment.ask(&charge, &key, 2).await;
    assert_eq!(completed.kind, "payment.completed.v1");
    assert_eq!(payment.ledger(order).await, ["capture"]);
    assert_eq!(
        payment.probe.replies(&key).len(),
        2,
        "one reply to the first two commands, and one to the third"
    );
    assert!(payment.probe.seen_on("events", order).is_empty());
    payment.stop().await;
}

#[tokio::test]
async fn a_decline_and_a_refund_are_answered_under_their_keys() {
    let payment = spawn_app().await;
    let (declined, refunded) = (OrderId::new(), OrderId::new());
    let charge = |order, token| charge(order, "alice", 300, &card(token));
    let reply = payment
        .ask(&charge(declined, "tok_expired"), &key(declined, "do"), 1)
        .await;
    assert_eq!(reply.kind, "payment.declined.v1");
    assert_eq!(reply.data["reason"], "card_expired");

    payment
        .ask(&charge(refunded, "tok_visa"), &key(refunded, "do"), 1)
        .await;
    for n in 1..=2 {
        let reply = payment
            .ask(&refund(refunded), &key(refunded, "undo"), n)
            .await;
        assert_eq!(reply.kind, "payment.refunded.v1");
    }
    assert_eq!(payment.ledger(refunded).await, ["capture", "refund"]);
    payment.stop().await;
}

#[tokio::test]
async fn undo_takes_the_reply_of_a_charge_in_flight() {
    let payment = spawn_app().await;
    // The card processor takes the money, and each of its answers is lost.
    payment.turn(json!({ "fail_after": 1.0 })).await;
    let order = charging(&payment, "tok_visa").await;
    eventually("it is charged", || async {
        let ledger = payment.ledger(order).await;
        if ledger == ["capture"] {
            Ok(())
        } else {
            Err(format!("{ledger:?}"))
        }
    })
    .await;
    let cause = payment.send(&refund(order), &key(order, "undo")).await;
    // The resent charge does not take the reply back.
    let again = charge(order, "alice", 300, &card("tok_visa"));
    payment.send(&again, &key(order, "do")).await;
    payment.catch_up().await;
    payment.turn(json!({})).await;

    let refunded = payment.probe.wait_for_reply(&key(order, "undo")).await;
    assert_eq!(refunded.kind, "payment.refunded.v1");
    assert_eq!(refunded.headers["cloudEvents_causationid"], cause);
    assert_eq!(payment.ledger(order).await, ["capture", "refund"]);
    let declined = payment.ask(&again, &key(order, "do"), 1).await;
    assert_eq!(declined.data["reason"], "order_cancelled");
    assert_eq!(payment.probe.seen_on("replies", order).len(), 2);
    assert!(payment.probe.seen_on("events", order).is_empty());
    payment.stop().await;
}

#[tokio::test]
async fn a_decline_that_comes_after_the_undo_leaves_nothing_to_undo() {
    let payment = spawn_app().await;
    payment.line.cut();
    let order = charging(&payment, "tok_declined").await;
    payment.send(&refund(order), &key(order, "undo")).await;
    payment.catch_up().await;
    payment.line.restore();
    let nothing = payment.probe.wait_for_reply(&key(order, "undo")).await;
    assert_eq!(nothing.kind, "payment.nothing_to_undo.v1");
    assert!(payment.ledger(order).await.is_empty());
    let nothing = payment.ask(&settle(order), &key(order, "settle"), 1).await;
    assert_eq!(nothing.kind, "payment.nothing_to_undo.v1");
    assert!(payment.probe.replies(&key(order, "do")).is_empty());
    payment.stop().await;
}

#[tokio::test]
async fn newest_of_two_senders_waiting_for_a_refund_is_answered() {
    let payment = spawn_app().await;
    // One order is undone after it was captured, one while it is charged.
    let captured = OrderId::new();
    let charge = charge(captured, "alice", 300, &card("tok_visa"));
    payment.ask(&charge, &key(captured, "do"), 1).await;
    payment.line.cut();
    let charged = charging(&payment, "tok_visa").await;
    let mut causes = Vec::new();
    for order in [captured, charged] {
        payment.send(&refund(order), &key(order, "undo")).await;
        causes.push(
            payment
                .send(&refund(order), &key(order, "other/undo"))
                .await,
        );
        payment
            .send(&refund(order), &key(order, "other/undo"))
            .await;
    }
    payment.catch_up().await;
    payment.line.restore();
    for (order, cause) in [captured, charged].into_iter().zip(causes) {
        let other = key(order, "other/undo");
        let refunded = payment.probe.wait_for_reply(&other).await;
        assert_eq!(refunded.kind, "payment.refunded.v1");
        assert_eq!(refunded.headers["cloudEvents_causationid"], cause);
        // The first sender resends its command, and is answered at once.
        let refunded = payment.ask(&refund(order), &key(order, "undo"), 1).await;
        assert_eq!(refunded.kind, "payment.refunded.v1");
        assert_eq!(payment.ledger(order).await, ["capture", "refund"]);
        assert_eq!(payment.probe.replies(&other).len(), 1);
    }
    payment.stop().await;
}

#[tokio::test]
async fn operator_settles_a_charge_that_is_never_answered() {
    let payment = spawn_app().await;
    payment.line.cut();
    let order = charging(&payment, "tok_visa").await;
    payment.send(&refund(order), &key(order, "undo")).await;
    let settled = payment.ask(&settle(order), &key(order, "settle"), 1).await;
    assert_eq!(settled.kind, "payment.settled.v1");
    let settled = payment.ask(&refund(order), &key(order, "undo"), 1).await;
    assert_eq!(settled.kind, "payment.settled.v1");
    payment.line.restore();
    let settlement: i64 = sqlx::query_scalar("select amount_minor from settlement")
        .fetch_one(&payment.app.pool)
        .await
        .expect("recorded");
    assert_eq!(settlement, 0, "by the payment's books nothing was taken");
    payment.stop().await;
}
