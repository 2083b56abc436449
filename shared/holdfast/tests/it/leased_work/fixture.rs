//! A table of jobs, and workers whose work a test follows step by step.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use holdfast::{
    deadline::Deadline,
    leased_work::{self, LeasedWork, Pace, Try, insist},
};
use sqlx::PgPool;
use testkit::{Database, eventually};
use time::OffsetDateTime;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A lease that ends within a test.
pub(super) const SHORT: Duration = Duration::from_millis(500);
/// A lease that does not end within a test, or a poll that does not come.
pub(super) const LONG: Duration = Duration::from_secs(3600);
/// The time between two looks of a worker that is not woken.
pub(super) const SOON: Duration = Duration::from_millis(20);

/// Creates a database with the table of jobs and a record of every claim.
pub(super) async fn database() -> (Database, PgPool) {
    let database = Database::create("leased_work").await;
    let pool = database.pool();
    sqlx::raw_sql(
        "create table job (
             id bigint primary key,
             does text not null,
             due_at timestamptz default now(),
             attempts int not null default 0,
             done_by text
         );
         create table claim (
             job bigint not null,
             worker text not null,
             claimed_at timestamptz not null,
             leased_until timestamptz not null
         )",
    )
    .execute(&pool)
    .await
    .expect("tables");
    (database, pool)
}

/// Inserts a job that is due. It does "work", which ends at once; it can "wait" for [`Worker::let_end`]; or it can
/// "panic once", at its first attempt.
pub(super) async fn insert(pool: &PgPool, id: i64, does: &str) {
    sqlx::query("insert into job (id, does) values ($1, $2)")
        .bind(id)
        .bind(does)
        .execute(pool)
        .await
        .expect("a row");
}

