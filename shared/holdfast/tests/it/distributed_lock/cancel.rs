//! A caller that is cancelled leaves nothing behind.

use std::time::Duration;

use testkit::{PATIENCE, Proxy, Redis};
use tokio::time::{Instant, timeout};

use super::fixture::{LONG, locks};

#[tokio::test]
async fn a_request_that_is_dropped_on_its_way_locks_nothing() {
    let redis = Redis::shared();
    let proxy = Proxy::start(redis.address()).await;
    let (far, near) = (locks(&redis.url_via(proxy.address())), locks(redis.url()));
    far.ping().await.expect("it is connected");
    proxy.slow(Duration::from_millis(20));
    // Cancelled before the request is sent, on its way, at Redis, and on the reply's way back.
    for millis in [0, 5, 15, 25, 35, 45] {
        let name = redis.name(&format!("after-{millis}"));
        let asked = far.acquire(&name, LONG, PATIENCE);
        let dropped = timeout(Duration::from_millis(millis), asked).await;
        if let Ok(got) = dropped {
            drop(got.expect("it came in time after all"));
        }
        let begun = Instant::now();
        let lock = near.acquire(&name, LONG, PATIENCE).await;
        assert!(lock.is_ok(), "dropped after {millis} ms: {lock:?}");
        // Much sooner than its time to live would end.
        assert!(begun.elapsed() < LONG / 4, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn cancelled_waiters_do_not_block_the_line() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let locks = locks(redis.url());
    let held = locks
        .acquire_forever(&name, LONG)
        .await
        .expect("it is free");
    let stand_in_line = || {
        let (locks, name) = (locks.clone(), name.clone());
        tokio::spawn(async move { locks.acquire(&name, LONG, PATIENCE).await })
    };
    let (first, second, third) = (stand_in_line(), stand_in_line(), stand_in_line());
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    // Cancel the first in line, whom the release would wake, and the second.
    first.abort();
    held.release().await.expect("Redis answers");
    second.abort();
    // Should they have acquired it before they were cancelled, it is dropped here.
    drop((first.await, second.await));
    let got = third.await.expect("no panic");
    assert!(got.is_ok(), "{got:?}");
}

#[tokio::test]
async fn a_release_that_is_dropped_releases() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let locks = locks(redis.url());
    let lock = locks
        .acquire_forever(&name, LONG)
        .await
        .expect("it is free");
    tokio::select! {
        biased;
        released = lock.release() => panic!("not before it was asked: {released:?}"),
        () = std::future::ready(()) => {}
    }
    let again = locks.acquire(&name, LONG, PATIENCE).await;
    assert!(again.is_ok(), "{again:?}");
}
