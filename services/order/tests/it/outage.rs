//! Outages, and the responses during them.

use contracts::inventory::{InventoryCommitted, InventoryReserved};
use reqwest::Method;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::{Answer, answer, eventually};

use crate::helpers::{Orders, spawn_app, spawn_app_with, tea};

#[tokio::test]
async fn orders_without_prices_are_answered_503() {
    let orders = spawn_app_with(&["--price-timeout-ms=10000"]).await;
    orders.prices.cut();
    let refused = orders.try_place("alice", &tea()).await;
    assert!(refused.header("retry-after").is_some());
    refused.expect_problem(503, "unavailable", None);
    // Other requests go on.
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

/// Checks that a response blames the database server, and not the pool that waited for it.
fn is_away(answer: &Answer) {
    let kind = answer.body["type"].as_str().unwrap_or_default();
    let kinds =
        ["database-refused", "database-lost"].map(|kind| format!("urn:holdfast:problem:{kind}"));
    assert!(kinds.iter().any(|known| known == kind), "{answer:?}");
    assert_eq!(answer.status.as_u16(), 503, "{answer:?}");
}

/// Runs a statement in the service's database, to disturb the service.
async fn execute(orders: &Orders, statement: &str) -> PgConnection {
    let mut connection = PgConnection::connect(orders.app.database.url())
        .await
        .expect("the database answers");
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&mut connection)
        .await
        .expect("it is executed");
    connection
}

#[tokio::test]
async fn a_full_pool_differs_from_an_unavailable_server() {
    // Long enough for waiting statements to hold all connections: a lock is waited for half as long.
    let orders = spawn_app_with(&["--database-statement-timeout-ms=60000"]).await;
    let locker = execute(&orders, "begin; lock table orders in access exclusive mode").await;
    let ask = || answer(orders.app.as_customer("alice", Method::GET, "/orders"));
    eventually("all connections are in use", || async {
        let answers = futures_util::future::join_all((0..12).map(|_| ask())).await;
        let busy = answers
            .iter()
            .any(|answer| answer.body["type"] == "urn:holdfast:problem:database-busy");
        if busy {
            Ok(())
        } else {
            Err(format!("{answers:?}"))
        }
    })
    .await;
    // The server is well all the while.
    answer(orders.app.request(Method::GET, "/health/ready"))
        .await
        .expect(200);
    drop(locker);
    eventually("the pool is free again", || async {
        let answer = ask().await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.body)
        }
    })
    .await;
    orders.stop().await;
}

#[tokio::test]
async fn a_statement_beyond_its_limit_is_reported_as_slow() {
    // Not by a lock: a lock is waited for half as long, and ends otherwise.
    const SLOW: &str = "create function slow() returns trigger language plpgsql as
        $$ begin perform pg_sleep(600); return new; end $$;
        create trigger slow before insert on orders for each row execute function slow()";
    let orders = spawn_app_with(&[
        "--database-statement-timeout-ms=2000",
        "--http-request-timeout-ms=60000",
    ])
    .await;
    execute(&orders, SLOW).await;
    let refused = orders.try_place("alice", &tea()).await;
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let detail = refused.expect_problem(503, "database-slow", None);
    assert_eq!(detail, "the database took too long");
    // Requests that need not wait are answered, and nothing is left of the slow one.
    let list = || answer(orders.app.as_customer("alice", Method::GET, "/orders"));
    let page = list().await.expect(200);
    assert_eq!(page["orders"], serde_json::json!([]));
    execute(&orders, "drop trigger slow on orders").await;
    orders.place("alice", &tea()).await;
    assert_eq!(orders.count().await, 1);
    orders.stop().await;
}

#[tokio::test]
async fn a_standby_is_not_ready() {
    let orders = spawn_app().await;
    let name = orders.app.database.name().to_owned();
    let read_only = format!("alter database {name} set default_transaction_read_only = on");
    execute(&orders, &read_only).await;
    // As after a failover: new sessions, on a server that does not write.
    let others = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid()"
    );
    execute(&orders, &others).await;
    eventually("it is not ready", || async {
        let ready = answer(orders.app.request(Method::GET, "/health/ready")).await;
        if ready.body["checks"]["database"] == "down" {
            Ok(())
        } else {
            Err(ready.body)
        }
    })
    .await;
    let reset = format!(
        "begin read write; alter database {name} reset default_transaction_read_only; commit"
    );
    execute(&orders, &reset).await;
    execute(&orders, &others).await;
    orders.app.wait_ready().await;
    orders.stop().await;
}

#[tokio::test]
async fn service_recovers_from_a_database_outage() {
    let orders = spawn_app().await;
    let id = orders.place("alice", &tea()).await;
    orders.database.cut();
    for (method, path) in [
        (Method::GET, "/orders".to_owned()),
        (Method::POST, format!("/orders/{id}/cancel")),
    ] {
        let refused = answer(orders.app.as_customer("alice", method, &path)).await;
        assert!(refused.header("retry-after").is_some(), "{path}");
        is_away(&refused);
    }
    is_away(&orders.try_place("alice", &tea()).await);
    eventually("the database is down", || async {
        let ready = answer(orders.app.request(Method::GET, "/health/ready")).await;
        if ready.status == 503 && ready.body["checks"]["database"] == "down" {
            Ok(())
        } else {
            Err(ready.body)
        }
    })
    .await;
    answer(orders.app.request(Method::GET, "/health/live"))
        .await
        .expect(200);
    // The event waits until the database is back.
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
async fn no_deadline_runs_during_a_broker_outage() {
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
    // Longer than the deadline and every sweep.
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
