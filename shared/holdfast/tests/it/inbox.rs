//! A message that is delivered twice takes effect once.

use std::{collections::HashSet, time::Duration};

use holdfast::{inbox, transaction};
use sqlx::PgPool;
use testkit::eventually;
use uuid::Uuid;

use crate::helpers::database;

#[tokio::test]
async fn an_id_is_new_once_per_queue() {
    let (_, pool) = database("inbox").await;
    let ids: Vec<Uuid> = (0..10).map(|_| Uuid::now_v7()).collect();
    let all: HashSet<Uuid> = ids.iter().copied().collect();
    let mut tx = transaction::begin(&pool).await.expect("a transaction");
    assert_eq!(
        inbox::admit(&mut tx, "a", &ids).await.expect("admitted"),
        all
    );
    assert_eq!(
        inbox::admit(&mut tx, "a", &ids).await.expect("admitted"),
        HashSet::new()
    );
    assert_eq!(
        inbox::admit(&mut tx, "b", &ids).await.expect("admitted"),
        all,
        "another queue is another consumer"
    );
    tx.rollback().await.expect("a rollback");

    let mut tx = transaction::begin(&pool).await.expect("a transaction");
    assert_eq!(
        inbox::admit(&mut tx, "a", &ids).await.expect("admitted"),
        all,
        "what was rolled back never was"
    );
    tx.commit().await.expect("a commit");
    let mut conn = pool.acquire().await.expect("a connection");
    assert!(
        inbox::contains(&mut conn, "a", ids[0])
            .await
            .expect("asked")
    );
    assert!(
        !inbox::contains(&mut conn, "b", ids[0])
            .await
            .expect("asked")
    );
}

#[tokio::test]
async fn concurrent_batches_in_opposite_orders_do_not_deadlock() {
    let (_, pool) = database("inbox").await;
    let ids: Vec<Uuid> = (0..50).map(|_| Uuid::now_v7()).collect();
    let backwards: Vec<Uuid> = ids.iter().rev().copied().collect();
    let admit = async |ids: Vec<Uuid>| {
        let mut tx = transaction::begin(&pool).await.expect("a transaction");
        let new = inbox::admit(&mut tx, "a", &ids).await.expect("no deadlock");
        tx.commit().await.expect("a commit");
        new.len()
    };
    for _ in 0..10 {
        sqlx::query("truncate inbox")
            .execute(&pool)
            .await
            .expect("empty");
        let (one, other) = tokio::join!(admit(ids.clone()), admit(backwards.clone()));
        assert_eq!(
            one + other,
            ids.len(),
            "{one} + {other}: each id is new to exactly one of them"
        );
    }
}

/// Waits until a connection waits for a lock, or `is_over`.
async fn wait_for_a_lock(pool: &PgPool, is_over: impl Fn() -> bool) {
    eventually("a connection that waits for another", || async {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(pool)
        .await
        .expect("it can be asked");
        if waiting > 0 || is_over() { Ok(()) } else { Err("none waits") }
    })
    .await;
}

#[tokio::test]
async fn second_transaction_sees_the_outcome_of_the_first() {
    for commits in [true, false] {
        let (_, pool) = database("inbox").await;
        let id = Uuid::now_v7();
        let mut first = transaction::begin(&pool).await.expect("a transaction");
        let new = inbox::admit(&mut first, "a", &[id]).await;
        assert_eq!(new.expect("admitted").len(), 1);
        let second = {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut tx = transaction::begin(&pool).await.expect("a transaction");
                inbox::admit(&mut tx, "a", &[id]).await.expect("admitted")
            })
        };
        wait_for_a_lock(&pool, || second.is_finished()).await;
        assert!(!second.is_finished(), "the second one waits");
        if commits {
            first.commit().await.expect("a commit");
        } else {
            first.rollback().await.expect("a rollback");
        }
        let new = second.await.expect("no panic");
        assert_eq!(new.is_empty(), commits, "{new:?}");
    }
}

/// Two batches that lock their shared ids in different orders would deadlock.
#[tokio::test]
async fn ids_are_locked_in_one_order() {
    let (_, pool) = database("inbox").await;
    let mut backwards: Vec<Uuid> = (0..50).map(|_| Uuid::now_v7()).collect();
    backwards.sort_unstable();
    backwards.reverse();
    let mut conn = pool.acquire().await.expect("a connection");
    inbox::admit(&mut conn, "a", &backwards)
        .await
        .expect("admitted");
    let written: Vec<Uuid> = sqlx::query_scalar("select message_id from inbox order by ctid")
        .fetch_all(&pool)
        .await
        .expect("the table is there");
    assert!(written.is_sorted(), "{written:?}");
    assert_eq!(written.len(), backwards.len());
}

#[tokio::test]
async fn pruning_keeps_what_is_young() {
    let (_, pool) = database("inbox").await;
    let ids: Vec<Uuid> = (0..10).map(|_| Uuid::now_v7()).collect();
    let mut conn = pool.acquire().await.expect("a connection");
    inbox::admit(&mut conn, "a", &ids).await.expect("admitted");
    sqlx::query(
        "update inbox set received_at = now() - interval '2 hours' where message_id = any($1)",
    )
    .bind(&ids[..7])
    .execute(&mut *conn)
    .await
    .expect("aged");
    let hour = Duration::from_secs(3600);
    assert_eq!(inbox::prune(&mut conn, hour, 5).await.expect("pruned"), 5);
    assert_eq!(inbox::prune(&mut conn, hour, 5).await.expect("pruned"), 2);
    assert_eq!(inbox::prune(&mut conn, hour, 5).await.expect("pruned"), 0);
    assert!(
        inbox::contains(&mut conn, "a", ids[9])
            .await
            .expect("asked")
    );
}
