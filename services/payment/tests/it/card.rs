//! Cards: the intent is stored before the call, the outcome after it, and only a definite answer is an outcome.

use contracts::{order::OrderCreated, value::OrderId};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool, types::Json};
use testkit::eventually;

use crate::helpers::{cancelling, card, created, settling, spawn_app, start};

#[tokio::test]
async fn card_is_captured_and_refunded_in_the_processors_ledger() {
    let payment = spawn_app().await;
    let (order, probe) = (OrderId::new(), &payment.probe);
    let cause = probe
        .publish(&created(order, "alice", 300, &card("tok_visa")))
        .await;
    let completed = probe.wait_for("payment.completed.v1", order).await;
    // A worker publishes the answer, which still names the message that caused it.
    assert_eq!(
        completed.headers["cloudEvents_causationid"],
        cause.to_string()
    );
    assert_eq!(payment.ledger(order).await, ["capture"]);
    for n in 1..=2 {
        probe.publish(&cancelling(order)).await;
        probe.wait_for_nth("payment.refunded.v1", order, n).await;
    }
    assert_eq!(payment.ledger(order).await, ["capture", "refund"]);
    payment.stop().await;
}

#[tokio::test]
async fn a_decline_is_final() {
    let payment = spawn_app().await;
    let (order, probe) = (OrderId::new(), &payment.probe);
    for n in 1..=2 {
        probe
            .publish(&created(order, "alice", 300, &card("tok_expired")))
            .await;
        let declined = probe.wait_for_nth("payment.declined.v1", order, n).await;
        assert_eq!(declined.data["reason"], "card_expired");
    }
    assert!(payment.ledger(order).await.is_empty());
    payment.stop().await;
}

/// A lost answer, a timeout and a broken connection are no outcomes: the payment stays `charging`, and its charge is
/// resent under one key until the card processor gives a definite answer.
#[tokio::test]
async fn charge_is_resent_until_there_is_a_definite_answer() {
    let payment = spawn_app().await;
    let probe = &payment.probe;
    // The card processor charges, and each of its answers is lost.
    payment.turn(json!({ "fail_after": 1.0 })).await;
    let order = OrderId::new();
    probe
        .publish(&created(order, "alice", 300, &card("tok_visa")))
        .await;
    eventually("it is charged", || async {
        let ledger = payment.ledger(order).await;
        if ledger == ["capture"] {
            Ok(())
        } else {
            Err(format!("{ledger:?}"))
        }
    })
    .await;
    // The call times out.
    payment
        .turn(json!({ "latency_min_ms": 600, "latency_max_ms": 600 }))
        .await;
    let slow = OrderId::new();
    probe
        .publish(&created(slow, "alice", 300, &card("tok_visa")))
        .await;
    payment.wait_for_state(slow, "charging").await;
    // The card processor cannot be reached.
    payment.line.cut();
    let unreached = OrderId::new();
    probe
        .publish(&created(unreached, "alice", 300, &card("tok_visa")))
        .await;
    payment.wait_for_state(unreached, "charging").await;
    for order in [order, slow, unreached] {
        assert_eq!(
            payment.state(order).await,
            "charging",
            "there is no answer while the outcome is unknown"
        );
        assert_eq!(probe.seen(order).len(), 1, "{:?}", probe.kinds(order));
    }

    payment.line.restore();
    payment.turn(json!({})).await;
    for order in [order, slow, unreached] {
        probe.wait_for("payment.completed.v1", order).await;
        assert_eq!(
            payment.ledger(order).await,
            ["capture"],
            "charged once, under one key"
        );
    }
    payment.stop().await;
}

/// A worker whose lease has ended, and whose payment another worker has claimed, leaves that claim as it is when its
/// call fails.
#[tokio::test]
async fn late_worker_does_not_put_off_anothers_claim() {
    let payment = spawn_app().await;
    let (probe, pool) = (&payment.probe, &payment.app.pool);
    payment.line.pause();
    let order = OrderId::new();
    probe
        .publish(&created(order, "alice", 300, &card("tok_visa")))
        .await;
    // Another worker claims the payment right after this one: for an hour, by which its claim is recognised below.
    let claim = "update payment set due_at = now() + interval '1 hour'
                 where order_id = $1 and attempts = 1 and due_at > now()";
    eventually("it is being asked for", || async {
        let claimed = sqlx::query(claim).bind(order.0).execute(pool).await;
        match claimed.expect("the database answers").rows_affected() {
            1 => Ok(()),
            _ => Err("not claimed yet"),
        }
    })
    .await;
    // A worker claims first and connects then.
    eventually("its connection", || {
        let count = payment.line.connections();
        std::future::ready((count > 0).then_some(()).ok_or("none"))
    })
    .await;
    // The call gets no answer: its connection breaks. A new one works.
    payment.line.lead_to(payment.company.address());
    payment.line.restore();
    // The next payment of the same account is called for once the first worker has stored its result and released the
    // lock.
    let next = OrderId::new();
    probe
        .publish(&created(next, "alice", 300, &card("tok_visa")))
        .await;
    probe.wait_for("payment.completed.v1", next).await;
    let claim = "update payment set due_at = now() where order_id = $1 and due_at > now() + interval '50 minutes'";
    let still = sqlx::query(claim).bind(order.0).execute(pool).await;
    assert_eq!(still.expect("the database answers").rows_affected(), 1);
    probe.wait_for("payment.completed.v1", order).await;
    payment.stop().await;
}

