//! The circuit breaker before the card processor, and the lock of each account.

use std::time::Duration;

use contracts::value::OrderId;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Redis, RedisServer, answer, eventually};

use crate::helpers::{Payment, card, created, spawn_app, spawn_app_on, spawn_app_with, start_with};

impl Payment {
    async fn breaker(&self) -> Value {
        let all = self.app.as_operator(Method::GET, "/operator/dependencies");
        answer(all).await.expect(200)[0]["breaker"].clone()
    }

    async fn fence(&self, customer: &str) -> i64 {
        sqlx::query_scalar("select fence from account_fence where customer_id = $1")
            .bind(customer)
            .fetch_one(&self.app.pool)
            .await
            .expect("an account that was locked")
    }
}

/// The breaker opens, the waiting payments cost no attempts, and no order is declined.
#[tokio::test]
async fn orders_wait_while_the_card_processor_fails() {
    let payment = spawn_app().await;
    let probe = &payment.probe;
    payment.turn(json!({ "fail_before": 1.0 })).await;
    let orders: Vec<OrderId> = (0..20).map(|_| OrderId::new()).collect();
    for (n, order) in orders.iter().enumerate() {
        let customer = format!("customer-{n}");
        probe
            .publish(&created(*order, &customer, 300, &card("tok_visa")))
            .await;
    }
    eventually("the breaker opens", || async {
        let breaker = payment.breaker().await;
        if breaker["state"] == "open" {
            Ok(())
        } else {
            Err(breaker)
        }
    })
    .await;
    // An open breaker keeps payments from being claimed, so all but a few wait without an attempt.
    let failed = payment.breaker().await["failed"].as_u64();
    assert!(failed < Some(40), "{failed:?} calls");
    let tried: i64 = sqlx::query_scalar("select coalesce(sum(attempts), 0)::bigint from payment")
        .fetch_one(&payment.app.pool)
        .await
        .expect("a number");
    assert!(tried <= 60, "{tried} attempts for 20 payments");

    payment.turn(json!({ "fail_before": 0.0 })).await;
    for order in orders {
        probe.wait_for("payment.completed.v1", order).await;
        assert_eq!(payment.ledger(order).await, ["capture"]);
    }
    assert_eq!(payment.breaker().await["state"], "closed");
    payment.stop().await;
}

#[tokio::test]
async fn one_call_at_a_time_for_each_account() {
    let payment = spawn_app().await;
    let probe = &payment.probe;
    let another = start_with(
        payment.app.database.clone(),
        &payment.vhost,
        &payment.line,
        Redis::shared().url(),
        &[],
    )
    .await;
    payment
        .turn(json!({ "latency_min_ms": 50, "latency_max_ms": 80 }))
        .await;
    let orders: Vec<OrderId> = (0..12).map(|_| OrderId::new()).collect();
    for order in &orders {
        probe
            .publish(&created(*order, "alice", 300, &card("tok_visa")))
            .await;
    }
    for order in &orders {
        probe.wait_for("payment.completed.v1", *order).await;
    }
    // By the card processor's own books, no decision began before the one before it had ended.
    let overlapping: i64 = sqlx::query_scalar(
        "with decision as (select c.id, c.created_at as began, l.at as ended from charge c join ledger l on l.charge_id = c.id)
         select count(*) from decision a join decision b on a.id < b.id
         where a.began < b.ended and b.began < a.ended",
    )
    .fetch_one(&payment.company.pool)
    .await
    .expect("the card processor's books");
    assert_eq!(overlapping, 0);
    another.stop().await;
    payment.stop().await;
}

