//! The closed path of several circuit breakers: a call that succeeds, as nearly every call does.
//!
//! The call itself does nothing, so only the breaker is measured.

use std::{
    convert::Infallible,
    future::ready,
    hint::black_box,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use holdfast::circuit_breaker::{
    CircuitBreaker, Class, Classify, Config, Policy, SlowCalls, Window,
};
use recloser::{AsyncRecloser, Recloser};
use tower::Service;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;

/// The error of the measured call, which always succeeds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Never {}

impl Classify for Never {
    fn class(&self) -> Class {
        match *self {}
    }
}

/// The policy of every row, as far as its breaker has one like it: five failures in a row, or half of the last hundred
/// calls.
pub(crate) const CONSECUTIVE: Policy = Policy::Consecutive { failures: 5 };
pub(crate) const RATE: Policy = Policy::Rate {
    window: Window::Count(100),
    minimum_calls: 100,
    failure_rate: 0.5,
    slow_call_rate: None,
};
pub(crate) const SLOW_CALL_RATE: Policy = Policy::Rate {
    window: Window::Count(100),
    minimum_calls: 100,
    failure_rate: 0.5,
    slow_call_rate: Some(SlowCalls {
        rate: 0.5,
        duration: Duration::from_secs(1),
    }),
};

pub(crate) fn breaker(policy: Policy) -> CircuitBreaker {
    let config = Config {
        policy,
        ..Config::default()
    };
    CircuitBreaker::new("dependency", config).expect("a sensible configuration")
}

/// A permit and its verdict, around code that is not awaited.
pub(crate) fn holdfast(policy: Policy) -> impl FnMut() + Clone + Send {
    let breaker = breaker(policy);
    move || {
        let permit = breaker.try_acquire().expect("it is closed");
        black_box(7);
        permit.success();
    }
}

pub(crate) fn holdfast_awaited(policy: Policy) -> impl AsyncFnMut() + Clone + Send {
    let breaker = breaker(policy);
    async move || {
        let answer = breaker.call(|| ready(Ok::<u32, Never>(black_box(7)))).await;
        black_box(answer).expect("it is closed");
    }
}

/// Returns a `Recloser` with its only policy, a failure rate of the last calls.
fn a_recloser() -> Recloser {
    Recloser::custom().error_rate(0.5).closed_len(100).build()
}

pub(crate) fn recloser() -> impl FnMut() + Clone + Send {
    let recloser = Arc::new(a_recloser());
    move || {
        let answer = recloser.call(|| Ok::<u32, Infallible>(black_box(7)));
        black_box(answer).expect("it is closed");
    }
}

pub(crate) fn recloser_awaited() -> impl AsyncFnMut() + Clone + Send {
    let recloser = AsyncRecloser::from(a_recloser());
    async move || {
        let answer = recloser
            .call(ready(Ok::<u32, Infallible>(black_box(7))))
            .await;
        black_box(answer).expect("it is closed");
    }
}

type Failsafe = failsafe::StateMachine<
    failsafe::failure_policy::ConsecutiveFailures<std::iter::Repeat<Duration>>,
    (),
>;

fn a_failsafe() -> Failsafe {
    let backoff = failsafe::backoff::constant(Duration::from_secs(5));
    let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
    failsafe::Config::new().failure_policy(policy).build()
}

pub(crate) fn failsafe() -> impl FnMut() + Clone + Send {
    let breaker = a_failsafe();
    move || {
        let answer =
            failsafe::CircuitBreaker::call(&breaker, || Ok::<u32, Infallible>(black_box(7)));
        black_box(answer).expect("it is closed");
    }
}

pub(crate) fn failsafe_awaited() -> impl AsyncFnMut() + Clone + Send {
    let breaker = a_failsafe();
    async move || {
        let call = ready(Ok::<u32, Infallible>(black_box(7)));
        let answer = failsafe::futures::CircuitBreaker::call(&breaker, call).await;
        black_box(answer).expect("it is closed");
    }
}

/// A tower service that returns at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtOnce;

impl Service<()> for AtOnce {
    type Response = u32;
    type Error = Infallible;
    type Future = std::future::Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(black_box(7)))
    }
}

pub(crate) fn tower_resilience() -> impl AsyncFnMut() + Clone + Send {
    let layer = CircuitBreakerLayer::builder().consecutive_failures(5);
    let mut service =
        tower::Layer::layer(&layer.build().expect("a sensible configuration"), AtOnce);
    async move || {
        let ready = tower::ServiceExt::ready(&mut service).await;
        let answer = ready.expect("it is closed").call(()).await;
        black_box(answer).expect("it is closed");
    }
}
