use std::{cell::Cell, pin::pin, task::Poll};

use tokio::time::Instant;

use super::*;
use crate::{
    backoff::{Backoff, pause},
    bulkhead::Limits,
    circuit_breaker::{Config, Policy, State},
    retry::Why,
};

const MS: Duration = Duration::from_millis(1);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Failed {
    #[error("busy")]
    Busy,
    #[error("there is no such thing")]
    Missing,
    #[error("late")]
    Late,
}

impl From<Exceeded> for Failed {
    fn from(_: Exceeded) -> Self {
        Self::Late
    }
}

impl Retryable for Failed {
    fn advice(&self) -> Advice {
        match self {
            Self::Busy => Advice::Backoff,
            Self::Missing | Self::Late => Advice::Never,
        }
    }
}

impl Classify for Failed {
    fn class(&self) -> Class {
        match self {
            Self::Busy | Self::Late => Class::Failure,
            Self::Missing => Class::Success,
        }
    }
}

/// Returns a breaker that opens after three failures, for a minute.
fn breaker() -> CircuitBreaker {
    let config = Config {
        policy: Policy::Consecutive { failures: 3 },
        open_for: Duration::from_secs(60),
        growth: None,
        ..Config::default()
    };
    CircuitBreaker::new("inventory", config).expect("valid")
}

fn bulkhead(max_concurrent: usize) -> Bulkhead {
    let limits = Limits {
        max_concurrent,
        max_waiting: 8,
        max_wait: 100 * MS,
    };
    Bulkhead::new("inventory", limits).expect("valid")
}

fn retry(attempts: u32) -> Retry {
    Retry::new(attempts, Backoff::RECONNECT)
}

fn minute() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

