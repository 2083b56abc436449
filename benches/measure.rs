//! Measures a call on one thread and on two, and counts its allocations.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, measurement::WallTime};

use crate::allocations;

/// The numbers of threads that call at the same time. The machine of the project's budgets has two processors.
const THREADS: [usize; 2] = [1, 2];
/// The number of calls over which allocations are counted.
const COUNTED: u32 = 10_000;

/// Rows that can be compared.
pub(crate) struct Group<'a> {
    name: &'static str,
    timed: BenchmarkGroup<'a, WallTime>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(criterion: &'a mut Criterion, name: &'static str) -> Self {
        let mut timed = criterion.benchmark_group(name);
        // Enough for a median that repeats within a few per cent, in seconds instead of minutes.
        timed
            .sample_size(50)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        Self { name, timed }
    }

    /// Measures a call. Each thread has a clone of it, as each task of a service has a clone of its client.
    pub(crate) fn call(&mut self, row: &str, call: impl FnMut() + Clone + Send) {
        let mut counted = call.clone();
        self.count(row, async move || counted());
        for threads in THREADS {
            let id = BenchmarkId::new(row, threads);
            self.timed.bench_function(id, |bencher| {
                bencher.iter_custom(|calls| {
                    on_threads(threads, |start| {
                        let mut call = call.clone();
                        move || {
                            start.wait();
                            let begun = Instant::now();
                            for _ in 0..calls {
                                call();
                            }
                            begun.elapsed()
                        }
                    })
                });
            });
        }
    }

    /// Measures a call that is awaited: on a runtime of each thread's own, within one task, as a handler makes its
    /// calls.
    pub(crate) fn awaited(&mut self, row: &str, call: impl AsyncFnMut() + Clone + Send) {
        self.count(row, call.clone());
        for threads in THREADS {
            let id = BenchmarkId::new(row, threads);
            self.timed.bench_function(id, |bencher| {
                bencher.iter_custom(|calls| {
                    on_threads(threads, |start| {
                        let mut call = call.clone();
                        move || {
                            runtime().block_on(async {
                                start.wait();
                                let begun = Instant::now();
                                for _ in 0..calls {
                                    call().await;
                                }
                                begun.elapsed()
                            })
                        }
                    })
                });
            });
        }
    }

    /// Prints how often a call allocates. Panics if one of Holdfast's rows allocates.
    #[expect(clippy::print_stdout, reason = "`cargo xtask bench` reads it")]
    fn count(&self, row: &str, mut call: impl AsyncFnMut()) {
        let allocations = runtime().block_on(async {
            // The first call makes what exists once, such as thread-local values; that is no part of a call.
            call().await;
            allocations::during(async {
                for _ in 0..COUNTED {
                    call().await;
                }
            })
            .await
        });
        let group = self.name;
        println!("allocations {group}/{row} {allocations} in {COUNTED} calls");
        assert!(
            allocations == 0 || !row.starts_with("holdfast"),
            "{group}/{row} allocates"
        );
    }
}

/// Returns a runtime with a clock that runs on the calling thread alone.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs nothing but file descriptors")
}

/// Returns the average of the threads' times, so that a call that does not disturb other threads has the same figure on
/// two threads as on one.
fn on_threads<W>(threads: usize, work: impl Fn(&'static Barrier) -> W) -> Duration
where
    W: FnOnce() -> Duration + Send,
{
    // Leaked: a few bytes for each sample, instead of a lifetime in every signature.
    let start: &'static Barrier = Box::leak(Box::new(Barrier::new(threads)));
    let total: Duration = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work(start))).collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        ended.map(|time| time.expect("a call does not panic")).sum()
    });
    total / u32::try_from(threads).expect("a handful")
}
