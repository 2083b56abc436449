//! Leased work: a call that a row requests is made, even if workers die. Needs a PostgreSQL.
//!
//! ```console
//! $ cargo xtask example leased_work   # starts a private PostgreSQL, or:
//! $ DATABASE_URL=postgres://… cargo run -p holdfast --example leased_work
//! ```
//!
//! Orders are charged by a card processor, which is outside of the database. [`Processor`] below is one in the memory
//! of this process. It knows a call that is made again by its idempotency key, which is the order. Each worker reaches
//! it by a line of its own: while the line is down, the processor charges, and the worker gets no reply.

#![expect(clippy::print_stdout, reason = "an example talks")]

#[path = "support/database.rs"]
mod database;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use holdfast::{
    backoff::pause,
    deadline::Deadline,
    leased_work::{self, LeasedWork, Pace, Try, insist},
};
use sqlx::{Executor, PgPool, types::time::OffsetDateTime};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The time for which a claimed row belongs to its worker. Short, for the example.
const LEASE: Duration = Duration::from_secs(1);
/// The time between two looks of a worker that is not woken.
const POLL: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let schema = database::Schema::create("leased_work").await?;
    let told = tell(&schema.pool).await;
    schema.drop().await?;
    told
}

async fn tell(pool: &PgPool) -> anyhow::Result<()> {
    pool.execute(
        "create table charge (
             order_id bigint primary key,
             due_at timestamptz default now(), -- while it is leased: the end of the lease; null: it is over
             attempts int not null default 0,
             answer text
         )",
    )
    .await?;
    let processor = Processor::default();
    let worker = || Worker::new(pool, &processor);

    println!("1. Six orders, two workers: each row is claimed by one of them.");
    for order in 1..=6 {
        place(pool, order).await?;
    }
    let workers = [worker(), worker()];
    let running = workers
        .each_ref()
        .map(|worker| Running::start(worker, POLL));
    all_are_over(pool).await?;
    for running in running {
        running.stop().await?;
    }
    let [one, other] = workers.map(|worker| worker.ended.borrow().len());
    println!(
        "   one worked on {one}, the other on {other}: {}",
        processor.books()
    );

    println!(
        "\n2. A worker dies after the processor has charged, and before it stores the answer. Its lease ends, another"
    );
    println!("   worker claims the row, and makes the call again, under the same key.");
    place(pool, 7).await?;
    let dies = worker();
    dies.line.send_replace(false);
    let calls = processor.calls();
    let running = Running::start(&dies, POLL);
    processor.has_been_called(calls + 1).await;
    running.kill().await;
    println!("   it died: {}", row(pool, 7).await?);
    let other = worker();
    let running = Running::start(&other, POLL);
    all_are_over(pool).await?;
    running.stop().await?;
    println!("   later:   {}", row(pool, 7).await?);
    println!("   {}", processor.books());

    println!(
        "\n3. A worker is stopped for longer than its lease, and goes on when the row is over. Its update says"
    );
    println!("   `where due_at = …` with the end of its own lease, and no row has that.");
    place(pool, 8).await?;
    let late = worker();
    late.line.send_replace(false);
    let calls = processor.calls();
    let stopped = Running::start(&late, POLL);
    processor.has_been_called(calls + 1).await;
    let next = worker();
    let running = Running::start(&next, POLL);
    next.has_ended(1).await;
    println!("   the next worker: {}", next.last());
    late.line.send_replace(true);
    late.has_ended(1).await;
    println!("   the late one:    {}", late.last());
    println!("   {}", row(pool, 8).await?);
    stopped.stop().await?;
    running.stop().await?;

    println!("\n4. A worker that polls once an hour is woken after the commit.");
    let woken = worker();
    let running = Running::start(&woken, Duration::from_secs(3600));
    for (order, nth) in [(9, 1), (10, 2)] {
        let begun = Instant::now();
        place(pool, order).await?;
        running.waker.notify_one();
        woken.has_ended(nth).await;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        println!("   order {order} is charged after {ms:.1} ms");
    }
    running.stop().await?;
    println!("   {}", processor.books());
    Ok(())
}

/// Stores that an order is to be charged: the intent.
async fn place(pool: &PgPool, order: i64) -> sqlx::Result<()> {
    sqlx::query("insert into charge (order_id) values ($1)")
        .bind(order)
        .execute(pool)
        .await?;
    Ok(())
}

/// Waits until no row is due, now or later.
async fn all_are_over(pool: &PgPool) -> sqlx::Result<()> {
    loop {
        let is_due: bool =
            sqlx::query_scalar("select exists (select from charge where due_at is not null)")
                .fetch_one(pool)
                .await?;
        if !is_due {
            return Ok(());
        }
        pause(Duration::from_millis(10)).await;
    }
}

async fn row(pool: &PgPool, order: i64) -> sqlx::Result<String> {
    let (attempts, answer, leased_for): (i32, Option<String>, Option<f64>) = sqlx::query_as(
        "select attempts, answer, extract(epoch from due_at - now())::float8 from charge where order_id = $1",
    )
    .bind(order)
    .fetch_one(pool)
    .await?;
    let state = match (answer, leased_for) {
        (Some(answer), _) => format!("over, {answer:?}"),
        (None, Some(seconds)) => format!("leased for another {seconds:.1} s, without an answer"),
        (None, None) => "over, without an answer".to_owned(),
    };
    Ok(format!("order {order}: attempt {attempts}, {state}"))
}

