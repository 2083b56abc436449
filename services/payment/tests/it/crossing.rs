//! Concurrent batches of the two queues about the same orders.

use contracts::value::{OrderId, PaymentMethod};
use testkit::{Database, Probe, Proxy, Vhost, eventually};

use crate::helpers::{charge, created, key, start};

/// A batch inserts its rows in the order of their keys: of two batches one waits for the other, and neither is chosen
/// as a deadlock's victim.
#[tokio::test]
async fn crossing_batches_make_no_deadlock() {
    let (database, vhost) = tokio::join!(Database::create("payment"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let line = Proxy::start(vhost.server()).await; // no card is charged here
    let orders: Vec<OrderId> = (0..100).map(|_| OrderId::new()).collect();
    // The customer has no wallet, so each order is declined, and gets a row.
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
    // A session reports its deadlocks when it ends.
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
