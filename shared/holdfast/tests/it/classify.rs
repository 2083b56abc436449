//! The class of a database error: a fault of the server costs no message an attempt.

use std::time::Duration;

use holdfast::transaction::{self, Class, classify};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::helpers::database;

async fn class_of(pool: &PgPool, statement: &'static str) -> Class {
    let failed = sqlx::query(statement).execute(pool).await;
    classify(&failed.expect_err("the statement fails"))
}

#[tokio::test]
async fn misconfigured_server_counts_as_unavailable() {
    let (database, pool) = database("classify").await;
    let error = PgConnection::connect(&format!("{}_gone", database.url()))
        .await
        .expect_err("there is no such database");
    assert_eq!(classify(&error), Class::Unavailable, "{error}");
    sqlx::query("create table kept (id int primary key)")
        .execute(&pool)
        .await
        .expect("a table");
    assert_eq!(
        class_of(&pool, "select * from not_migrated_yet").await,
        Class::Unavailable
    );
    let role = format!("stranger_{}", uuid::Uuid::now_v7().simple());
    sqlx::raw_sql(AssertSqlSafe(format!("create role {role}")))
        .execute(&pool)
        .await
        .expect("a role");
    let mut stranger = PgConnection::connect(database.url())
        .await
        .expect("a connection");
    sqlx::query(AssertSqlSafe(format!("set role {role}")))
        .execute(&mut stranger)
        .await
        .expect("a superuser may");
    let error = sqlx::query("select * from kept")
        .execute(&mut stranger)
        .await
        .expect_err("it has no right");
    assert_eq!(classify(&error), Class::Unavailable, "{error}");
    // An error in the statement or the data belongs to the message.
    assert_eq!(class_of(&pool, "select 1 / 0").await, Class::Other);
}

#[tokio::test]
async fn lock_timeout_counts_as_a_conflict() {
    let (_, pool) = database("classify").await;
    sqlx::raw_sql("create table kept (id int primary key); insert into kept values (1)")
        .execute(&pool)
        .await
        .expect("a row");
    let mut holder = transaction::begin(&pool).await.expect("a transaction");
    sqlx::query("select * from kept for update")
        .execute(&mut *holder)
        .await
        .expect("locked");
    let mut other = pool.acquire().await.expect("a connection");
    let limit = Duration::from_millis(50).as_millis();
    sqlx::query(AssertSqlSafe(format!("set lock_timeout = {limit}")))
        .execute(&mut *other)
        .await
        .expect("set");
    let error = sqlx::query("update kept set id = 2")
        .execute(&mut *other)
        .await
        .expect_err("it is locked");
    assert_eq!(classify(&error), Class::Conflict, "{error}");
}
