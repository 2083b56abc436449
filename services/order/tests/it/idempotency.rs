//! One key, one order, one response.

use futures_util::future::join_all;
use serde_json::json;
use testkit::{answer, eventually};

use crate::helpers::{spawn_app, tea};

#[tokio::test]
async fn same_request_and_key_get_the_same_response() {
    let orders = spawn_app().await;
    let first = answer(orders.request("alice", "k-1", &tea())).await;
    let location = first.header("location").map(str::to_owned);
    let first = first.expect(202);
    // Spaces, the order of fields and a default that is spelt out do not make another request.
    let respelt = r#"{ "payment": { "method": "wallet" }, "coordination": "choreography",
                       "lines": [ { "quantity": 2, "sku": "TEA" } ] }"#;
    let again = orders
        .app
        .as_customer("alice", reqwest::Method::POST, "/orders")
        .header("Idempotency-Key", "k-1")
        .header("Content-Type", "application/json")
        .body(respelt);
    let again = answer(again).await;
    assert_eq!(again.header("location").map(str::to_owned), location);
    assert_eq!(again.expect(202), first);

    // The response stays the same while inventory is unavailable, and after the order has changed.
    orders.prices.cut();
    let id = first["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("a UUID");
    orders.cancel("alice", id).await.expect(202);
    assert_eq!(
        answer(orders.request("alice", "k-1", &tea()))
            .await
            .expect(202),
        first
    );
    assert_eq!(orders.count().await, 1);
    orders.stop().await;
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused() {
    let orders = spawn_app().await;
    answer(orders.request("alice", "k-1", &tea()))
        .await
        .expect(202);
    let other =
        json!({ "lines": [{ "sku": "TEA", "quantity": 3 }], "payment": { "method": "wallet" } });
    answer(orders.request("alice", "k-1", &other))
        .await
        .expect_problem(422, "idempotency-key-reused", None);
    // Each customer has keys of its own.
    answer(orders.request("bob", "k-1", &other))
        .await
        .expect(202);
    assert_eq!(orders.count().await, 2);
    orders.stop().await;
}

#[tokio::test]
async fn a_failed_request_does_not_use_up_its_key() {
    let orders = spawn_app().await;
    let unknown =
        json!({ "lines": [{ "sku": "NOPE", "quantity": 1 }], "payment": { "method": "wallet" } });
    answer(orders.request("alice", "k-1", &unknown))
        .await
        .expect_problem(422, "invalid-field", Some("lines[0].sku"));
    orders.prices.cut();
    answer(orders.request("alice", "k-1", &tea()))
        .await
        .expect_problem(503, "unavailable", None);
    orders.prices.restore();
    answer(orders.request("alice", "k-1", &tea()))
        .await
        .expect(202);
    assert_eq!(orders.count().await, 1);
    orders.stop().await;
}

#[tokio::test]
async fn thirty_concurrent_requests_are_one_order() {
    let orders = spawn_app().await;
    // Thirty requests are more than there are connections. A client that is answered 503 sends its request again, under
    // the same key.
    let insist = || async {
        eventually("it is accepted", || async {
            let answer = answer(orders.request("alice", "k-1", &tea())).await;
            match answer.status.as_u16() {
                503 => Err(answer.body),
                _ => Ok(answer.expect(202)),
            }
        })
        .await
    };
    let bodies: Vec<_> = join_all((0..30).map(|_| insist())).await;
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(orders.count().await, 1);
    let id: contracts::value::OrderId = bodies[0]["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("a UUID");
    orders.probe.wait_for("order.created.v1", id).await;
    assert_eq!(orders.probe.seen(id).len(), 1);
    orders.stop().await;
}
