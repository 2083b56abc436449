//! Whole pipelines around a call that succeeds.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    sync::Arc,
    time::Duration,
};

use holdfast::{
    backoff::Backoff,
    bulkhead::{Bulkhead, Limits},
    circuit_breaker::{Class, Classify, Policy},
    deadline::{Deadline, Exceeded},
    pipeline::Pipeline,
    retry::{Advice, Budget, Retry, Retryable},
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    retry::budget::{Budget as _, TpsBudget},
};
use tower_resilience_circuitbreaker::CircuitBreakerLayer;

use crate::breakers::{AtOnce, CONSECUTIVE, SLOW_CALL_RATE, breaker};

/// Longer than any measurement takes.
const LONG: Duration = Duration::from_secs(3600);

/// The error of the measured call, which always succeeds.
#[derive(Clone, Copy, Debug)]
struct Late;

impl From<Exceeded> for Late {
    fn from(_: Exceeded) -> Self {
        Self
    }
}

impl Retryable for Late {
    fn advice(&self) -> Advice {
        Advice::Never
    }
}

impl Classify for Late {
    fn class(&self) -> Class {
        Class::Failure
    }
}

fn pipeline(policy: Policy) -> Pipeline {
    let budget = Budget::new(0.1, 10).expect("a sensible budget");
    let limits = Limits {
        max_concurrent: 64,
        max_waiting: 64,
        max_wait: Duration::from_secs(1),
    };
    Pipeline::new("dependency")
        .retry(Retry::new(3, Backoff::RECONNECT).with_budget(Arc::new(budget)))
        .breaker(breaker(policy))
        .bulkhead(Bulkhead::new("dependency", limits).expect("sensible limits"))
}

/// Deadline, retry with a budget, breaker, bulkhead. The deadline came with the request, and no attempt has a limit of
/// its own, so the clock is never read.
pub(crate) fn without_clock() -> impl AsyncFnMut() + Clone + Send {
    let pipeline = pipeline(CONSECUTIVE);
    // Made in the runtime, which tokio's clock needs.
    let mut deadline = None;
    async move || {
        let deadline = *deadline.get_or_insert_with(|| Deadline::after(LONG));
        let answer = pipeline
            .run(deadline, |_| ready(Ok::<u32, Late>(black_box(7))))
            .await;
        black_box(answer).expect("nothing is in the way");
    }
}

/// A pipeline as a request uses it: with a new deadline, a limit for each attempt, and a breaker that detects slow
/// calls.
pub(crate) fn with_clock() -> impl AsyncFnMut() + Clone + Send {
    let pipeline = pipeline(SLOW_CALL_RATE).attempt_timeout(Duration::from_secs(1));
    async move || {
        let deadline = Deadline::after(LONG);
        let answer = pipeline
            .run(deadline, |_| ready(Ok::<u32, Late>(black_box(7))))
            .await;
        black_box(answer).expect("nothing is in the way");
    }
}

/// A policy for tower's retry: repeats a call that failed, while the budget lasts.
#[derive(Clone)]
struct WithinBudget(Arc<TpsBudget>);

impl<E> tower::retry::Policy<(), u32, E> for WithinBudget {
    type Future = Ready<()>;

    fn retry(&mut self, (): &mut (), result: &mut Result<u32, E>) -> Option<Ready<()>> {
        match result {
            Ok(_) => {
                self.0.deposit();
                None
            }
            Err(_) => self.0.withdraw().then(|| ready(())),
        }
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}

/// The same from tower's layers, in the same order: they read the clock for the timeout, the budget and the breaker.
pub(crate) fn tower() -> impl AsyncFnMut() + Clone + Send {
    let breaker = CircuitBreakerLayer::builder().consecutive_failures(5);
    let breaker = breaker.build().expect("a sensible configuration");
    let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 1, 0.1));
    let guarded = ServiceBuilder::new().concurrency_limit(64).service(AtOnce);
    let mut service = ServiceBuilder::new()
        .timeout(LONG)
        .retry(WithinBudget(budget))
        .service(breaker.layer(guarded));
    async move || {
        let ready = service.ready().await;
        let answer = ready.expect("nothing is in the way").call(()).await;
        black_box(answer).expect("nothing is in the way");
    }
}

/// The call alone, which shows the cost of the measurement.
pub(crate) fn nothing() -> impl AsyncFnMut() + Clone + Send {
    async || {
        black_box(ready(Ok::<u32, Infallible>(black_box(7))).await).expect("nothing is in the way");
    }
}
