//! A row that is worked on outside of the database is done, although workers die.

mod fixture;
mod outcome;

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use testkit::{Proxy, eventually};
use time::OffsetDateTime;

use self::fixture::{LONG, SHORT, SOON, Worker, attempts, database, insert, wait_for_done};

#[tokio::test]
async fn row_is_leased_to_one_worker_at_a_time() {
    let (_, pool) = database().await;
    for id in 1..=12 {
        insert(&pool, id, "wait").await;
    }
    let workers = ["one", "other"].map(|name| Worker::new(&pool, name, LONG));
    let running = workers.each_ref().map(|worker| worker.start(3, SOON));
    // Both have rows in hand at the same time.
    for worker in &workers {
        worker.wait_for_begun(3).await;
    }
    for worker in &workers {
        worker.let_end(12);
    }
    eventually("12 jobs that are done", || async {
        let query = "select count(*) from job where done_by is not null";
        let done: i64 = sqlx::query_scalar(query)
            .fetch_one(&pool)
            .await
            .expect("the table is there");
        if done == 12 { Ok(()) } else { Err(done) }
    })
    .await;
    for running in running {
        running.stop().await;
    }
    let mut begun = workers.each_ref().map(Worker::begun).concat();
    begun.sort_unstable();
    let all: Vec<_> = (1..=12).collect();
    assert_eq!(begun, all);
}

#[tokio::test]
async fn dead_workers_row_is_due_again_when_its_lease_ends() {
    let (_, pool) = database().await;
    insert(&pool, 1, "wait").await;
    let dies = Worker::new(&pool, "dies", SHORT);
    let running = dies.start(1, SOON);
    dies.wait_for_begun(1).await;
    running.kill().await;

    let other = Worker::new(&pool, "other", LONG);
    other.let_end(1);
    let running = other.start(1, SOON);
    wait_for_done(&pool, &[(1, "other")]).await;
    running.stop().await;
    let claims: Vec<(String, OffsetDateTime, OffsetDateTime)> =
        sqlx::query_as("select worker, claimed_at, leased_until from claim order by claimed_at")
            .fetch_all(&pool)
            .await
            .expect("the table is there");
    let [(first, _, leased_until), (second, claimed_at, _)] = &claims[..] else {
        panic!("two claims: {claims:?}");
    };
    assert_eq!((first.as_str(), second.as_str()), ("dies", "other"));
    assert!(claimed_at >= leased_until, "{claims:?}");
}

/// A worker that was stopped for longer than its lease wakes up, and writes its outcome.
#[tokio::test]
async fn late_worker_changes_nothing_of_anothers_row() {
    let (_, pool) = database().await;
    insert(&pool, 1, "wait").await;
    let (late, next) = (
        Worker::new(&pool, "late", SHORT),
        Worker::new(&pool, "next", LONG),
    );
    let stopped = late.start(1, SOON);
    late.wait_for_begun(1).await;
    let running = next.start(1, SOON);
    // The lease has ended.
    next.wait_for_begun(1).await;
    late.let_end(1);
    late.wait_for_ended(1).await;
    let row: (Option<String>, Option<bool>) =
        sqlx::query_as("select done_by, due_at > now() from job")
            .fetch_one(&pool)
            .await
            .expect("one row");
    assert_eq!(row, (None, Some(true)), "it is leased to the next worker");
    next.let_end(1);
    wait_for_done(&pool, &[(1, "next")]).await;
    stopped.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn panic_in_the_work_does_not_end_the_worker() {
    let (_, pool) = database().await;
    insert(&pool, 1, "panic once").await;
    insert(&pool, 2, "work").await;
    let worker = Worker::new(&pool, "worker", SHORT);
    let running = worker.start(1, SOON);
    wait_for_done(&pool, &[(1, "worker"), (2, "worker")]).await;
    assert_eq!(attempts(&pool, 1).await, 2);
    running.stop().await;
}

#[tokio::test]
async fn claim_that_fails_is_tried_again() {
    let (database, pool) = database().await;
    insert(&pool, 1, "work").await;
    let proxy = Proxy::start(database.server()).await;
    let through = PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_millis(300))
        .connect_lazy(&database.url_via(proxy.address()))
        .expect("the URL is valid");
    proxy.cut();
    let worker = Worker::new(&through, "worker", LONG);
    let running = worker.start(1, LONG);
    worker.wait_for_failed_claims(2).await;
    proxy.restore();
    wait_for_done(&pool, &[(1, "worker")]).await;
    running.stop().await;
}

#[tokio::test]
async fn rows_in_hand_are_at_most_as_many_as_the_pace_says() {
    let (_, pool) = database().await;
    for id in 1..=10 {
        insert(&pool, id, "wait").await;
    }
    let worker = Worker::new(&pool, "worker", LONG);
    let running = worker.start(3, SOON);
    for begun in 3..10 {
        worker.wait_for_begun(begun).await;
        worker.let_end(1);
    }
    worker.wait_for_begun(10).await;
    worker.let_end(3);
    worker.wait_for_ended(10).await;
    running.stop().await;
    assert_eq!(worker.most_in_hand(), 3);
}

#[tokio::test]
async fn woken_worker_does_not_wait_for_its_poll() {
    let (_, pool) = database().await;
    let worker = Worker::new(&pool, "worker", LONG);
    let running = worker.start(1, LONG);
    worker.wait_for_claims(1).await;
    insert(&pool, 1, "work").await;
    running.waker.notify_one();
    wait_for_done(&pool, &[(1, "worker")]).await;
    assert_eq!(worker.samples(), 0, "the poll did not come");
    running.stop().await;
}

#[tokio::test]
async fn worker_that_is_not_woken_polls() {
    let (_, pool) = database().await;
    let worker = Worker::new(&pool, "worker", LONG);
    let running = worker.start(1, SOON);
    worker.wait_for_claims(1).await;
    insert(&pool, 1, "work").await;
    wait_for_done(&pool, &[(1, "worker")]).await;
    assert!(worker.samples() > 0, "each poll samples");
    running.stop().await;
}

#[tokio::test]
async fn shutdown_finishes_rows_in_hand_and_claims_no_more() {
    let (_, pool) = database().await;
    insert(&pool, 1, "wait").await;
    insert(&pool, 2, "work").await;
    let worker = Worker::new(&pool, "worker", LONG);
    let running = worker.start(1, SOON);
    worker.wait_for_begun(1).await;
    running.shutdown.cancel();
    // The worker's task runs on this thread, and has seen the shutdown before this one goes on.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!running.task.is_finished(), "a row is in hand");
    worker.let_end(1);
    running.stop().await;
    wait_for_done(&pool, &[(1, "worker")]).await;
    assert_eq!(attempts(&pool, 2).await, 0);
}
