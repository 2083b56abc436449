//! Redis forgets locks and counts; fences still grow.

use holdfast::distributed_lock::Error;
use testkit::{PATIENCE, Proxy, RedisServer};
use uuid::Uuid;

use super::fixture::{LONG, Register, SHORT, locks};

const NAME: &str = "account/7";

/// Asserts that the database accepts the newer holder's writes and, after them, refuses the older holder's.
async fn only_the_newer_writes(
    older: (holdfast::distributed_lock::Fence, Uuid),
    newer: (holdfast::distributed_lock::Fence, Uuid),
) {
    assert!(older.0 < newer.0, "{} before {}", older.0, newer.0);
    let register = Register::create().await;
    let (old, new) = (older.0, newer.0);
    register
        .write(NAME, old, older.1, 1)
        .await
        .expect("the first");
    register
        .write(NAME, new, newer.1, 2)
        .await
        .expect("the next");
    register
        .write(NAME, new, newer.1, 3)
        .await
        .expect("the next again");
    let refused = register.write(NAME, old, older.1, 4).await;
    assert_eq!(refused, Err(new));
    let accepted = [(old.get(), 1), (new.get(), 2), (new.get(), 3)];
    assert_eq!(register.effects(NAME).await, accepted);
}

#[tokio::test]
async fn fence_grows_after_an_empty_restart() {
    let mut server = RedisServer::start().await;
    let older = locks(&server.url())
        .acquire_forever(NAME, LONG)
        .await
        .expect("a lock");
    server.revive().await;
    // Another process, which has seen no fence yet.
    let newer = locks(&server.url())
        .acquire_forever(NAME, LONG)
        .await
        .expect("a lock");
    only_the_newer_writes(
        (older.fence(), older.token()),
        (newer.fence(), newer.token()),
    )
    .await;
}

#[tokio::test]
async fn fence_grows_after_a_flush_under_a_holder() {
    let server = RedisServer::start().await;
    let older = locks(&server.url())
        .acquire_forever(NAME, LONG)
        .await
        .expect("a lock");
    server.flush().await;
    let newer = locks(&server.url())
        .acquire_forever(NAME, LONG)
        .await
        .expect("a lock");
    assert!(older.is_held() && newer.is_held(), "neither can know yet");
    let prolonged = older.extend().await;
    assert!(matches!(prolonged, Err(Error::Lost(_))), "{prolonged:?}");
    newer.extend().await.expect("it is the newer one's");
    only_the_newer_writes(
        (older.fence(), older.token()),
        (newer.fence(), newer.token()),
    )
    .await;
}

#[tokio::test]
async fn fence_grows_after_failover_to_a_stale_replica() {
    let mut primary = RedisServer::start().await;
    let before = locks(&primary.url());
    let first = before.acquire_forever(NAME, LONG).await.expect("a lock");
    first.release().await.expect("Redis answers");
    let mut replica = RedisServer::start_replica_of(&primary).await;
    // From here on it receives nothing: replication is asynchronous, and this is how far it can be behind.
    replica.promote().await;
    let mut older = None;
    for _ in 0..100 {
        drop(older.take());
        older = Some(before.acquire(NAME, LONG, PATIENCE).await.expect("a lock"));
    }
    let older = older.expect("a hundred");
    primary.kill();
    let newer = locks(&replica.url())
        .acquire_forever(NAME, LONG)
        .await
        .expect("a lock");
    only_the_newer_writes(
        (older.fence(), older.token()),
        (newer.fence(), newer.token()),
    )
    .await;
}

/// The idle process reconnects to a replica that lacks the last fences, which it has not seen either.
#[tokio::test]
async fn fence_grows_after_failover_under_an_idle_process() {
    let mut primary = RedisServer::start().await;
    let proxy = Proxy::start(primary.address()).await;
    let idle = locks(&format!("redis://{}", proxy.address()));
    let seen = idle.acquire_forever(NAME, LONG).await.expect("a lock");
    seen.release().await.expect("Redis answers");
    let mut replica = RedisServer::start_replica_of(&primary).await;
    replica.promote().await;
    let busy = locks(&primary.url());
    for _ in 0..100 {
        let lock = busy.acquire(NAME, LONG, PATIENCE).await.expect("a lock");
        lock.release().await.expect("Redis answers");
    }
    let older = busy.acquire_forever(NAME, LONG).await.expect("a lock");
    primary.kill();
    // The replica's counter is a hundred behind, yet above every fence that this process has seen.
    proxy.lead_to(replica.address());
    let newer = idle.acquire_forever(NAME, LONG).await.expect("a lock");
    only_the_newer_writes(
        (older.fence(), older.token()),
        (newer.fence(), newer.token()),
    )
    .await;
}

