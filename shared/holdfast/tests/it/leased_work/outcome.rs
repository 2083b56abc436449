//! An outcome is stored although the database fails for a while, but not after the lease has ended.

use std::{sync::Mutex, time::Duration};

use holdfast::{
    deadline::Deadline,
    leased_work::{Try, insist},
    transaction::{self, Class, classify},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use testkit::{Database, Proxy, eventually};

use super::fixture::LONG;

/// The tries of a call of [`insist`], in order.
#[derive(Default)]
struct Tries(Mutex<Vec<Try>>);

impl Tries {
    fn add(&self, this: Try) {
        self.0.lock().expect("no panic").push(this);
    }

    fn seen(&self) -> Vec<Try> {
        self.0.lock().expect("no panic").clone()
    }
}

/// Creates a database with a log of deliveries that has no key, so that one that is stored twice is seen.
async fn database() -> (Database, PgPool) {
    let database = Database::create("leased_work").await;
    let pool = database.pool();
    sqlx::query("create table delivery (job bigint not null)")
        .execute(&pool)
        .await
        .expect("a table");
    (database, pool)
}

async fn deliveries(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from delivery")
        .fetch_one(pool)
        .await
        .expect("the table is there")
}

#[tokio::test]
async fn outcome_is_stored_once_when_its_reply_is_lost() {
    let (database, pool) = database().await;
    let proxy = Proxy::start(database.server()).await;
    let through = PgPoolOptions::new()
        .max_connections(2)
        .connect_lazy(&database.url_via(proxy.address()))
        .expect("the URL is valid");
    let tries = Tries::default();
    let store = async |this: Try| {
        tries.add(this);
        let is_first = this == Try::First;
        let mut tx = transaction::begin(&through).await?;
        sqlx::query(
            "insert into delivery select 1 where $1 or not exists (select from delivery where job = 1)",
        )
        .bind(is_first)
        .execute(&mut *tx)
        .await?;
        if is_first {
            // PostgreSQL commits, and its reply does not arrive.
            proxy.lose_connection();
        }
        tx.commit().await
    };
    let stored = insist(Deadline::after(LONG), store).await;
    stored.expect("the second try succeeds");
    assert_eq!(tries.seen(), [Try::First, Try::Again]);
    assert_eq!(deliveries(&pool).await, 1);
}

#[tokio::test]
async fn outcome_waits_for_a_database_that_is_away() {
    let (database, pool) = database().await;
    let proxy = Proxy::start(database.server()).await;
    let through = PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_millis(300))
        .connect_lazy(&database.url_via(proxy.address()))
        .expect("the URL is valid");
    proxy.cut();
    let tries = Tries::default();
    let store = async |this: Try| {
        tries.add(this);
        sqlx::query("insert into delivery values (1)")
            .execute(&through)
            .await
            .map(drop)
    };
    let back = async {
        eventually("a second try", || {
            let seen = tries.seen().len();
            std::future::ready(if seen >= 2 { Ok(()) } else { Err(seen) })
        })
        .await;
        proxy.restore();
    };
    let (stored, ()) = tokio::join!(insist(Deadline::after(LONG), store), back);
    stored.expect("the database is back");
    assert_eq!(deliveries(&pool).await, 1);
}

#[tokio::test]
async fn error_of_the_statement_is_returned_at_once() {
    let (_, pool) = database().await;
    let tries = Tries::default();
    let store = async |this: Try| {
        tries.add(this);
        sqlx::query("insert into delivery values (null)")
            .execute(&pool)
            .await
            .map(drop)
    };
    let stored = insist(Deadline::after(LONG), store).await;
    let error = stored.expect_err("the column is not null");
    assert_eq!(classify(&error), Class::Other, "{error}");
    assert_eq!(tries.seen(), [Try::First]);
}

/// The clock is paused, so that the lease ends after the same tries on any machine.
#[tokio::test(start_paused = true)]
async fn tries_end_with_the_lease_and_return_the_last_error() {
    let lease = Deadline::after(Duration::from_secs(30));
    let (tries, in_time) = (Tries::default(), Mutex::new(Vec::new()));
    let store = async |this: Try| {
        tries.add(this);
        in_time
            .lock()
            .expect("no panic")
            .push(lease.remaining().is_some());
        let n = tries.seen().len();
        Err::<(), _>(sqlx::Error::Protocol(format!("at try {n}")))
    };
    let error = insist(lease, store).await.expect_err("no try succeeds");
    let (tries, in_time) = (tries.seen(), in_time.into_inner().expect("no panic"));
    let [first, between @ .., last] = &tries[..] else {
        panic!("two tries at least: {tries:?}");
    };
    assert_eq!((*first, *last), (Try::First, Try::Again));
    assert!(between.iter().all(|this| *this == Try::Again), "{tries:?}");
    let wanted = format!("at try {}", tries.len());
    assert!(error.to_string().ends_with(&wanted), "{error}");
    let ended = in_time.iter().position(|is_in_time| !is_in_time);
    assert_eq!(ended, Some(tries.len() - 1), "{in_time:?}");
}
