//! A transaction that is cut short at any point leaves its connection clean.

use holdfast::transaction;
use sqlx::{PgPool, postgres::PgPoolOptions};
use testkit::{Database, cut, eventually};

/// Returns a pool of one connection to a database with the table `noted`, and another pool that looks from outside.
async fn one_connection() -> (PgPool, PgPool) {
    let database = Database::create("transaction").await;
    let outside = database.pool();
    sqlx::query("create table noted (id bigint primary key)")
        .execute(&outside)
        .await
        .expect("a table");
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect(database.url())
        .await
        .expect("the test server answers");
    (pool, outside)
}

async fn note(conn: &mut sqlx::PgConnection, id: i64) {
    sqlx::query("insert into noted values ($1)")
        .bind(id)
        .execute(conn)
        .await
        .expect("a row");
}

async fn is_noted(outside: &PgPool, id: i64) -> bool {
    sqlx::query_scalar("select exists (select from noted where id = $1)")
        .bind(id)
        .fetch_one(outside)
        .await
        .expect("an answer")
}

/// Checks the only connection: its next user writes without a transaction, so others must see the row at once.
async fn next_user_is_alone(pool: &PgPool, outside: &PgPool, id: i64) {
    let mut conn = pool.acquire().await.expect("the connection comes back");
    note(&mut conn, id).await;
    assert!(
        is_noted(outside, id).await,
        "row {id} was written into a transaction that another caller left open"
    );
}

#[tokio::test]
async fn cut_begin_leaves_no_transaction_open() {
    let (pool, outside) = one_connection().await;
    for polls in 0.. {
        let begun = cut(polls, transaction::begin(&pool)).await;
        let ended = begun.is_some();
        drop(begun);
        next_user_is_alone(&pool, &outside, polls.try_into().expect("few")).await;
        if ended {
            break;
        }
    }
}

#[tokio::test]
async fn cut_commit_is_whole_and_leaves_a_clean_connection() {
    let (pool, outside) = one_connection().await;
    for polls in 0_usize.. {
        let id = i64::try_from(polls).expect("few");
        let mut tx = transaction::begin(&pool).await.expect("a transaction");
        note(&mut tx, id).await;
        let committed = cut(polls, tx.commit()).await;
        let ended = committed.is_some();
        // A commit that was begun completes, even if its caller no longer waits.
        if polls > 0 {
            eventually("the commit", async || {
                is_noted(&outside, id).await.then_some(()).ok_or("no row")
            })
            .await;
        }
        next_user_is_alone(&pool, &outside, id + 1000).await;
        assert!(
            polls > 0 || !is_noted(&outside, id).await,
            "a commit that never began"
        );
        if ended {
            break;
        }
    }
}

#[tokio::test]
async fn cut_statement_rolls_the_transaction_back() {
    let (pool, outside) = one_connection().await;
    for polls in 0_usize.. {
        let id = i64::try_from(polls).expect("few");
        let mut tx = transaction::begin(&pool).await.expect("a transaction");
        let ended = cut(polls, note(&mut tx, id)).await.is_some();
        drop(tx);
        next_user_is_alone(&pool, &outside, id + 1000).await;
        assert!(
            !is_noted(&outside, id).await,
            "row {id} was never committed"
        );
        if ended {
            break;
        }
    }
}

#[tokio::test]
async fn cut_rollback_leaves_a_clean_connection() {
    let (pool, outside) = one_connection().await;
    for polls in 0_usize.. {
        let id = i64::try_from(polls).expect("few");
        let mut tx = transaction::begin(&pool).await.expect("a transaction");
        note(&mut tx, id).await;
        let ended = cut(polls, tx.rollback()).await.is_some();
        next_user_is_alone(&pool, &outside, id + 1000).await;
        assert!(!is_noted(&outside, id).await, "row {id} was rolled back");
        if ended {
            break;
        }
    }
}

#[tokio::test]
async fn commit_after_a_failed_statement_is_an_error() {
    let (pool, outside) = one_connection().await;
    let mut tx = transaction::begin(&pool).await.expect("a transaction");
    note(&mut tx, 1).await;
    let failed = sqlx::query("select 1 / 0").execute(&mut *tx).await;
    assert!(failed.is_err(), "{failed:?}");
    let committed = tx.commit().await;
    let code = committed
        .as_ref()
        .err()
        .and_then(sqlx::Error::as_database_error)
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("25P02"), "{committed:?}");
    assert!(!is_noted(&outside, 1).await, "it was rolled back");
    next_user_is_alone(&pool, &outside, 2).await;
}

#[tokio::test]
async fn transaction_on_a_lost_session_gives_its_place_back() {
    let (pool, outside) = one_connection().await;
    let mut tx = transaction::begin(&pool).await.expect("a transaction");
    let session: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut *tx)
        .await
        .expect("an answer");
    sqlx::query("select pg_terminate_backend($1)")
        .bind(session)
        .execute(&outside)
        .await
        .expect("a superuser may");
    note_fails(&mut tx).await;
    drop(tx);
    next_user_is_alone(&pool, &outside, 7).await;
}

async fn note_fails(conn: &mut sqlx::PgConnection) {
    let failed = sqlx::query("insert into noted values (1)")
        .execute(conn)
        .await;
    assert!(failed.is_err(), "the session is gone: {failed:?}");
}