#[tokio::test(start_paused = true)]
async fn each_attempt_counts_and_an_open_breaker_ends_retries() {
    let breaker = breaker();
    let pipeline = Pipeline::new("inventory")
        .retry(retry(10))
        .breaker(breaker.clone());
    let calls = Cell::new(0);
    let gave_up = pipeline
        .run(minute(), async |attempt| -> Result<(), Failed> {
            calls.set(attempt.number);
            Err(Failed::Busy)
        })
        .await
        .expect_err("it never works");
    // The fourth attempt was rejected by the breaker.
    assert_eq!(
        (calls.get(), gave_up.attempts, gave_up.why),
        (3, 4, Why::NotRetryable)
    );
    assert!(matches!(gave_up.last, Error::Open(rejected) if rejected.retry_after.is_some()));
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn no_call_queues_behind_an_open_breaker() {
    let (breaker, bulkhead) = (breaker(), bulkhead(1));
    let pipeline = Pipeline::new("inventory")
        .breaker(breaker.clone())
        .bulkhead(bulkhead.clone());
    let _held = bulkhead.try_acquire().expect("free");
    breaker.force_open();
    let begun = Instant::now();
    let gave_up = pipeline
        .run(minute(), async |_| Ok::<_, Failed>(()))
        .await
        .expect_err("open");
    assert!(matches!(gave_up.last, Error::Open(_)));
    assert_eq!(
        (begun.elapsed(), bulkhead.snapshot().waiting),
        (Duration::ZERO, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn full_bulkhead_is_neither_counted_nor_retried() {
    let (breaker, bulkhead) = (breaker(), bulkhead(1));
    let pipeline = Pipeline::new("inventory")
        .retry(retry(5))
        .breaker(breaker.clone())
        .bulkhead(bulkhead.clone());
    let held = bulkhead.try_acquire().expect("free");
    for _ in 0..10 {
        let gave_up = pipeline
            .run(minute(), async |_| Ok::<_, Failed>(()))
            .await
            .expect_err("full");
        assert!(matches!(gave_up.last, Error::Full(_)));
        assert_eq!(gave_up.attempts, 1);
    }
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().calls.failed, 0);
    drop(held);
    pipeline
        .run(minute(), async |_| Ok::<_, Failed>(()))
        .await
        .expect("a place is free");
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_is_around_everything() {
    let bulkhead = bulkhead(1);
    let pipeline = Pipeline::new("inventory")
        .retry(retry(100))
        .bulkhead(bulkhead.clone());
    let begun = Instant::now();
    let gave_up = pipeline
        .run(
            Deadline::after(1000 * MS),
            async |_| -> Result<(), Failed> { Err(Failed::Busy) },
        )
        .await
        .expect_err("it never works");
    assert_eq!(gave_up.why, Why::Deadline);
    assert!(begun.elapsed() <= 1000 * MS);
    // The deadline bounds the wait for a place as well.
    let _held = bulkhead.try_acquire().expect("free");
    let begun = Instant::now();
    let gave_up = pipeline
        .run(Deadline::after(20 * MS), async |_| Ok::<_, Failed>(()))
        .await;
    assert!(matches!(gave_up.expect_err("full").last, Error::Full(_)));
    assert_eq!(begun.elapsed(), 20 * MS);
}

#[tokio::test(start_paused = true)]
async fn slow_attempt_is_a_failure_unless_the_caller_had_less_time() {
    let breaker = breaker();
    let pipeline = Pipeline::new("inventory")
        .breaker(breaker.clone())
        .attempt_timeout(200 * MS);
    let hang = async |_| -> Result<(), Failed> { std::future::pending().await };
    for _ in 0..10 {
        let gave_up = pipeline
            .run(Deadline::after(50 * MS), hang)
            .await
            .expect_err("it hangs");
        assert_eq!(gave_up.last, Error::Call(Failed::Late));
    }
    assert_eq!(
        (breaker.state(), breaker.snapshot().calls.ignored),
        (State::Closed, 10)
    );
    for _ in 0..3 {
        let begun = Instant::now();
        assert!(pipeline.run(minute(), hang).await.is_err());
        assert_eq!(begun.elapsed(), 200 * MS);
    }
    assert_eq!(breaker.state(), State::Open);
}

/// Otherwise a caller that allows 1 ms, and calls again and again, would hold the only probe's place and keep the
/// breaker open.
#[tokio::test(start_paused = true)]
async fn caller_in_a_hurry_takes_no_half_open_place() {
    let breaker = breaker();
    let pipeline = Pipeline::new("inventory")
        .breaker(breaker.clone())
        .attempt_timeout(200 * MS);
    let busy = async |_| -> Result<(), Failed> { Err(Failed::Busy) };
    for _ in 0..3 {
        assert!(pipeline.run(minute(), busy).await.is_err());
    }
    assert_eq!(breaker.state(), State::Open);
    tokio::time::advance(Duration::from_secs(73)).await;

    let calls = Cell::new(0);
    let count = async |_| -> Result<(), Failed> {
        calls.set(calls.get() + 1);
        std::future::pending().await
    };
    for _ in 0..1000 {
        let gave_up = pipeline
            .run(Deadline::after(49 * MS), count)
            .await
            .expect_err("rejected");
        match gave_up.last {
            Error::Open(rejected) => assert!(rejected.retry_after.is_some_and(|t| !t.is_zero())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((calls.get(), breaker.state()), (0, State::Open));

    // Such calls are rejected while a probe is out as well, and admitted once it has succeeded.
    let mut probe = pin!(pipeline.run(minute(), async |_| {
        pause(100 * MS).await;
        Ok::<_, Failed>(())
    }));
    let polled = std::future::poll_fn(|context| Poll::Ready(probe.as_mut().poll(context))).await;
    assert!(polled.is_pending());
    assert_eq!(breaker.state(), State::HalfOpen);
    let hurried = pipeline.run(Deadline::after(MS), count).await;
    assert!(matches!(
        hurried.expect_err("rejected").last,
        Error::Open(_)
    ));
    probe.await.expect("it is back");
    assert_eq!(breaker.state(), State::Closed);
    let hurried = pipeline.run(Deadline::after(MS), count).await;
    assert_eq!(
        hurried.expect_err("it hangs").last,
        Error::Call(Failed::Late)
    );
    assert_eq!((calls.get(), breaker.state()), (1, State::Closed));
}

#[tokio::test(start_paused = true)]
async fn refusal_counts_as_a_success_for_the_breaker() {
    let breaker = breaker();
    let pipeline = Pipeline::new("inventory").breaker(breaker.clone());
    for error in [
        Failed::Busy,
        Failed::Busy,
        Failed::Missing,
        Failed::Busy,
        Failed::Busy,
    ] {
        let answer: Result<(), _> = pipeline.run(minute(), async |_| Err(error.clone())).await;
        assert_eq!(answer.expect_err("it never works").last, Error::Call(error));
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_leaves_no_trace() {
    let (breaker, bulkhead) = (breaker(), bulkhead(1));
    let pipeline = Pipeline::new("inventory")
        .breaker(breaker.clone())
        .bulkhead(bulkhead.clone());
    {
        let mut call = pin!(pipeline.run(minute(), async |_| {
            std::future::pending::<Result<(), Failed>>().await
        }));
        let polled = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        assert!(polled.is_pending());
        assert_eq!(bulkhead.snapshot().in_use, 1);
    }
    assert_eq!(bulkhead.snapshot().in_use, 0);
    assert_eq!(
        (
            breaker.snapshot().calls.cancelled,
            breaker.snapshot().calls.failed
        ),
        (1, 0)
    );
}