#[tokio::test]
async fn cards_wait_without_redis_and_fences_grow_after_it_is_lost() {
    let mut redis = RedisServer::start().await;
    let payment = spawn_app_on(&redis.url()).await;
    let probe = &payment.probe;
    let first = OrderId::new();
    probe
        .publish(&created(first, "alice", 300, &card("tok_visa")))
        .await;
    probe.wait_for("payment.completed.v1", first).await;
    let before = payment.fence("alice").await;

    redis.kill();
    let second = OrderId::new();
    probe
        .publish(&created(second, "alice", 300, &card("tok_visa")))
        .await;
    eventually("it waits", || async {
        let due: Option<bool> =
            sqlx::query_scalar("select due_at is not null from payment where order_id = $1")
                .bind(second.0)
                .fetch_optional(&payment.app.pool)
                .await
                .expect("a row");
        if due == Some(true) {
            Ok(())
        } else {
            Err(format!("{due:?}"))
        }
    })
    .await;
    assert!(payment.ledger(second).await.is_empty());

    // Redis comes back empty.
    redis.revive().await;
    probe.wait_for("payment.completed.v1", second).await;
    assert_eq!(payment.ledger(second).await, ["capture"]);
    assert!(payment.fence("alice").await > before);
    payment.stop().await;
}

/// Places an order of alice's, and overtakes the worker that calls the card processor for it. Returns the order, and
/// the newest fence then.
async fn overtaken(payment: &Payment) -> (OrderId, i64) {
    // The card processor takes longer to answer than the test to overtake the worker.
    payment
        .turn(json!({ "latency_min_ms": 250, "latency_max_ms": 250 }))
        .await;
    let order = OrderId::new();
    let probe = &payment.probe;
    probe
        .publish(&created(order, "alice", 300, &card("tok_visa")))
        .await;
    let overtake = "update account_fence set fence = fence + 1000, holder = gen_random_uuid()
                    where customer_id = 'alice'";
    eventually("a newer holder is in the table", || async {
        let done = sqlx::query(overtake)
            .execute(&payment.app.pool)
            .await
            .expect("a table")
            .rows_affected();
        if done == 1 { Ok(()) } else { Err(done) }
    })
    .await;
    let newest = payment.fence("alice").await;
    probe.wait_for("payment.completed.v1", order).await;
    (order, newest)
}

#[tokio::test]
async fn overtaken_holder_writes_nothing_and_the_call_is_resent() {
    let payment = spawn_app().await;
    let (order, newest) = overtaken(&payment).await;
    // One charge, although two calls were made, and its writer's fence is higher than the one that overtook.
    assert_eq!(payment.ledger(order).await, ["capture"]);
    assert!(payment.fence("alice").await > newest);
    tokio::time::timeout(Duration::from_secs(30), payment.stop())
        .await
        .expect("it stops");
}

#[tokio::test]
async fn threads_are_held_where_there_is_a_failpoint() {
    let payment = spawn_app_with(Redis::shared().url(), &["--demo-mode"]).await;
    let hold = async |name: &str, how: Value| {
        let path = format!("/demo/failpoints/{name}");
        answer(payment.app.as_operator(Method::PUT, &path).json(&how)).await
    };
    hold("payment.nowhere", json!({ "hold": true }))
        .await
        .expect_problem(404, "not-found", None);
    hold("payment.after_card_call", json!({ "hold": "yes" }))
        .await
        .expect_problem(422, "invalid-field", Some("hold"));
    hold("payment.after_card_call", json!({ "hold": false }))
        .await
        .expect(204);
    payment.stop().await;
}

#[tokio::test]
async fn overtaken_holder_writes_while_fencing_is_off() {
    let payment = spawn_app_with(Redis::shared().url(), &["--demo-mode"]).await;
    let switch = async |name: &str, to: Value| {
        let path = format!("/demo/switches/{name}");
        answer(payment.app.as_operator(Method::PUT, &path).json(&to)).await
    };
    switch("brakes", json!({ "on": false }))
        .await
        .expect_problem(404, "not-found", None);
    let off = switch("fencing", json!({ "on": false })).await.expect(200);
    assert_eq!(off["on"], false, "{off}");

    let (order, newest) = overtaken(&payment).await;
    // The overtaken holder wrote, so the call was not repeated under a higher fence.
    assert_eq!(payment.fence("alice").await, newest);
    assert_eq!(payment.ledger(order).await, ["capture"]);

    let all = answer(payment.app.as_operator(Method::GET, "/demo")).await;
    assert_eq!(all.expect(200)["switches"][0]["on"], false);
    let on = switch("fencing", json!({ "on": true })).await.expect(200);
    assert_eq!(on["on"], true, "{on}");
    payment.stop().await;
}