/// Waits until these jobs are done, by these workers, and no others.
pub(super) async fn wait_for_done(pool: &PgPool, wanted: &[(i64, &str)]) {
    eventually(&format!("done: {wanted:?}"), || async {
        let done: Vec<(i64, String)> = sqlx::query_as(
            "select id, done_by from job where done_by is not null and due_at is null order by id",
        )
        .fetch_all(pool)
        .await
        .expect("the table is there");
        let seen: Vec<(i64, &str)> = done.iter().map(|(id, by)| (*id, by.as_str())).collect();
        if seen == wanted {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
}

/// Returns the number of times that a job was claimed.
pub(super) async fn attempts(pool: &PgPool, id: i64) -> i32 {
    sqlx::query_scalar("select attempts from job where id = $1")
        .bind(id)
        .fetch_one(pool)
        .await
        .expect("the job is there")
}

/// A claimed job.
pub(super) struct Claimed {
    id: i64,
    does: String,
    attempts: i32,
    /// The end of the lease, which is the claim's name.
    lease_until: OffsetDateTime,
    /// The same end, on this process's clock.
    lease: Deadline,
}

/// A worker that counts its calls, and holds back the outcome of jobs that wait.
#[derive(Clone)]
pub(super) struct Worker {
    pool: PgPool,
    name: &'static str,
    lease: Duration,
    counts: Arc<Counts>,
    /// A permit for each waiting job that may end.
    may_end: Arc<Semaphore>,
}

#[derive(Default)]
struct Counts {
    claims: AtomicUsize,
    failed_claims: AtomicUsize,
    samples: AtomicUsize,
    /// The jobs whose work has begun.
    begun: Mutex<Vec<i64>>,
    in_hand: AtomicUsize,
    most_in_hand: AtomicUsize,
    ended: AtomicUsize,
}

impl LeasedWork for Worker {
    type Claimed = Claimed;

    async fn claim(&self, limit: i64) -> sqlx::Result<Vec<Claimed>> {
        let lease = Deadline::after(self.lease);
        let claimed: sqlx::Result<Vec<(i64, String, i32, OffsetDateTime)>> = sqlx::query_as(
            "with claimed as (
                 update job set due_at = now() + make_interval(secs => $2), attempts = attempts + 1
                 where id in (
                     select id from job where due_at <= now() order by due_at, id limit $1 for update skip locked
                 )
                 returning id, does, attempts, due_at
             ), recorded as (
                 insert into claim select id, $3, now(), due_at from claimed
             )
             select id, does, attempts, due_at from claimed",
        )
        .bind(limit)
        .bind(self.lease.as_secs_f64())
        .bind(self.name)
        .fetch_all(&self.pool)
        .await;
        let count = match &claimed {
            Ok(_) => &self.counts.claims,
            Err(_) => &self.counts.failed_claims,
        };
        count.fetch_add(1, Ordering::SeqCst);
        let claimed = claimed?.into_iter();
        Ok(claimed
            .map(|(id, does, attempts, lease_until)| Claimed {
                id,
                does,
                attempts,
                lease_until,
                lease,
            })
            .collect())
    }

    async fn work(&self, claimed: Claimed) {
        self.counts.begun.lock().expect("no panic").push(claimed.id);
        let in_hand = self.counts.in_hand.fetch_add(1, Ordering::SeqCst) + 1;
        self.counts
            .most_in_hand
            .fetch_max(in_hand, Ordering::SeqCst);
        match claimed.does.as_str() {
            "wait" => self.may_end.acquire().await.expect("it is open").forget(),
            "panic once" if claimed.attempts == 1 => panic!("an index out of bounds, say"),
            _ => {}
        }
        let store = async |_: Try| {
            sqlx::query("update job set due_at = null, done_by = $3 where id = $1 and due_at = $2")
                .bind(claimed.id)
                .bind(claimed.lease_until)
                .bind(self.name)
                .execute(&self.pool)
                .await
                .map(drop)
        };
        insist(claimed.lease, store).await.expect("it is stored");
        self.counts.in_hand.fetch_sub(1, Ordering::SeqCst);
        self.counts.ended.fetch_add(1, Ordering::SeqCst);
    }

    async fn sample(&self) {
        self.counts.samples.fetch_add(1, Ordering::SeqCst);
    }
}

impl Worker {
    pub(super) fn new(pool: &PgPool, name: &'static str, lease: Duration) -> Self {
        Self {
            pool: pool.clone(),
            name,
            lease,
            counts: Arc::default(),
            may_end: Arc::new(Semaphore::new(0)),
        }
    }

    /// Runs the worker until the returned handle stops it.
    pub(super) fn start(&self, concurrency: usize, poll: Duration) -> Running {
        let (waker, shutdown) = (Arc::new(Notify::new()), CancellationToken::new());
        let pace = Pace {
            concurrency,
            poll,
            waker: Arc::clone(&waker),
        };
        let task = tokio::spawn(leased_work::run(self.clone(), pace, shutdown.clone()));
        Running {
            waker,
            shutdown,
            task,
        }
    }

    /// Lets this many jobs end that wait, now or later.
    pub(super) fn let_end(&self, jobs: usize) {
        self.may_end.add_permits(jobs);
    }

    /// Returns the jobs whose work has begun.
    pub(super) fn begun(&self) -> Vec<i64> {
        self.counts.begun.lock().expect("no panic").clone()
    }

    pub(super) fn most_in_hand(&self) -> usize {
        self.counts.most_in_hand.load(Ordering::SeqCst)
    }

    pub(super) fn samples(&self) -> usize {
        self.counts.samples.load(Ordering::SeqCst)
    }

    /// Waits until the work on this many jobs has begun.
    pub(super) async fn wait_for_begun(&self, jobs: usize) {
        self.wait_for("jobs that have begun", jobs, || self.begun().len())
            .await;
    }

    /// Waits until the work on this many jobs has ended.
    pub(super) async fn wait_for_ended(&self, jobs: usize) {
        self.wait_for("jobs that have ended", jobs, || {
            self.counts.ended.load(Ordering::SeqCst)
        })
        .await;
    }

    /// Waits until the worker has looked for due jobs this often.
    pub(super) async fn wait_for_claims(&self, claims: usize) {
        self.wait_for("claims", claims, || {
            self.counts.claims.load(Ordering::SeqCst)
        })
        .await;
    }

    /// Waits until this many claims have failed.
    pub(super) async fn wait_for_failed_claims(&self, claims: usize) {
        self.wait_for("claims that failed", claims, || {
            self.counts.failed_claims.load(Ordering::SeqCst)
        })
        .await;
    }

    async fn wait_for(&self, what: &str, wanted: usize, count: impl Fn() -> usize) {
        eventually(&format!("{wanted} {what} by {}", self.name), || {
            let seen = count();
            std::future::ready(if seen >= wanted { Ok(()) } else { Err(seen) })
        })
        .await;
    }
}

/// A worker in a task of its own.
pub(super) struct Running {
    pub(super) waker: Arc<Notify>,
    pub(super) shutdown: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Running {
    /// Stops the worker in good order.
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("the worker does not panic");
    }

    /// Ends the worker as the death of its process would.
    pub(super) async fn kill(self) {
        self.task.abort();
        let ended = self.task.await;
        assert!(ended.is_err(), "it was killed, and ended by itself");
    }
}
