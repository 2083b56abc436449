use std::{pin::pin, task::Poll};

use tokio::time::Instant;

use super::*;

mod interleavings;

const MS: Duration = Duration::from_millis(1);

fn bulkhead(max_concurrent: usize, max_waiting: usize, max_wait: Duration) -> Bulkhead {
    let limits = Limits {
        max_concurrent,
        max_waiting,
        max_wait,
    };
    Bulkhead::new("cards", limits).expect("valid")
}

fn seen(bulkhead: &Bulkhead) -> (usize, usize) {
    let now = bulkhead.snapshot();
    (now.in_use, now.waiting)
}

#[tokio::test(start_paused = true)]
async fn both_limits_hold_and_further_calls_are_rejected() {
    let cards = bulkhead(2, 1, 100 * MS);
    let (first, _second) = (
        cards.try_acquire().expect("free"),
        cards.try_acquire().expect("free"),
    );
    assert_eq!(cards.try_acquire().expect_err("full").reason, Reason::Queue);

    let mut third = pin!(cards.acquire());
    assert!(futures_poll(third.as_mut()).await.is_pending());
    assert_eq!(seen(&cards), (2, 1));
    let begun = Instant::now();
    let fourth = cards.acquire().await.expect_err("the queue is full");
    assert_eq!(
        (fourth.reason, begun.elapsed()),
        (Reason::Queue, Duration::ZERO)
    );
    assert_eq!(
        fourth.to_string(),
        "the bulkhead of cards is full: too many calls wait already"
    );

    drop(first);
    let third = third.await.expect("a place became free");
    assert_eq!(seen(&cards), (2, 0));
    drop(third);
    assert_eq!(seen(&cards), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_bounded_by_the_limit_and_by_the_callers_time() {
    let cards = bulkhead(1, 9, 100 * MS);
    let _held = cards.try_acquire().expect("free");
    for (time, waited) in [
        (1000 * MS, 100 * MS),
        (30 * MS, 30 * MS),
        (Duration::ZERO, Duration::ZERO),
    ] {
        let begun = Instant::now();
        let full = cards
            .acquire_within(|| time)
            .await
            .expect_err("no place is freed");
        assert_eq!((full.reason, begun.elapsed()), (Reason::Wait, waited));
    }
    assert_eq!(seen(&cards), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn places_are_given_first_come_first_served() {
    let cards = bulkhead(1, 9, 1000 * MS);
    let held = cards.try_acquire().expect("free");
    let (mut second, mut third) = (Box::pin(cards.acquire()), Box::pin(cards.acquire()));
    assert!(futures_poll(second.as_mut()).await.is_pending());
    assert!(futures_poll(third.as_mut()).await.is_pending());
    drop(held);
    // The place belongs to the second already: neither a new call nor the third gets it.
    assert!(cards.try_acquire().is_err());
    assert!(futures_poll(third.as_mut()).await.is_pending());
    drop(second.await.expect("its turn"));
    drop(third.await.expect("its turn"));
}

#[tokio::test(start_paused = true)]
async fn dropped_caller_frees_its_place_or_leaves_the_queue() {
    let cards = bulkhead(1, 1, 1000 * MS);
    let held = cards.try_acquire().expect("free");
    {
        let mut waits = pin!(cards.acquire());
        assert!(futures_poll(waits.as_mut()).await.is_pending());
        assert_eq!(seen(&cards), (1, 1));
    }
    assert_eq!(seen(&cards), (1, 0));
    // A call that was given a place and never took it.
    {
        let mut waits = pin!(cards.acquire());
        assert!(futures_poll(waits.as_mut()).await.is_pending());
        drop(held);
    }
    assert_eq!(seen(&cards), (0, 0));
    // A panic frees the place.
    let place = cards.clone();
    let panics = tokio::spawn(async move {
        let _place = place.try_acquire().expect("free");
        panic!("while it holds a place");
    });
    assert!(panics.await.expect_err("it panicked").is_panic());
    assert_eq!(seen(&cards), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_slow_dependency_leaves_the_others_alone() {
    let (slow, fast) = (bulkhead(4, 4, 100 * MS), bulkhead(4, 4, 100 * MS));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (slow, fast) = (slow.clone(), fast.clone());
        calls.spawn(async move {
            if let Ok(_place) = slow.acquire().await {
                // The call hangs until the test's time is over.
                let _ = tokio::time::timeout(30_000 * MS, std::future::pending::<()>()).await;
            }
        });
        calls.spawn(async move {
            let begun = Instant::now();
            let _place = fast.acquire().await.expect("it is never busy for long");
            assert_eq!(begun.elapsed(), Duration::ZERO);
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("as fast as ever");
    }
}

#[tokio::test(start_paused = true)]
async fn switched_off_bulkhead_admits_every_call() {
    let cards = bulkhead(1, 0, Duration::ZERO);
    let _held = cards.try_acquire().expect("free");
    cards.set_enabled(false);
    let (_second, _third) = (
        cards.try_acquire().expect("off"),
        cards.acquire().await.expect("off"),
    );
    cards.set_enabled(true);
    assert!(cards.acquire().await.is_err());
    assert!(cards.snapshot().enabled);
    assert_eq!(seen(&cards), (1, 0));
}

#[test]
fn invalid_limits_are_named() {
    let limits = |max_concurrent, max_waiting, seconds| Limits {
        max_concurrent,
        max_waiting,
        max_wait: Duration::from_secs(seconds),
    };
    for (limits, error) in [
        (
            limits(0, 0, 0),
            "max_concurrent of a bulkhead must be from 1 to 100000, not 0",
        ),
        (
            limits(1, 1_000_001, 0),
            "max_waiting of a bulkhead must be from 0 to 1000000, not 1000001",
        ),
        (
            limits(1, 0, 3601),
            "max_wait of a bulkhead must be from 0 to 3600 s, not 3601 s",
        ),
    ] {
        let refused = Bulkhead::new("cards", limits).expect_err("out of bounds");
        assert_eq!(refused.to_string(), error);
    }
}

/// Polls `future` once.
async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}
