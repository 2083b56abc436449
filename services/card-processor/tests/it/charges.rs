//! A charge under one key happens once, even if its answer is lost.

use contracts::value::OrderId;
use reqwest::Method;
use serde_json::json;
use testkit::{answer, eventually};

use crate::helpers::{spawn_app, start};

fn captured(amount: i64) -> (String, i64) {
    ("capture".to_owned(), amount)
}

#[tokio::test]
async fn a_key_is_one_charge_and_one_answer() {
    let app = spawn_app().await;
    let order = OrderId::new();
    let first = app.charge("k-1", order, "tok_visa", 500).await.expect(200);
    assert_eq!(first["status"], "captured");
    assert_eq!(
        app.charge("k-1", order, "tok_visa", 500).await.expect(200),
        first
    );
    app.charge("k-1", order, "tok_visa", 501)
        .await
        .expect_problem(422, "idempotency-key-reused", None);
    assert_eq!(app.ledger(order).await, [captured(500)]);

    let charge = first["id"].as_str().expect("an id");
    for _ in 0..2 {
        assert_eq!(
            app.refund("k-2", charge).await.expect(200)["status"],
            "refunded"
        );
    }
    assert_eq!(
        app.ledger(order).await,
        [captured(500), ("refund".to_owned(), 500)]
    );
    app.0.stop().await;
}

#[tokio::test]
async fn twenty_concurrent_requests_are_one_charge() {
    let app = spawn_app().await;
    app.turn(json!({ "latency_max_ms": 30 })).await.expect(204);
    let order = OrderId::new();
    let answers =
        futures_util::future::join_all((0..20).map(|_| app.charge("k", order, "tok_visa", 500)))
            .await;
    // One of them charges. The others get 409 while it is in progress, 200 with its result, or 503, because there are
    // fewer database connections than requests.
    for answer in answers {
        let status = answer.status.as_u16();
        assert!([200, 409, 503].contains(&status), "{answer:?}");
    }
    assert_eq!(
        app.charge("k", order, "tok_visa", 500).await.expect(200)["status"],
        "captured"
    );
    assert_eq!(app.ledger(order).await, [captured(500)]);
    app.0.stop().await;
}

#[tokio::test]
async fn some_cards_always_end_the_same_way() {
    let app = spawn_app().await;
    for (token, reason) in [
        ("tok_declined", "card_declined"),
        ("tok_expired", "card_expired"),
        ("tok_insufficient_funds", "insufficient_funds"),
        ("tok_unknown", "invalid_card"),
    ] {
        let order = OrderId::new();
        let declined = app.charge(token, order, token, 500).await.expect(200);
        assert_eq!(
            (&declined["status"], &declined["reason"]),
            (&json!("declined"), &json!(reason))
        );
        assert_eq!(app.ledger(order).await, []);
        let charge = declined["id"].as_str().expect("an id");
        app.refund("k", charge)
            .await
            .expect_problem(409, "conflict", None);
    }
    app.refund("k", &uuid::Uuid::now_v7().to_string())
        .await
        .expect_problem(404, "not-found", None);
    app.0.stop().await;
}

#[tokio::test]
async fn fail_before_charges_nothing_and_fail_after_charges_once() {
    let app = spawn_app().await;
    let order = OrderId::new();
    app.turn(json!({ "fail_before": 1.0 })).await.expect(204);
    let failed = app.charge("k", order, "tok_visa", 500).await;
    assert!(failed.header("retry-after").is_some());
    failed.expect_problem(503, "unavailable", None);
    assert_eq!(app.ledger(order).await, []);

    app.turn(json!({ "fail_after": 1.0 })).await.expect(204);
    for _ in 0..3 {
        app.charge("k", order, "tok_visa", 500)
            .await
            .expect_problem(503, "unavailable", None);
    }
    assert_eq!(
        app.ledger(order).await,
        [captured(500)],
        "the answer was lost, the charge was not"
    );
    app.turn(json!({})).await.expect(204);
    assert_eq!(
        app.charge("k", order, "tok_visa", 500).await.expect(200)["status"],
        "captured"
    );
    assert_eq!(app.ledger(order).await, [captured(500)]);
    app.0.stop().await;
}

#[tokio::test]
async fn capture_lands_after_the_merchant_has_hung_up() {
    let app = spawn_app().await;
    app.turn(json!({ "latency_min_ms": 300, "latency_max_ms": 300 }))
        .await
        .expect(204);
    let order = OrderId::new();
    let gone = tokio::time::timeout(
        std::time::Duration::from_millis(100),
        app.charge("k", order, "tok_visa", 5),
    )
    .await;
    assert!(gone.is_err(), "the merchant hung up");
    eventually("a late capture", || async {
        let ledger = app.ledger(order).await;
        if ledger == [captured(5)] {
            Ok(())
        } else {
            Err(format!("{ledger:?}"))
        }
    })
    .await;
    app.0.stop().await;
}

#[tokio::test]
async fn charge_that_a_crash_abandoned_is_taken_over() {
    let app = spawn_app().await;
    let order = OrderId::new();
    // The row of a processor that died while it was deciding, and whose lease has ended.
    app.charge("k", order, "tok_declined", 5).await.expect(200);
    sqlx::query(
        "update charge set status = 'processing', decline_reason = null, processing_until = now() - interval '1 second',
                           token = 'tok_visa'",
    )
    .execute(&app.0.pool)
    .await
    .expect("set back");
    let database = app.0.database.clone();
    app.0.stop().await;
    let app = start(database).await;
    let taken_over = app.charge("k", order, "tok_declined", 5).await.expect(200);
    assert_eq!(taken_over["status"], "captured");
    assert_eq!(app.ledger(order).await, [captured(5)]);
    app.0.stop().await;
}

#[tokio::test]
async fn invalid_request_is_refused_with_the_name_of_its_field() {
    let app = spawn_app().await;
    let order = OrderId::new();
    app.charge("k", order, "tok_visa", 0).await.expect_problem(
        422,
        "invalid-field",
        Some("amount.amount_minor"),
    );
    app.charge("k", order, "4111 1111", 5).await.expect_problem(
        422,
        "invalid-field",
        Some("token"),
    );
    app.charge("", order, "tok_visa", 5).await.expect_problem(
        422,
        "invalid-field",
        Some("header Idempotency-Key"),
    );
    for (knobs, field) in [
        (json!({ "latency_max_ms": 600_001 }), "latency_max_ms"),
        (
            json!({ "latency_min_ms": 5, "latency_max_ms": 4 }),
            "latency_min_ms",
        ),
        (json!({ "decline": 1.5 }), "decline"),
        (json!({ "fail_after": -0.1 }), "fail_after"),
    ] {
        app.turn(knobs)
            .await
            .expect_problem(422, "invalid-field", Some(field));
    }
    let as_customer = app
        .0
        .as_customer("alice", Method::PUT, "/knobs")
        .json(&json!({}));
    answer(as_customer)
        .await
        .expect_problem(403, "forbidden", None);
    answer(app.0.as_operator(Method::POST, "/charges"))
        .await
        .expect_problem(403, "forbidden", None);
    assert_eq!(app.ledger(order).await, []);
    app.0.stop().await;
}
