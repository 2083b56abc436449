//! The holder of a lost lock is notified, and in time.

use std::time::Duration;

use holdfast::distributed_lock::{Error, Released};
use testkit::{PATIENCE, Proxy, Redis, RedisServer};
use tokio::time::{Instant, timeout};

use super::fixture::{LONG, SHORT, locks};

#[tokio::test]
async fn cut_off_holder_is_told_before_the_next_one_acquires() {
    let redis = Redis::shared();
    for silent in [false, true] {
        let name = redis.name(&format!("silent-{silent}"));
        let proxy = Proxy::start(redis.address()).await;
        let (far, near) = (locks(&redis.url_via(proxy.address())), locks(redis.url()));
        let lock = far.acquire_forever(&name, SHORT).await.expect("it is free");
        if silent {
            proxy.pause(); // the connection stays open
        } else {
            proxy.cut();
        }
        let told = async {
            lock.lost().await;
            Instant::now()
        };
        let taken = async {
            let other = near
                .acquire(&name, SHORT, PATIENCE)
                .await
                .expect("its time ends");
            (Instant::now(), other)
        };
        let (told, (taken, other)) = tokio::join!(told, taken);
        assert!(told <= taken, "told {:?} too late", told - taken);
        assert!(!lock.is_held() && lock.remaining().is_zero());
        assert!(other.fence() > lock.fence());
        let error = lock.extend().await;
        assert!(matches!(error, Err(Error::Lost(_))), "{error:?}");
        // The connection is replaced, and the release of the lost lock does not affect its new holder.
        proxy.restore();
        let released = loop {
            match far.ping().await {
                Ok(()) => break lock.release().await,
                Err(error) => assert!(error.is_temporary(), "{error:?}"),
            }
        };
        assert_eq!(released.expect("Redis answers"), Released::TooLate);
        assert!(other.is_held());
        other.extend().await.expect("it is held");
    }
}

#[tokio::test]
async fn work_under_a_lost_lock_is_dropped() {
    let server = RedisServer::start().await;
    let locks = locks(&server.url());
    let ttl = Duration::from_secs(3);
    let outcome = locks.with("account/7", ttl, PATIENCE, async |lock| {
        assert!(lock.is_held());
        server.flush().await;
        let flushed = Instant::now();
        lock.lost().await;
        // The renewal finds out, after a third of the time to live.
        assert!(!lock.remaining().is_zero(), "{:?}", flushed.elapsed());
        std::future::pending::<()>().await;
    });
    let outcome = timeout(PATIENCE, outcome).await.expect("it is told");
    assert!(matches!(outcome, Err(Error::Lost(_))), "{outcome:?}");
}

#[tokio::test]
async fn unavailable_redis_is_an_error_at_once_or_at_the_timeout() {
    let mut server = RedisServer::start().await;
    let locks = locks(&server.url());
    let lock = locks
        .acquire_forever("account/7", LONG)
        .await
        .expect("it is free");
    server.kill();
    let error = locks.try_acquire("account/8", LONG).await;
    assert!(matches!(error, Err(Error::Unavailable(_))), "{error:?}");
    let error = locks.acquire("account/8", LONG, SHORT).await;
    assert!(matches!(error, Err(Error::Unavailable(_))), "{error:?}");
    // By the holder's own clock no other process can have it yet.
    assert!(lock.is_held());

    let patient = timeout(PATIENCE, locks.acquire_forever("account/8", LONG));
    let (got, ()) = tokio::join!(patient, server.revive());
    assert!(got.expect("in time").is_ok());
    assert_eq!(
        lock.release().await.expect("Redis answers"),
        Released::TooLate
    );
}

#[tokio::test]
async fn full_redis_is_a_temporary_error() {
    let server = RedisServer::start().await;
    let locks = locks(&server.url());
    // On a new connection, and on one that is not new.
    for _ in 0..2 {
        let memory = async |bytes: u64| {
            let answer = server.ask(&format!("CONFIG SET maxmemory {bytes}")).await;
            assert!(answer.expect("Redis answers").starts_with("+OK"));
        };
        memory(1).await;
        let error = locks.try_acquire("account/7", LONG).await;
        let error = error.expect_err("there is no room for it");
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        memory(0).await;
        let lock = locks.try_acquire("account/7", LONG).await;
        let lock = lock.expect("there is room").expect("nobody has it");
        assert_eq!(
            lock.release().await.expect("Redis answers"),
            Released::InTime
        );
    }
}
