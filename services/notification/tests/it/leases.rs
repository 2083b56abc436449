//! A worker whose lease has ended, and one that cannot record its result.

use std::{collections::BTreeSet, sync::Mutex};

use contracts::value::OrderId;
use holdfast::transaction;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use testkit::eventually;

use crate::{
    helpers::{confirmed, spawn_with},
    receiver::{Mode, Receiver},
    webhooks::LOCAL,
};

/// Waits until the one row of `table` is claimed, and claims it for an hour, as another worker does that finds the
/// lease over. The result of the first claim is not yet in the table `log` then.
async fn take_over(pool: &PgPool, table: &str, log: &str) {
    eventually("a claimed row", || async {
        let taken = sqlx::query(AssertSqlSafe(format!(
            "update {table} set due_at = now() + interval '1 hour'
             where due_at > now() and not exists (select from {log})"
        )));
        match taken
            .execute(pool)
            .await
            .expect("valid SQL")
            .rows_affected()
        {
            1 => Ok(()),
            n => Err(n),
        }
    })
    .await;
}

/// Checks that the other worker's claim of an hour still stands.
async fn expect_still_taken(pool: &PgPool, table: &str) {
    let (state, is_taken): (String, Option<bool>) = sqlx::query_as(AssertSqlSafe(format!(
        "select state, due_at > now() + interval '30 minutes' from {table}"
    )))
    .fetch_one(pool)
    .await
    .expect("one row");
    assert_eq!((state.as_str(), is_taken), ("queued", Some(true)));
}

#[tokio::test]
async fn late_worker_does_not_end_the_lease_of_another_on_a_mail() {
    let notification = spawn_with(&["--smtp-timeout-ms=3000"], None).await;
    let pool = &notification.app.pool;
    notification.line.pause();
    notification.probe.publish(&confirmed(OrderId::new())).await;
    take_over(pool, "mail", "delivery").await;
    eventually("a recorded attempt", || async {
        let outcomes = notification.outcomes().await;
        if outcomes == ["unknown"] {
            Ok(())
        } else {
            Err(format!("{outcomes:?}"))
        }
    })
    .await;
    expect_still_taken(pool, "mail").await;
    notification.stop().await;
}

#[tokio::test]
async fn late_worker_does_not_end_the_lease_of_another_on_a_webhook() {
    let settings = [
        "--webhook-allow-http",
        "--webhook-allow-private",
        "--webhook-timeout-ms=3000",
    ];
    let notification = spawn_with(&settings, None).await;
    let pool = &notification.app.pool;
    let receiver = Receiver::start().await;
    receiver.set(Mode::Hang);
    notification
        .register(json!({ "url": receiver.url("/hook") }))
        .await;
    notification.probe.publish(&confirmed(OrderId::new())).await;
    receiver.wait_for("/hook", 1).await;
    take_over(pool, "webhook", "webhook_attempt").await;
    eventually("a recorded attempt", || async {
        let attempts: i64 = sqlx::query_scalar("select count(*) from webhook_attempt")
            .fetch_one(pool)
            .await
            .expect("the table is there");
        if attempts == 1 { Ok(()) } else { Err(attempts) }
    })
    .await;
    expect_still_taken(pool, "webhook").await;
    notification.stop().await;
}

/// Waits until a statement that waits for a lock has been run a second time.
async fn wait_for_two_tries(pool: &PgPool) {
    let tries = Mutex::new(BTreeSet::new());
    eventually("a second try", || async {
        let waiting: Option<String> = sqlx::query_scalar(
            "select query_start::text from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_optional(pool)
        .await
        .expect("a look");
        let mut tries = tries.lock().expect("no panic");
        tries.extend(waiting);
        if tries.len() >= 2 {
            Ok(())
        } else {
            Err(format!("{tries:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn delivered_webhook_is_recorded_late_and_not_sent_again() {
    let mut settings = LOCAL.to_vec();
    settings.push("--database-statement-timeout-ms=400");
    let notification = spawn_with(&settings, None).await;
    let receiver = Receiver::start().await;
    let endpoint = notification
        .register(json!({ "url": receiver.url("/hook") }))
        .await;
    let mut lock = transaction::begin(&notification.app.pool)
        .await
        .expect("a transaction");
    sqlx::query("lock table webhook_attempt in share mode")
        .execute(&mut *lock)
        .await
        .expect("locked");
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    receiver.wait_for("/hook", 1).await;
    wait_for_two_tries(&notification.app.pool).await;
    lock.rollback().await.expect("rolled back");
    notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    assert_eq!(receiver.seen("/hook").len(), 1);
    notification.stop().await;
}

#[tokio::test]
async fn delivered_mail_is_recorded_late_and_not_sent_again() {
    let settings = ["--database-statement-timeout-ms=400"];
    let notification = spawn_with(&settings, None).await;
    let mut lock = transaction::begin(&notification.app.pool)
        .await
        .expect("a transaction");
    sqlx::query("lock table delivery in share mode")
        .execute(&mut *lock)
        .await
        .expect("locked");
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    wait_for_two_tries(&notification.app.pool).await;
    lock.rollback().await.expect("rolled back");
    notification
        .wait_for(order, "order.confirmed", "sent")
        .await;
    assert_eq!(notification.delivered(order).len(), 1);
    assert_eq!(notification.outcomes().await, ["accepted"]);
    notification.stop().await;
}
