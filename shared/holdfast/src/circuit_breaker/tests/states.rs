//! The transitions, one by one.

use std::cell::Cell;

use super::*;

#[tokio::test(start_paused = true)]
async fn an_outage_from_its_beginning_to_its_end() {
    let breaker = breaker(steady());
    let mut events = breaker.events();
    let called = Cell::new(0);
    let call = async |result: Result<(), Failed>| {
        breaker
            .call(async || {
                called.set(called.get() + 1);
                result
            })
            .await
    };

    for _ in 0..3 {
        let failed = call(Err(Failed(Class::Failure))).await;
        assert!(matches!(failed, Err(Error::Call(_))), "{failed:?}");
    }
    advance(SECOND / 4).await;
    let rejected = breaker.try_acquire().expect_err("it is open");
    assert_eq!(
        (rejected.state, rejected.retry_after),
        (State::Open, Some(SECOND * 3 / 4))
    );
    assert_eq!(
        rejected.to_string(),
        "the circuit breaker of card-processor is open; try again in 0.8 s"
    );
    let rejected = call(Ok(())).await;
    assert!(matches!(rejected, Err(Error::Open(_))), "{rejected:?}");
    assert_eq!(called.get(), 3, "a rejected call is not made");

    advance(SECOND).await;
    call(Ok(())).await.expect("the dependency is back");
    assert_eq!(breaker.state(), State::Closed);
    let seen: Vec<_> = std::iter::from_fn(|| events.try_recv().ok())
        .map(|event| event.to_string())
        .collect();
    assert_eq!(
        seen,
        [
            "card-processor: closed -> open, 3 failures in a row",
            "card-processor: open -> half-open, the wait is over",
            "card-processor: half-open -> closed, the trial succeeded",
        ]
    );
    let calls = Calls {
        succeeded: 1,
        failed: 3,
        rejected: 2,
        ..Calls::default()
    };
    assert_eq!(breaker.snapshot().calls, calls);
}

