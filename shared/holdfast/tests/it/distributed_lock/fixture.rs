//! Set-up that these tests share.

use std::time::Duration;

use holdfast::{
    distributed_lock::{Fence, Locks, Options},
    transaction,
};
use sqlx::{Executor, PgConnection, PgPool};
use testkit::Database;
use uuid::Uuid;

/// A time to live that ends in no test, and longer than any test waits.
pub(super) const LONG: Duration = Duration::from_secs(3600);
/// A time to live that is meant to end during the test.
pub(super) const SHORT: Duration = Duration::from_millis(400);

/// Returns the locks of one process.
pub(super) fn locks(url: &str) -> Locks {
    Locks::new(&Options::new(url)).expect("a URL")
}

/// A register in the database, with the check of the fence; each write records its holder.
pub(super) struct Register {
    pub(super) pool: PgPool,
    /// The database's URL, for another process.
    pub(super) url: String,
}

impl Register {
    pub(super) async fn create() -> Self {
        let database = Database::create("lock").await;
        let pool = database.pool();
        pool.execute(
            "create table fence (resource text primary key, fence bigint not null, holder uuid not null);
             create table effect (nr bigint generated always as identity, resource text not null, fence bigint not null,
                                  holder uuid not null, value bigint not null)",
        )
        .await
        .expect("a database of our own");
        Self {
            url: database.url().to_owned(),
            pool,
        }
    }

    /// Writes if no newer holder has been here; returns the newest fence if one has.
    pub(super) async fn write(
        &self,
        resource: &str,
        fence: Fence,
        holder: Uuid,
        value: i64,
    ) -> Result<(), Fence> {
        write(&self.pool, resource, fence.get(), holder, value)
            .await
            .map_err(|newest| Fence::new(newest).expect("it was one"))
    }

    /// Reads the value if no newer holder has been here; returns the newest fence if one has.
    pub(super) async fn read(
        &self,
        resource: &str,
        fence: Fence,
        holder: Uuid,
    ) -> Result<i64, Fence> {
        let mut tx = transaction::begin(&self.pool)
            .await
            .expect("the database answers");
        check(&mut tx, resource, fence.get(), holder)
            .await
            .map_err(|newest| Fence::new(newest).expect("it was one"))?;
        let value: Option<i64> = sqlx::query_scalar(
            "select value from effect where resource = $1 order by nr desc limit 1",
        )
        .bind(resource)
        .fetch_optional(&mut *tx)
        .await
        .expect("the database answers");
        tx.commit().await.expect("the database answers");
        Ok(value.unwrap_or(0))
    }

    /// Returns the fence and value of every accepted write, in order.
    pub(super) async fn effects(&self, resource: &str) -> Vec<(i64, i64)> {
        sqlx::query_as("select fence, value from effect where resource = $1 order by nr")
            .bind(resource)
            .fetch_all(&self.pool)
            .await
            .expect("the database answers")
    }
}

/// Runs the check as `distributed_lock`'s documentation has it.
async fn check(tx: &mut PgConnection, resource: &str, fence: i64, holder: Uuid) -> Result<(), i64> {
    let passed: Option<i64> =
        sqlx::query_scalar(include_str!("../../../src/distributed_lock/check.sql"))
            .bind(resource)
            .bind(fence)
            .bind(holder)
            .fetch_optional(&mut *tx)
            .await
            .expect("the database answers");
    if passed.is_some() {
        return Ok(());
    }
    let newest = sqlx::query_scalar("select fence from fence where resource = $1")
        .bind(resource)
        .fetch_one(tx)
        .await
        .expect("the database answers");
    Err(newest)
}

/// Runs the check and a write in one transaction.
pub(super) async fn write(
    pool: &PgPool,
    resource: &str,
    fence: i64,
    holder: Uuid,
    value: i64,
) -> Result<(), i64> {
    let mut tx = transaction::begin(pool)
        .await
        .expect("the database answers");
    check(&mut tx, resource, fence, holder).await?;
    sqlx::query("insert into effect (resource, fence, holder, value) values ($1, $2, $3, $4)")
        .bind(resource)
        .bind(fence)
        .bind(holder)
        .bind(value)
        .execute(&mut *tx)
        .await
        .expect("the database answers");
    tx.commit().await.expect("the database answers");
    Ok(())
}
