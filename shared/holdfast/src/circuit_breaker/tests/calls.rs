//! Calls and events, as callers and receivers see them.

use std::task::{Context, Poll, Waker};

use metrics::with_local_recorder;
use tokio::{sync::broadcast::error::TryRecvError, time::timeout};

use super::*;

#[tokio::test(start_paused = true)]
async fn dropped_call_frees_its_place_and_a_panic_is_a_failure() {
    let breaker = breaker(steady());
    fail(&breaker, 3);
    advance(SECOND).await;
    let hangs = breaker.call(std::future::pending::<Result<(), Failed>>);
    assert!(timeout(SECOND / 2, hangs).await.is_err());
    assert_eq!(breaker.snapshot().calls.cancelled, 1);
    let permit = breaker.try_acquire().expect("the place is free again");
    let full = breaker.try_acquire().expect_err("and there is one only");
    assert_eq!(
        (full.state, full.retry_after),
        (State::HalfOpen, Some(SECOND / 10))
    );
    permit.success();

    // Each in a task of its own, as in a server: the runtime keeps the panic within it.
    for _ in 0..3 {
        let breaker = breaker.clone();
        let panics = async move || -> Result<(), Failed> { panic!("a bug in the client") };
        let task = tokio::spawn(async move { breaker.call(panics).await });
        assert!(task.await.expect_err("it panics").is_panic());
    }
    assert_eq!(breaker.snapshot().calls.failed, 6);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_result_can_be_classed_by_the_caller() {
    let breaker = breaker(steady());
    let class = |result: &Result<u16, Failed>| match result {
        Ok(500..) => Class::Failure,
        _ => Class::Success,
    };
    for _ in 0..3 {
        let status = breaker.call_classed(class, async || Ok(503)).await;
        assert_eq!(status.expect("an answer all the same"), 503);
    }
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_call_that_is_never_polled_is_no_call() {
    let breaker = breaker(steady());
    drop(breaker.call(async || Ok::<_, Failed>(())));
    let mut call = Box::pin(breaker.call(std::future::pending::<Result<(), Failed>>));
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(call.as_mut().poll(&mut context), Poll::Pending));
    assert_eq!(breaker.snapshot().calls, Calls::default());
    drop(call);
    assert_eq!(breaker.snapshot().calls.cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn slow_receiver_is_told_how_many_events_it_missed() {
    let breaker = breaker(steady());
    let mut events = breaker.events();
    for _ in 0..35 {
        breaker.force_open();
        breaker.reset();
    }
    assert_eq!(events.try_recv(), Err(TryRecvError::Lagged(6)));
    assert_eq!(
        events.try_recv().expect("the oldest kept").to,
        State::ForcedOpen
    );
}

#[tokio::test(start_paused = true)]
async fn state_and_calls_are_in_the_metrics() {
    let recorder = recorder::Recorder::default();
    let breaker = with_local_recorder(&recorder, || breaker(steady()));
    let state =
        |state: &str| recorder.value(&format!("circuit_breaker_state card-processor {state}"));
    let calls = |outcome: &str| {
        recorder.value(&format!(
            "circuit_breaker_calls_total card-processor {outcome}"
        ))
    };
    assert_eq!((state("closed"), state("open"), calls("failed")), (1, 0, 0));
    breaker.try_acquire().expect("closed").success();
    fail(&breaker, 3);
    assert!(breaker.try_acquire().is_err());
    assert_eq!((state("closed"), state("open")), (0, 1));
    let to_open = "circuit_breaker_transitions_total card-processor open";
    assert_eq!(recorder.value(to_open), 1);
    breaker.publish();
    breaker.publish();
    assert_eq!(
        (calls("succeeded"), calls("failed"), calls("rejected")),
        (1, 3, 1)
    );
}
