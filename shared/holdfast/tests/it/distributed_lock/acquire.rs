//! Acquiring, holding and releasing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use holdfast::distributed_lock::{Error, LONGEST_TTL, Locks, Options, Released};
use testkit::{PATIENCE, Proxy, Redis, RedisServer};
use tokio::time::Instant;

use super::fixture::{LONG, SHORT, locks};

#[tokio::test]
async fn one_holds_it_at_a_time() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let (ours, theirs) = (locks(redis.url()), locks(redis.url()));

    let first = ours.try_acquire(&name, LONG).await.expect("Redis answers");
    let first = first.expect("it is free");
    assert!(first.is_held());
    let none = theirs
        .try_acquire(&name, LONG)
        .await
        .expect("Redis answers");
    assert!(none.is_none(), "{none:?}");
    // Another name is another lock.
    let other = theirs.try_acquire(&redis.name("other"), LONG).await;
    assert!(other.expect("Redis answers").is_some());

    assert_eq!(
        first.release().await.expect("Redis answers"),
        Released::InTime
    );
    let second = theirs
        .try_acquire(&name, LONG)
        .await
        .expect("Redis answers");
    assert!(second.is_some());
    // The first process requests the lock again on a connection that is not new, so by plain commands.
    let none = ours.try_acquire(&name, LONG).await.expect("Redis answers");
    assert!(none.is_none(), "{none:?}");
}

/// The time to live bounds how long a dead holder blocks others. The script sets it for the first lock on a connection,
/// the plain commands for later ones.
#[tokio::test]
async fn every_lock_has_a_time_to_live_in_redis() {
    let server = RedisServer::start().await;
    let locks = locks(&server.url());
    for _ in 0..2 {
        let lock = locks.try_acquire("account/7", LONG).await;
        let lock = lock.expect("Redis answers").expect("it is free");
        let lives = server.ask("PTTL lock:account/7").await;
        let lives = lives.expect("Redis answers");
        let millis: u128 = lives
            .lines()
            .next()
            .and_then(|line| line.strip_prefix(':')?.parse().ok())
            .unwrap_or_else(|| panic!("no time to live: {lives}"));
        assert!((1..=LONG.as_millis()).contains(&millis), "{millis}");
        lock.release().await.expect("Redis answers");
    }
}

