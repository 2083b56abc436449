//! What is away for a while, and what is told to whom meanwhile.

use contracts::inventory::{InventoryCommitted, InventoryReserved};
use reqwest::Method;
use testkit::{answer, eventually};

use crate::helpers::{spawn_app, spawn_app_with, tea};

#[tokio::test]
async fn without_prices_an_order_is_told_to_come_back() {
    let orders = spawn_app_with(&["--price-timeout-ms=700"]).await;
    orders.prices.cut();
    let refused = orders.try_place("alice", &tea()).await;
    assert!(refused.header("retry-after").is_some());
    refused.expect_problem(503, "unavailable", None);
    // Everything else goes on.
    answer(orders.app.as_customer("alice", Method::GET, "/orders"))
        .await
        .expect(200);
    orders.prices.pause();
    orders
        .try_place("alice", &tea())
        .await
        .expect_problem(503, "unavailable", None);
    orders.prices.restore();
    orders.place("alice", &tea()).await;
    assert_eq!(orders.count().await, 1);
    orders.stop().await;
}

#[tokio::test]
async fn without_its_database_it_says_so_and_comes_back_by_itself() {
    let orders = spawn_app().await;
    let id = orders.place("alice", &tea()).await;
    orders.database.cut();
    for (method, path) in [
        (Method::GET, "/orders".to_owned()),
        (Method::POST, format!("/orders/{id}/cancel")),
    ] {
        let refused = answer(orders.app.as_customer("alice", method, &path)).await;
        assert!(refused.header("retry-after").is_some(), "{path}");
        refused.expect_problem(503, "unavailable", None);
    }
    orders
        .try_place("alice", &tea())
        .await
        .expect_problem(503, "unavailable", None);
    let ready = answer(orders.app.request(Method::GET, "/health/ready")).await;
    assert_eq!(ready.expect(503)["checks"]["database"], "down");
    answer(orders.app.request(Method::GET, "/health/live"))
        .await
        .expect(200);
    // What is said meanwhile is waited with.
    orders
        .probe
        .publish(&InventoryReserved {
            order_id: id,
            order_version: 1,
        })
        .await;

    orders.database.restore();
    orders.app.wait_ready().await;
    orders.probe.wait_for("order.confirmed.v1", id).await;
    orders.place("alice", &tea()).await;
    orders.stop().await;
}

#[tokio::test]
async fn without_the_broker_orders_are_taken_and_their_deadline_does_not_run() {
    let orders = spawn_app_with(&[
        "--order-deadline-seconds=1",
        "--sweep-after-ms=200",
        "--sweeps=1",
    ])
    .await;
    orders.broker.cut();
    eventually("it is not ready", || async {
        let ready = answer(orders.app.request(Method::GET, "/health/ready")).await;
        if ready.body["checks"]["broker, consuming"] == "down" {
            Ok(())
        } else {
            Err(ready.body)
        }
    })
    .await;
    let placed = orders.try_place("alice", &tea()).await.expect(202);
    let id = placed["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("a UUID");
    // For longer than any deadline and any sweep.
    eventually("an old order", || async {
        let age: f64 =
            sqlx::query_scalar("select extract(epoch from now() - created_at)::float8 from orders")
                .fetch_one(&orders.app.pool)
                .await
                .expect("there is one");
        if age > 2.5 { Ok(()) } else { Err(age) }
    })
    .await;
    let view = orders.operator_view(id).await;
    assert_eq!(
        (
            view["state"].as_str(),
            view["deadline_at"].as_str(),
            view["stuck_since"].as_str()
        ),
        (Some("pending"), None, None),
        "{view}"
    );

    orders.broker.restore();
    orders.probe.wait_for("order.created.v1", id).await;
    orders
        .probe
        .publish(&InventoryReserved {
            order_id: id,
            order_version: 1,
        })
        .await;
    orders.probe.wait_for("order.confirmed.v1", id).await;
    orders
        .probe
        .publish(&InventoryCommitted {
            order_id: id,
            order_version: 2,
        })
        .await;
    orders.wait_for(id, "confirmed", true).await;
    orders.stop().await;
}
