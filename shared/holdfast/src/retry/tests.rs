use std::cell::Cell;

use tokio::time::Instant;

use super::*;

#[derive(Debug, PartialEq)]
struct Failed(Advice);

impl Retryable for Failed {
    fn advice(&self) -> Advice {
        self.0
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

const SECOND: Duration = Duration::from_secs(1);

/// Runs a rule against an operation that always fails. Returns the final error and the number of calls.
async fn always_failing(
    retry: &Retry,
    advice: Advice,
    deadline: Deadline,
) -> (GaveUp<Failed>, u32) {
    let calls = Cell::new(0);
    let gave_up = retry
        .run(deadline, async |attempt| -> Result<(), Failed> {
            calls.set(attempt);
            Err(Failed(advice))
        })
        .await
        .expect_err("it always fails");
    (gave_up, calls.get())
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_it() {
    let answer = Retry::new(5, Backoff::RECONNECT)
        .run(Deadline::after(60 * SECOND), async |n| {
            if n < 4 {
                Err(Failed(Advice::Backoff))
            } else {
                Ok(n)
            }
        })
        .await;
    assert_eq!(answer.expect("the fourth works"), 4);
}

#[tokio::test(start_paused = true)]
async fn error_that_must_not_be_retried_ends_the_call() {
    let (gave_up, calls) = always_failing(
        &Retry::new(5, Backoff::RECONNECT),
        Advice::Never,
        Deadline::after(SECOND),
    )
    .await;
    assert_eq!(
        (gave_up.why, gave_up.attempts, calls),
        (Why::NotRetryable, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_with_the_first() {
    let (gave_up, calls) = always_failing(
        &Retry::new(3, Backoff::RECONNECT),
        Advice::Backoff,
        Deadline::after(60 * SECOND),
    )
    .await;
    assert_eq!(
        (gave_up.why, gave_up.attempts, calls),
        (Why::Attempts, 3, 3)
    );
    assert_eq!(
        gave_up.to_string(),
        "gave up after 3 attempts, no more are allowed: failed"
    );
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_to_the_millisecond() {
    let begun = Instant::now();
    let (_, calls) = always_failing(
        &Retry::new(3, Backoff::RECONNECT),
        Advice::After(7 * SECOND),
        Deadline::after(60 * SECOND),
    )
    .await;
    assert_eq!((calls, begun.elapsed()), (3, 14 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_always_wins() {
    let begun = Instant::now();
    let retry = Retry::new(100, Backoff::RECONNECT);
    let (gave_up, calls) =
        always_failing(&retry, Advice::After(SECOND), Deadline::after(3 * SECOND)).await;
    // Attempts at 0, 1 and 2 s. One at 3 s would start at the deadline, so it is not waited for.
    assert_eq!(
        (gave_up.why, calls, begun.elapsed()),
        (Why::Deadline, 3, 2 * SECOND)
    );

    let begun = Instant::now();
    let retry = retry.within(2 * SECOND);
    let (gave_up, calls) =
        always_failing(&retry, Advice::After(SECOND), Deadline::after(60 * SECOND)).await;
    assert_eq!(
        (gave_up.why, calls, begun.elapsed()),
        (Why::Deadline, 2, SECOND)
    );
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_the_load_that_retries_add() {
    let budget = Arc::new(Budget::new(0.2, 10).expect("valid"));
    let retry = Retry::new(4, Backoff::RECONNECT).with_budget(budget);
    let mut calls = 0;
    for _ in 0..1000 {
        calls += always_failing(&retry, Advice::Backoff, Deadline::after(60 * SECOND))
            .await
            .1;
    }
    // Without a budget it would be 4000. With it: one call each, one retry per five, and the reserve.
    assert!((1200..=1212).contains(&calls), "{calls} calls");
    assert!(Budget::new(1.5, 1).is_err() && Budget::new(f64::NAN, 1).is_err());
}
