//! The cost of a lock with its fence, beside that of the cheapest request to Redis, a GET.
//!
//! Needs a Redis in `HOLDFAST_BENCH_REDIS`, as `redis://user:password@host:port`; `cargo xtask bench` starts one.
//! Everything runs on one thread and one connection for each row, so that a second core is left for Redis.
//!
//! A round trip is mostly two wake-ups of a sleeping core, whose cost on a virtual machine differs from minute to
//! minute. So each row is measured in turns with the GET that it is compared with, a few milliseconds each.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use holdfast::distributed_lock::{Locks, Options};
use redis::{AsyncCommands, aio::MultiplexedConnection};
use rslock::LockManager;
use tokio::{runtime::Runtime, task::JoinSet};

/// The numbers of operations in flight: one that waits for its reply, and as many as a busy service has.
const IN_FLIGHT: [u64; 2] = [1, 64];
/// The operations of each task in one turn.
const TURN: u64 = 50;
/// Longer than any measurement takes.
const TTL: Duration = Duration::from_secs(30);

/// An operation that a task repeats, under a name of its own.
trait Work: Clone + Send + 'static {
    fn once(&self, name: &str) -> impl Future<Output = ()> + Send;
}

#[derive(Clone)]
struct Get(MultiplexedConnection);

impl Work for Get {
    async fn once(&self, name: &str) {
        let value: Option<String> = self.0.clone().get(name).await.expect("Redis answers");
        black_box(value);
    }
}

#[derive(Clone)]
struct Holdfast(Locks);

impl Work for Holdfast {
    async fn once(&self, name: &str) {
        let lock = self.0.try_acquire(name, TTL).await.expect("Redis answers");
        let lock = lock.expect("no other task has it");
        black_box(lock.fence());
        lock.release().await.expect("Redis answers");
    }
}

#[derive(Clone)]
struct Rslock(LockManager);

impl Work for Rslock {
    async fn once(&self, name: &str) {
        let lock = self.0.lock(name, TTL).await.expect("no other task has it");
        self.0.unlock(&lock).await;
    }
}

fn lock(criterion: &mut Criterion) {
    let Ok(url) = std::env::var("HOLDFAST_BENCH_REDIS") else {
        eprintln!("HOLDFAST_BENCH_REDIS is not set: the lock was not measured");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs nothing but file descriptors");
    let (get, holdfast, rslock) = runtime.block_on(async {
        let client = redis::Client::open(url.as_str()).expect("a Redis URL");
        let connection = client.get_multiplexed_async_connection().await;
        let locks = Locks::new(&Options::new(&url)).expect("a Redis URL");
        (
            Get(connection.expect("Redis answers")),
            Holdfast(locks),
            Rslock(LockManager::new(vec![url.as_str()])),
        )
    });
    let mut group = criterion.benchmark_group("lock");
    group
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    for in_flight in IN_FLIGHT {
        group.bench_function(BenchmarkId::new("get", in_flight), |bencher| {
            bencher.iter_custom(|times| time(&runtime, times, in_flight, &get));
        });
        beside(&mut group, "rslock", &runtime, in_flight, &rslock, &get);
        beside(&mut group, "holdfast", &runtime, in_flight, &holdfast, &get);
    }
    group.finish();
}

/// Measures a row in turns with the GET, and prints its time as a multiple of the GET's.
#[expect(clippy::print_stdout, reason = "`cargo xtask bench` reads it")]
fn beside(
    group: &mut BenchmarkGroup<'_, WallTime>,
    row: &str,
    runtime: &Runtime,
    in_flight: u64,
    work: &impl Work,
    get: &Get,
) {
    let mut ratios = Vec::new();
    group.bench_function(BenchmarkId::new(row, in_flight), |bencher| {
        bencher.iter_custom(|times| {
            let (mut ours, mut gets, mut left) = (Duration::ZERO, Duration::ZERO, times);
            while left > 0 {
                let turn = left.min(TURN * in_flight);
                ours += time(runtime, turn, in_flight, work);
                gets += time(runtime, turn, in_flight, get);
                left -= turn;
            }
            ratios.push(ours.as_secs_f64() / gets.as_secs_f64());
            ours
        });
    });
    ratios.sort_by(f64::total_cmp);
    if let Some(median) = ratios.get(ratios.len() / 2) {
        println!("ratio lock/{row} {in_flight} {median:.3}");
    }
}

/// Returns the time of `times` operations with so many in flight. The first tasks do the remainder of the division.
fn time(runtime: &Runtime, times: u64, in_flight: u64, work: &impl Work) -> Duration {
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let begun = Instant::now();
        for task in 0..in_flight.min(times) {
            let share = times / in_flight + u64::from(task < times % in_flight);
            let work = work.clone();
            tasks.spawn(async move {
                let name = format!("lock:bench:{task}");
                for _ in 0..share {
                    work.once(&name).await;
                }
            });
        }
        tasks.join_all().await;
        begun.elapsed()
    })
}

criterion_group!(benches, lock);
criterion_main!(benches);