/// Redis may have counted the time to live from the moment at which the request was sent.
#[tokio::test]
async fn the_time_of_an_answer_does_not_count_as_held() {
    // 1 % of this is the margin for clocks: less than the delay of a reply here.
    const TTL: Duration = Duration::from_secs(20);
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.address()).await;
    let options = Options {
        timeout: PATIENCE,
        ..Options::new(format!("redis://{}", proxy.address()))
    };
    let far = Locks::new(&options).expect("a URL");
    far.ping().await.expect("it is connected");
    proxy.slow(Duration::from_millis(400));
    let begun = Instant::now();
    let lock = far.try_acquire("account/7", TTL).await;
    let lock = lock.expect("Redis answers").expect("it is free");
    let since = begun.elapsed();
    assert!(since + lock.remaining() <= TTL, "acquired {since:?} ago");
    let begun = Instant::now();
    lock.extend().await.expect("it is held");
    let since = begun.elapsed();
    assert!(since + lock.remaining() <= TTL, "extended {since:?} ago");
    proxy.restore();
    lock.release().await.expect("Redis answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_of_many_processes_are_never_two_at_a_time() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let processes = [locks(redis.url()), locks(redis.url()), locks(redis.url())];
    let mut tasks = Vec::new();
    for locks in processes.iter().cycle().take(30) {
        let (locks, name) = (locks.clone(), name.clone());
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        tasks.push(tokio::spawn(async move {
            for _ in 0..5 {
                let lock = locks.acquire_forever(&name, LONG).await.expect("a lock");
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                lock.release().await.expect("Redis answers");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn waiter_gives_up_at_its_timeout_with_the_reason() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let locks = locks(redis.url());
    let held = locks
        .acquire_forever(&name, LONG)
        .await
        .expect("it is free");
    let begun = Instant::now();
    let patience = Duration::from_millis(150);
    let error = locks.acquire(&name, LONG, patience).await;
    assert!(
        matches!(&error, Err(Error::Timeout(lock)) if *lock == name),
        "{error:?}"
    );
    assert!(begun.elapsed() >= patience, "{:?}", begun.elapsed());
    drop(held);
    // `drop` releases in the background.
    let again = locks.acquire(&name, LONG, PATIENCE).await;
    assert!(again.is_ok(), "{again:?}");
}

#[tokio::test]
async fn a_scope_releases_also_when_it_panics_or_is_cancelled() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let locks = locks(redis.url());
    let answer = locks
        .with(&name, LONG, PATIENCE, async |lock| lock.fence().get())
        .await;
    assert!(answer.expect("it ran") > 0);

    let in_task = {
        let (locks, name) = (locks.clone(), name.clone());
        // The future of a scope is `Send`, so it can be spawned.
        tokio::spawn(async move {
            locks
                .with(&name, LONG, PATIENCE, async |_| panic!("as it must"))
                .await
        })
    };
    assert!(in_task.await.is_err_and(|error| error.is_panic()));
    let cancelled = {
        let scope = locks.with(&name, LONG, PATIENCE, async |_| {
            std::future::pending::<()>().await;
        });
        tokio::time::timeout(Duration::from_millis(100), scope).await
    };
    assert!(cancelled.is_err());
    let free = locks.acquire(&name, LONG, PATIENCE).await;
    assert!(free.is_ok(), "{free:?}");
}

#[tokio::test]
async fn lock_is_renewed_while_it_is_held() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let (ours, theirs) = (locks(redis.url()), locks(redis.url()));
    let lock = ours
        .acquire_forever(&name, SHORT)
        .await
        .expect("it is free");
    // Waits for five times the time to live.
    let error = theirs.acquire(&name, SHORT, 5 * SHORT).await;
    assert!(matches!(error, Err(Error::Timeout(_))), "{error:?}");
    assert!(lock.is_held());
    lock.extend().await.expect("it is held");
    assert_eq!(
        lock.release().await.expect("Redis answers"),
        Released::InTime
    );
}

#[tokio::test]
async fn invalid_arguments_are_refused_without_asking_redis() {
    // No server listens there.
    let locks = locks("redis://127.0.0.1:1");
    for name in ["", "a b", "lock#1", "ü", &"x".repeat(201)] {
        let error = locks.try_acquire(name, LONG).await;
        assert!(
            matches!(error, Err(Error::Name { .. })),
            "{name}: {error:?}"
        );
    }
    for ttl in [
        Duration::ZERO,
        Duration::from_millis(99),
        LONGEST_TTL + SHORT,
    ] {
        let error = locks.try_acquire("account/7", ttl).await;
        assert!(
            matches!(error, Err(Error::Ttl { .. })),
            "{ttl:?}: {error:?}"
        );
    }
    let error = Locks::new(&Options::new("http://127.0.0.1")).expect_err("no URL of a Redis");
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn missing_rights_are_an_error_at_once() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let (_, place) = redis.url().rsplit_once('@').expect("an address");
    for who in ["payment:wrong", "nobody:x"] {
        let locks = locks(&format!("redis://{who}@{place}"));
        let error = locks.acquire_forever(&name, LONG).await;
        assert!(matches!(error, Err(Error::Refused(_))), "{who}: {error:?}");
    }
    // The payment service may do all that locks need: acquire, wait, renew, release.
    let options = Options {
        password: Some("development-payment".to_owned()),
        ..Options::new(format!("redis://payment@{place}"))
    };
    let payment = Locks::new(&options).expect("a URL");
    payment.ping().await.expect("it may ping");
    let lock = payment.acquire_forever(&name, SHORT).await.expect("it may");
    lock.extend().await.expect("it may");
    let error = payment.acquire(&name, SHORT, SHORT).await;
    assert!(matches!(error, Err(Error::Timeout(_))), "{error:?}");
    assert_eq!(lock.release().await.expect("it may"), Released::InTime);
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_sent_again() {
    let server = RedisServer::start().await;
    let locks = locks(&server.url());
    let lock = locks
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    for _ in 0..2 {
        server.ask("SCRIPT FLUSH").await.expect("Redis answers");
        lock.extend().await.expect("it is held");
    }
    server.ask("SCRIPT FLUSH").await.expect("Redis answers");
    assert_eq!(
        lock.release().await.expect("Redis answers"),
        Released::InTime
    );
}