/// The end of the work on a row.
enum Ended {
    /// The outcome is in the row.
    Stored,
    /// No row is leased under the name of this claim.
    Refused,
}

/// A worker that charges orders.
#[derive(Clone)]
struct Worker {
    pool: PgPool,
    processor: Processor,
    /// True while the processor's replies reach this worker.
    line: Arc<watch::Sender<bool>>,
    /// The ends of the work on its rows, in order.
    ended: Arc<watch::Sender<Vec<Ended>>>,
}

/// A claimed row.
struct Claimed {
    order: i64,
    /// The end of the lease, which is the claim's name: no other claim of the row has the same.
    lease_until: OffsetDateTime,
    /// The same end, on this process's clock.
    lease: Deadline,
}

impl LeasedWork for Worker {
    type Claimed = Claimed;

    async fn claim(&self, limit: i64) -> sqlx::Result<Vec<Claimed>> {
        let lease = Deadline::after(LEASE);
        let rows: Vec<(i64, OffsetDateTime)> = sqlx::query_as(
            "update charge set due_at = now() + make_interval(secs => $2), attempts = attempts + 1
             where order_id in (
                 select order_id from charge where due_at <= now() order by due_at limit $1 for update skip locked
             )
             returning order_id, due_at",
        )
        .bind(limit)
        .bind(LEASE.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        let rows = rows.into_iter();
        Ok(rows
            .map(|(order, lease_until)| Claimed {
                order,
                lease_until,
                lease,
            })
            .collect())
    }

    async fn work(&self, claimed: Claimed) {
        // Outside of any transaction: however slow the processor is, it holds no connection to the database.
        let answer = self.processor.charge(claimed.order, &self.line).await;
        let is_stored = AtomicBool::new(false);
        let store = async |_: Try| {
            let row = sqlx::query(
                "update charge set due_at = null, answer = $3 where order_id = $1 and due_at = $2",
            )
            .bind(claimed.order)
            .bind(claimed.lease_until)
            .bind(&answer)
            .execute(&self.pool)
            .await?;
            is_stored.store(row.rows_affected() == 1, Ordering::Relaxed);
            Ok::<(), sqlx::Error>(())
        };
        match insist(claimed.lease, store).await {
            Ok(()) if is_stored.load(Ordering::Relaxed) => self.end(Ended::Stored),
            Ok(()) => self.end(Ended::Refused),
            Err(error) => println!("   order {}: {error}; its lease will end", claimed.order),
        }
    }

    async fn sample(&self) {}
}

impl Worker {
    fn new(pool: &PgPool, processor: &Processor) -> Self {
        Self {
            pool: pool.clone(),
            processor: processor.clone(),
            line: Arc::new(watch::Sender::new(true)),
            ended: Arc::default(),
        }
    }

    fn end(&self, ended: Ended) {
        self.ended.send_modify(|all| all.push(ended));
    }

    /// Returns the end of the work on its last row, in words.
    fn last(&self) -> &'static str {
        match self.ended.borrow().last() {
            Some(Ended::Stored) => "its outcome is stored",
            Some(Ended::Refused) => "its outcome is refused",
            None => "its work has not ended",
        }
    }

    /// Waits until the work on this many rows has ended.
    async fn has_ended(&self, rows: usize) {
        let mut ended = self.ended.subscribe();
        let _ = ended.wait_for(|ended| ended.len() >= rows).await;
    }
}

/// A card processor in the memory of this process.
#[derive(Clone, Default)]
struct Processor {
    /// The keys of the calls, in order.
    calls: Arc<watch::Sender<Vec<i64>>>,
}

impl Processor {
    /// Charges an order, once. Returns when the line passes the reply on; a real call has a time limit.
    async fn charge(&self, order: i64, line: &watch::Sender<bool>) -> String {
        self.calls.send_modify(|calls| calls.push(order));
        let _ = line.subscribe().wait_for(|is_up| *is_up).await;
        format!("captured order {order}")
    }

    /// Waits until this many calls have been made.
    async fn has_been_called(&self, times: usize) {
        let mut calls = self.calls.subscribe();
        let _ = calls.wait_for(|calls| calls.len() >= times).await;
    }

    fn calls(&self) -> usize {
        self.calls.borrow().len()
    }

    fn books(&self) -> String {
        let calls = self.calls.borrow();
        let charged: BTreeSet<&i64> = calls.iter().collect();
        format!(
            "the processor has charged {} orders, by {} calls",
            charged.len(),
            calls.len()
        )
    }
}

/// A worker in a task of its own.
struct Running {
    waker: Arc<Notify>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(worker: &Worker, poll: Duration) -> Self {
        let (waker, shutdown) = (Arc::new(Notify::new()), CancellationToken::new());
        let pace = Pace {
            concurrency: 1,
            poll,
            waker: Arc::clone(&waker),
        };
        let task = tokio::spawn(leased_work::run(worker.clone(), pace, shutdown.clone()));
        Self {
            waker,
            shutdown,
            task,
        }
    }

    /// Stops in order: the rows in hand are finished.
    async fn stop(self) -> Result<(), tokio::task::JoinError> {
        self.shutdown.cancel();
        self.task.await
    }

    /// Stops like a crash: the work on its rows ends where it is.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}
