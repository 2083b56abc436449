//! A message that comes twice takes effect once.

use std::{collections::HashSet, time::Duration};

use holdfast::{inbox, transaction};
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
async fn two_at_once_wait_for_each_other_in_any_order() {
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
