//! Batches of the two queues that are about the same orders, at the same time.

use contracts::value::{OrderId, PaymentMethod};
use testkit::{Database, Probe, Proxy, Vhost, eventually};

use crate::helpers::{charge, created, key, start};

/// The rows of a batch are made in the order of their keys: two batches wait for each other, and neither is sacrificed.
#[tokio::test]
async fn crossing_batches_make_no_deadlock() {
    let (database, vhost) = tokio::join!(Database::create("payment"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let line = Proxy::start(vhost.server()).await; // no card is charged here
    let orders: Vec<OrderId> = (0..100).map(|_| OrderId::new()).collect();
    // Nobody has a wallet, so each is declined, and remembered.
    for order in &orders {
        let wallet = &PaymentMethod::Wallet;
        probe
            .publish(&created(*order, "mallory", 300, wallet))
            .await;
    }
    for order in orders.iter().rev() {
        let command = charge(*order, "mallory", 300, &PaymentMethod::Wallet);
        probe.command("payment", &command, &key(*order, "do")).await;
    }
    let app = start(database.clone(), &vhost, &line).await;
    for order in &orders {
        probe.wait_for("payment.declined.v1", *order).await;
        probe.wait_for_nth_reply(&key(*order, "do"), 1).await;
    }
    app.stop().await;
    let pool = database.pool();
    // Sessions report when they end.
    eventually("ended sessions", || async {
        let sessions: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'payment'",
        )
        .fetch_one(&pool)
        .await
        .expect("a look");
        if sessions == 0 { Ok(()) } else { Err(sessions) }
    })
    .await;
    let deadlocks: i64 = sqlx::query_scalar(
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    .fetch_one(&pool)
    .await
    .expect("a count");
    assert_eq!(deadlocks, 0);
    vhost.delete().await;
}