#[tokio::test]
async fn fence_grows_after_the_holder_is_cut_off() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.address()).await;
    let far = locks(&format!("redis://{}", proxy.address()));
    let older = far.acquire_forever(NAME, SHORT).await.expect("a lock");
    proxy.cut();
    let newer = locks(&server.url())
        .acquire_forever(NAME, LONG)
        .await
        .expect("a lock");
    only_the_newer_writes(
        (older.fence(), older.token()),
        (newer.fence(), newer.token()),
    )
    .await;
}

/// Sets the counter an hour ahead, as if Redis' clock had been there before it was set back. Returns the counter.
async fn fences_from_the_future(server: &RedisServer) -> i64 {
    let time = server.ask("TIME").await.expect("Redis answers");
    let seconds: i64 = time
        .lines()
        .nth(2)
        .and_then(|s| s.parse().ok())
        .expect("seconds");
    let ahead = (seconds + 3600) * 1_000_000;
    let answer = server.ask(&format!("SET lock:#fence {ahead}")).await;
    assert!(answer.expect("Redis answers").starts_with("+OK"));
    ahead
}

#[tokio::test]
async fn fence_grows_after_the_clock_is_set_back() {
    let server = RedisServer::start().await;
    let ahead = fences_from_the_future(&server).await;
    let ours = locks(&server.url());
    let first = ours.acquire_forever(NAME, LONG).await.expect("a lock");
    assert_eq!(first.fence().get(), ahead + 1, "it counts on");
    drop(first);
    // Redis loses its memory as well. The process that has seen the fence stays above it, and raises the others.
    let seen = ours
        .acquire(NAME, LONG, PATIENCE)
        .await
        .expect("a lock")
        .fence();
    server.flush().await;
    let next = ours.acquire(NAME, LONG, PATIENCE).await.expect("a lock");
    assert!(next.fence() > seen, "{} after {seen}", next.fence());
    let others = locks(&server.url())
        .acquire_forever("account/8", LONG)
        .await;
    assert!(others.expect("a lock").fence() > next.fence());
}

/// Redis loses its memory after its clock was set back, and the requesting process has seen no fence before.
#[tokio::test]
async fn low_fence_is_refused_and_raised_for_the_next_attempt() {
    let server = RedisServer::start().await;
    fences_from_the_future(&server).await;
    let register = Register::create().await;
    let older = locks(&server.url())
        .acquire_forever(NAME, LONG)
        .await
        .expect("a lock");
    register
        .write(NAME, older.fence(), older.token(), 1)
        .await
        .expect("the first");
    server.flush().await;

    // A new process. Its fence is too low, which only the database can know: it refuses the write. Safe, but no
    // progress.
    let ours = locks(&server.url());
    let low = ours.acquire_forever(NAME, LONG).await.expect("a lock");
    assert!(low.fence() < older.fence());
    let newest = register
        .write(NAME, low.fence(), low.token(), 2)
        .await
        .expect_err("too low");
    assert_eq!(newest, older.fence());
    // The next attempt passes.
    ours.raise_fence(newest);
    low.release().await.expect("Redis answers");
    let high = ours.acquire_forever(NAME, LONG).await.expect("a lock");
    only_the_newer_writes((older.fence(), older.token()), (high.fence(), high.token())).await;
    register
        .write(NAME, high.fence(), high.token(), 2)
        .await
        .expect("above all");
    // If two holders ever had one fence, only the first one's writes would pass.
    let twin = register.write(NAME, high.fence(), Uuid::now_v7(), 3).await;
    assert_eq!(twin, Err(high.fence()));
    // Later holders in other processes get higher fences without a call of their own.
    let others = locks(&server.url())
        .acquire_forever("account/8", LONG)
        .await;
    assert!(others.expect("a lock").fence() > high.fence());
}