#[tokio::test]
async fn late_capture_is_refunded_before_the_cancel_is_answered() {
    let payment = spawn_app().await;
    let (order, probe) = (OrderId::new(), &payment.probe);
    payment
        .turn(json!({ "latency_min_ms": 200, "latency_max_ms": 200 }))
        .await;
    probe
        .publish(&created(order, "alice", 300, &card("tok_visa")))
        .await;
    payment.wait_for_state(order, "charging").await;
    probe.publish(&cancelling(order)).await;
    let refunded = probe.wait_for("payment.refunded.v1", order).await;
    assert_eq!(refunded.data["amount"]["amount_minor"], 300);
    assert_eq!(payment.ledger(order).await, ["capture", "refund"]);
    assert!(
        !probe
            .kinds(order)
            .contains(&"payment.completed.v1".to_owned()),
        "inventory is not told of the capture"
    );
    payment.stop().await;
}

#[tokio::test]
async fn a_decline_that_comes_after_a_cancel_leaves_nothing_to_undo() {
    let payment = spawn_app().await;
    let (order, probe) = (OrderId::new(), &payment.probe);
    payment
        .turn(json!({ "latency_min_ms": 200, "latency_max_ms": 200 }))
        .await;
    probe
        .publish(&created(order, "alice", 300, &card("tok_declined")))
        .await;
    payment.wait_for_state(order, "charging").await;
    probe.publish(&cancelling(order)).await;
    probe.wait_for("payment.nothing_to_undo.v1", order).await;
    assert!(payment.ledger(order).await.is_empty());
    payment.stop().await;
}

#[tokio::test]
async fn two_servers_share_the_calls_and_charge_each_card_once() {
    let payment = spawn_app().await;
    let second = start(payment.app.database.clone(), &payment.vhost, &payment.line).await;
    payment
        .turn(json!({ "latency_max_ms": 50, "fail_after": 0.3, "fail_before": 0.2 }))
        .await;
    let orders: Vec<OrderId> = (0..40).map(|_| OrderId::new()).collect();
    for order in &orders {
        payment
            .probe
            .publish(&created(*order, "alice", 300, &card("tok_visa")))
            .await;
    }
    for order in &orders {
        payment.probe.wait_for("payment.completed.v1", order).await;
        assert_eq!(payment.ledger(*order).await, ["capture"]);
    }
    for order in &orders {
        payment.probe.publish(&cancelling(*order)).await;
    }
    for order in &orders {
        payment.probe.wait_for("payment.refunded.v1", order).await;
        assert_eq!(payment.ledger(*order).await, ["capture", "refund"]);
    }
    second.stop().await;
    payment.stop().await;
}

#[tokio::test]
async fn operator_settles_a_charge_that_is_never_answered() {
    let payment = spawn_app().await;
    let (order, probe) = (OrderId::new(), &payment.probe);
    payment.line.cut();
    probe
        .publish(&created(order, "alice", 300, &card("tok_visa")))
        .await;
    payment.wait_for_state(order, "charging").await;
    probe.publish(&cancelling(order)).await;
    probe.publish(&settling(order)).await;
    probe.wait_for("payment.settled.v1", order).await;
    payment.line.restore();
    let settlement: i64 = sqlx::query_scalar("select amount_minor from settlement")
        .fetch_one(&payment.app.pool)
        .await
        .expect("recorded");
    assert_eq!(settlement, 0, "by the payment's books nothing was taken");
    payment.stop().await;
}

/// The reason why no call can be made for a row that a bug has written, or that is damaged, is stored in it. Once the
/// row is repaired, the call is made.
#[tokio::test]
async fn impossible_call_names_its_reason_until_it_is_repaired() {
    let payment = spawn_app().await;
    let (probe, pool) = (&payment.probe, &payment.app.pool);
    let damaged = OrderId::new();
    for (order, damage, reason) in [
        (
            damaged,
            "customer_id = 'no valid id'",
            "the payment has no owner",
        ),
        (
            OrderId::new(),
            "method = 'wallet', card_token = null",
            "the payment is to be taken from a wallet",
        ),
        (
            OrderId::new(),
            "state = 'refunding'",
            "the payment has no charge to refund",
        ),
    ] {
        insert_damaged(pool, order, damage).await;
        eventually(reason, || async {
            let row: (Option<String>, i32) =
                sqlx::query_as("select last_error, attempts from payment where order_id = $1")
                    .bind(order.0)
                    .fetch_one(pool)
                    .await
                    .expect("the row");
            if row == (Some(reason.to_owned()), 0) {
                Ok(())
            } else {
                Err(format!("{row:?}"))
            }
        })
        .await;
    }
    // Other payments go on.
    let order = OrderId::new();
    probe
        .publish(&created(order, "alice", 300, &card("tok_visa")))
        .await;
    probe.wait_for("payment.completed.v1", order).await;

    change(pool, damaged, "customer_id = 'alice'").await;
    probe.wait_for("payment.completed.v1", damaged).await;
    assert_eq!(payment.ledger(damaged).await, ["capture"]);
    payment.stop().await;
}

/// Inserts a charge of alice's card that is due, with this damage.
async fn insert_damaged(pool: &PgPool, order: OrderId, damage: &str) {
    let OrderCreated { lines, .. } = created(order, "alice", 300, &card("tok_visa"));
    sqlx::query(
        "insert into payment (order_id, state, customer_id, amount_minor, currency, method, card_token, lines,
                              order_version, due_at)
         values ($1, 'charging', 'alice', 300, 'EUR', 'card', 'tok_visa', $2, 1, now() + interval '1 hour')",
    )
    .bind(order.0)
    .bind(Json(lines))
    .execute(pool)
    .await
    .expect("a row");
    change(pool, order, &format!("{damage}, due_at = now()")).await;
}

/// Changes columns of a payment.
async fn change(pool: &PgPool, order: OrderId, columns: &str) {
    let update = format!("update payment set {columns} where order_id = $1");
    sqlx::query(AssertSqlSafe(update))
        .bind(order.0)
        .execute(pool)
        .await
        .expect("changed");
}