#[tokio::test(start_paused = true)]
async fn only_failures_in_a_row_open_it() {
    let breaker = breaker(steady());
    for class in [Class::Success, Class::Failure] {
        fail(&breaker, 2);
        breaker.try_acquire().expect("closed").ignore();
        drop(breaker.try_acquire().expect("closed"));
        assert_eq!(breaker.snapshot().consecutive_failures, 2);
        assert_eq!(breaker.state(), State::Closed);
        // A success forgets the two; a failure is the third in a row, in spite of the ignored and cancelled ones
        // between.
        breaker.try_acquire().expect("closed").record(class);
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn half_open_closes_on_enough_successes_else_opens() {
    let breaker = breaker(Config {
        half_open: HalfOpen {
            permitted_calls: 3,
            successes_to_close: 2,
            ..HalfOpen::default()
        },
        ..steady()
    });
    let trial = |classes: &[Class]| {
        for class in classes {
            breaker.try_acquire().expect("a place").record(*class);
        }
        breaker.state()
    };
    fail(&breaker, 3);
    advance(SECOND).await;
    // One failure can be made up for, two cannot. An ignored probe takes no place.
    let (ok, bad, other) = (Class::Success, Class::Failure, Class::Ignored);
    assert_eq!(trial(&[other, bad, other, ok]), State::HalfOpen);
    assert_eq!(trial(&[bad]), State::Open);
    advance(SECOND).await;
    assert_eq!(trial(&[bad, ok, ok]), State::Closed);
    fail(&breaker, 3);
    advance(SECOND).await;
    assert_eq!(trial(&[ok, ok]), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn late_results_do_not_count() {
    let breaker = breaker(steady());
    let begun_before: Vec<_> = (0..8)
        .map(|_| breaker.try_acquire().expect("closed"))
        .collect();
    fail(&breaker, 3);
    advance(SECOND).await;
    let probe = breaker.try_acquire().expect("a place");
    let mut late = begun_before.into_iter();
    // They neither close nor open the breaker, and free no place of a probe.
    late.by_ref().take(2).for_each(Permit::success);
    late.by_ref().take(2).for_each(drop);
    assert!(breaker.try_acquire().is_err());
    late.for_each(Permit::failure);
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().consecutive_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn hanging_probes_end_when_due_not_at_the_next_call() {
    let breaker = breaker(steady());
    fail(&breaker, 3);
    advance(SECOND).await;
    let hangs = breaker.try_acquire().expect("a place");
    advance(SECOND * 9).await;
    assert!(breaker.try_acquire().is_err());
    // It opened after 10 s for 1 s, so a call after 12 s is the next probe, although no call came in between.
    advance(SECOND * 3).await;
    let probe = breaker.try_acquire().expect("the next trial");
    hangs.success();
    assert_eq!(
        breaker.state(),
        State::HalfOpen,
        "the answer came too late to count"
    );
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn probes_dropped_one_after_another_count_as_a_hang() {
    let give_up: [fn(Permit<'_>); 2] = [|permit| drop(permit), |permit| permit.ignore()];
    for give_up in give_up {
        let breaker = breaker(steady());
        fail(&breaker, 3);
        advance(SECOND).await;
        let mut probes = 0;
        // Each caller gives up before the breaker does, and frees its place.
        while let Ok(permit) = breaker.try_acquire() {
            advance(SECOND).await;
            give_up(permit);
            probes += 1;
        }
        assert_eq!((probes, breaker.state()), (10, State::Open));
    }
}

#[tokio::test(start_paused = true)]
async fn it_stays_open_for_longer_each_time_up_to_a_maximum() {
    let growth = Growth {
        multiplier: 3.0,
        maximum: SECOND * 5,
    };
    let breaker = breaker(Config {
        growth: Some(growth),
        ..steady()
    });
    let mut waits = Vec::new();
    for _ in 0..2 {
        fail(&breaker, 3);
        for _ in 0..4 {
            let wait = breaker.snapshot().retry_after.expect("it is open");
            waits.push(wait.as_secs());
            advance(wait).await;
            breaker.try_acquire().expect("a place").failure();
        }
        advance(SECOND * 5).await;
        breaker.try_acquire().expect("a place").success();
    }
    assert_eq!(waits, [1, 3, 5, 5, 1, 3, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn jitter_only_adds_and_fills_its_range() {
    let waits: Vec<_> = (0..400)
        .map(|_| {
            let breaker = breaker(Config {
                jitter: 0.5,
                ..steady()
            });
            fail(&breaker, 3);
            breaker.snapshot().retry_after.expect("it is open")
        })
        .collect();
    assert!(
        waits
            .iter()
            .all(|wait| (SECOND..=SECOND * 3 / 2).contains(wait))
    );
    let short = waits.iter().filter(|wait| **wait < SECOND * 5 / 4).count();
    assert!(
        (120..=280).contains(&short),
        "{short} of 400 in the lower half"
    );
}

#[tokio::test(start_paused = true)]
async fn slow_calls_open_it_and_fail_a_trial() {
    let breaker = breaker(Config {
        policy: Policy::Rate {
            window: Window::Count(4),
            minimum_calls: 4,
            failure_rate: 1.0,
            slow_call_rate: Some(SlowCalls {
                rate: 0.5,
                duration: SECOND,
            }),
        },
        ..steady()
    });
    let mut waited = breaker.try_acquire().expect("closed");
    advance(SECOND * 5).await;
    waited.restart_clock();
    advance(SECOND).await;
    waited.success(); // exactly as long as allowed, since it began
    for seconds in [2, 1] {
        let permit = breaker.try_acquire().expect("closed");
        advance(SECOND * seconds).await;
        permit.success();
    }
    let before = breaker.snapshot();
    assert_eq!((before.calls.succeeded, before.calls.slow), (2, 1));
    assert_eq!(
        (before.window_calls, before.failure_rate),
        (Some(3), Some(0.0))
    );

    let permit = breaker.try_acquire().expect("closed");
    advance(SECOND * 2).await;
    permit.failure(); // slow, too: half of the four
    assert_eq!(breaker.state(), State::Open);
    advance(SECOND).await;
    let permit = breaker.try_acquire().expect("a place");
    advance(SECOND * 2).await;
    permit.success();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_operator_has_the_last_word() {
    let breaker = breaker(steady());
    let before = breaker.try_acquire().expect("closed");
    breaker.force_open();
    before.success();
    advance(SECOND * 3600).await;
    let rejected = breaker.try_acquire().expect_err("forced open");
    assert_eq!(
        (rejected.state, rejected.retry_after),
        (State::ForcedOpen, None)
    );
    assert_eq!(
        rejected.to_string(),
        "the circuit breaker of card-processor is forced open"
    );

    breaker.force_closed();
    fail(&breaker, 100);
    assert_eq!(breaker.state(), State::ForcedClosed);
    let after = breaker.try_acquire().expect("forced closed");
    breaker.reset();
    after.failure();
    fail(&breaker, 2);
    breaker.reset();
    fail(&breaker, 2);
    assert_eq!(breaker.state(), State::Closed, "nothing is remembered");
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_time_forgets_a_tenth_at_once() {
    let breaker = breaker(Config {
        policy: Policy::Rate {
            window: Window::Time(SECOND * 10),
            minimum_calls: 100,
            failure_rate: 0.5,
            slow_call_rate: None,
        },
        ..steady()
    });
    let mut seen = Vec::new();
    // One call in each half of the first second, one in the next.
    for _ in 0..3 {
        fail(&breaker, 1);
        advance(SECOND / 2).await;
    }
    for _ in 0..3 {
        seen.push(breaker.snapshot().window_calls.expect("closed"));
        advance(SECOND * 17 / 2).await; // to 10 s, and then past everything
    }
    assert_eq!(seen, [3, 1, 0]);
}
