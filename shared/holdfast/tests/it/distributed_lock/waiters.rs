//! Waiters are woken, and send nothing meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use holdfast::distributed_lock::{Error, Locks, Released};
use testkit::{PATIENCE, Proxy, RedisServer, eventually};
use tokio::{task::JoinHandle, time::Instant};

use super::fixture::{LONG, SHORT, locks};

/// Returns how many commands about locks a server has run. A request is a SET, by a script or alone, or both if another
/// holder has the lock; a release is a DEL, and a PUBLISH if the lock is flagged.
async fn commands(server: &RedisServer) -> u64 {
    let mut sum = 0;
    for command in ["set", "del", "publish", "subscribe", "unsubscribe", "ping"] {
        sum += server.calls(command).await;
    }
    sum
}

/// Waits until `processes` connections are subscribed to a lock's release.
async fn until_heard(server: &RedisServer, name: &str, processes: usize) {
    eventually("all processes listen", || async {
        let heard = server.ask(&format!("PUBSUB NUMSUB lock:{name}")).await;
        let heard = heard.map_err(|error| error.to_string())?;
        let wanted = format!(":{processes}\r\n");
        heard.contains(&wanted).then_some(()).ok_or(heard)
    })
    .await;
}

/// Waits until the lock is flagged.
async fn until_marked(server: &RedisServer, name: &str) {
    eventually("somebody waits for it", || async {
        let holder = server.ask(&format!("GET lock:{name}")).await;
        let holder = holder.map_err(|error| error.to_string())?;
        holder.contains('+').then_some(()).ok_or(holder)
    })
    .await;
}

type Order = Arc<Mutex<Vec<usize>>>;

fn wait_in_line(locks: &Locks, nr: usize, order: &Order) -> JoinHandle<()> {
    let (locks, order) = (locks.clone(), Arc::clone(order));
    tokio::spawn(async move {
        let lock = locks
            .acquire("account/7", LONG, PATIENCE)
            .await
            .expect("a lock");
        order.lock().expect("no panic").push(nr);
        assert_eq!(
            lock.release().await.expect("Redis answers"),
            Released::InTime
        );
    })
}

#[tokio::test]
async fn release_wakes_waiters_and_none_polls() {
    let server = RedisServer::start().await;
    let holder = locks(&server.url());
    let lock = holder
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");

    // Five processes, each with two waiters.
    let processes: Vec<Locks> = (0..5).map(|_| locks(&server.url())).collect();
    let order = Order::default();
    let tasks: Vec<_> = (0..10)
        .map(|nr| wait_in_line(&processes[nr % 5], nr, &order))
        .collect();
    until_heard(&server, "account/7", 5).await;
    // A new subscription is followed by one more request.
    let before = std::cell::Cell::new(0);
    eventually("the waiters fall silent", || async {
        let now = commands(&server).await;
        (before.replace(now) == now).then_some(()).ok_or(now)
    })
    .await;
    let quiet = commands(&server).await;
    holdfast::backoff::pause(Duration::from_millis(500)).await;
    assert_eq!(commands(&server).await, quiet, "they send while it is held");

    lock.release().await.expect("Redis answers");
    // Ten acquire it one after the other, long before the time to live is over.
    for task in tasks {
        task.await.expect("a lock for everybody");
    }
    // Eleven releases, after each of which at most five processes send one request; ten of these succeed; and each
    // process unsubscribes at the end.
    let spent = commands(&server).await - quiet;
    assert!(spent <= 11 * (2 + 5 * 2) + 5, "{spent} commands");
    until_heard(&server, "account/7", 0).await;
    assert_eq!(order.lock().expect("no panic").len(), 10);
}

/// Each waiter costs two commands, and no release but the first is published.
#[tokio::test]
async fn waiters_of_one_process_are_served_in_order() {
    let server = RedisServer::start().await;
    let locks = locks(&server.url());
    let lock = locks
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    let order = Order::default();
    let mut tasks = Vec::new();
    for nr in 0..20 {
        tasks.push(wait_in_line(&locks, nr, &order));
        // Each joins the line before the next one.
        tokio::task::yield_now().await;
    }
    until_heard(&server, "account/7", 1).await;
    let before = commands(&server).await;
    lock.release().await.expect("Redis answers");
    for task in tasks {
        task.await.expect("a lock for everybody");
    }
    let spent = commands(&server).await - before;
    // The first release is published. Each of the others acquires and releases, and publishes nothing. At the end one
    // process unsubscribes; and some slack for a request that crosses a release.
    assert!((42..=43 + 5).contains(&spent), "{spent} commands");
    assert_eq!(server.calls("publish").await, 1);
    let order = order.lock().expect("no panic");
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn waiter_gets_a_dead_holders_lock_after_its_ttl() {
    let server = RedisServer::start().await;
    let begun = Instant::now();
    // The state that a killed process leaves: the lock is neither renewed nor released.
    let answer = server
        .ask(&format!(
            "SET lock:account/7 somebody PX {}",
            SHORT.as_millis()
        ))
        .await
        .expect("Redis answers");
    assert!(answer.starts_with("+OK"), "{answer}");
    let lock = locks(&server.url())
        .acquire("account/7", LONG, PATIENCE)
        .await;
    assert!(lock.is_ok(), "{lock:?}");
    let waited = begun.elapsed();
    assert!(waited > SHORT / 2, "{waited:?}");
    // One request, one after subscribing, one at the end.
    let asked = server.calls("evalsha").await + server.calls("eval").await;
    assert!(asked <= 6, "{asked} questions");
}

#[tokio::test]
async fn waiter_survives_a_restart_of_redis() {
    let mut server = RedisServer::start().await;
    let holder = locks(&server.url());
    let lock = holder
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    let waiter = locks(&server.url());
    let waiting = tokio::spawn(async move { waiter.acquire("account/7", LONG, PATIENCE).await });
    until_heard(&server, "account/7", 1).await;
    // Redis comes back empty: the lock is free, and no release is published.
    server.revive().await;
    let got = waiting.await.expect("no panic").expect("a lock");
    assert!(got.fence() > lock.fence());
}

/// A release without waiters costs no PUBLISH.
#[tokio::test]
async fn release_is_published_only_if_somebody_waits() {
    let server = RedisServer::start().await;
    let (holder, other) = (locks(&server.url()), locks(&server.url()));
    let hold = async || {
        holder
            .acquire_forever("account/7", SHORT)
            .await
            .expect("a lock")
    };

    // A process requests the lock, and does not wait.
    let lock = hold().await;
    let refused = other.try_acquire("account/7", LONG).await;
    assert!(refused.expect("Redis answers").is_none());
    lock.release().await.expect("Redis answers");
    assert_eq!(server.calls("publish").await, 0);

    // A waiter times out before the release; Redis publishes nothing to it from then on.
    let lock = hold().await;
    let given_up = other.acquire("account/7", LONG, SHORT / 2).await;
    assert!(matches!(given_up, Err(Error::Timeout(_))), "{given_up:?}");
    until_heard(&server, "account/7", 0).await;
    lock.release().await.expect("Redis answers");
    assert_eq!(server.calls("publish").await, 1);

    // A flagged lock is renewed and released like any other.
    let lock = hold().await;
    let waiting = {
        let other = other.clone();
        tokio::spawn(async move { other.acquire("account/7", LONG, PATIENCE).await })
    };
    until_heard(&server, "account/7", 1).await;
    lock.extend().await.expect("it is ours");
    holdfast::backoff::pause(2 * SHORT).await;
    assert!(lock.is_held());
    assert!(!waiting.is_finished());
    assert_eq!(
        lock.release().await.expect("Redis answers"),
        Released::InTime
    );
    let got = waiting.await.expect("no panic").expect("a lock");
    assert_eq!(server.calls("publish").await, 2);
    got.release().await.expect("Redis answers");
    assert_eq!(server.calls("publish").await, 2);
}

/// The release comes after the waiter's connection fell silent and was discarded.
#[tokio::test]
async fn waiter_is_woken_after_its_connection_is_replaced() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.address()).await;
    let far = locks(&format!("redis://{}", proxy.address()));
    let lock = locks(&server.url())
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    let waiting = {
        let far = far.clone();
        tokio::spawn(async move { far.acquire("account/7", LONG, PATIENCE).await })
    };
    until_heard(&server, "account/7", 1).await;
    // The connection stays open; another request of that process finds it silent and discards it.
    proxy.pause();
    let error = far.ping().await.expect_err("no reply");
    assert!(error.is_temporary(), "{error:?}");
    proxy.restore();
    // The waiter requests the lock on a new connection.
    lock.release().await.expect("Redis answers");
    let _lock = waiting.await.expect("no panic").expect("a lock");
}

/// The waiter is in another process than the holder that loses the lock.
#[tokio::test]
async fn waiter_elsewhere_follows_the_new_holder_after_a_loss() {
    let server = RedisServer::start().await;
    let [ours, theirs, elsewhere] = [(); 3].map(|()| locks(&server.url()));
    let lost = ours
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    let waiting = tokio::spawn(async move { elsewhere.acquire("account/7", LONG, PATIENCE).await });
    until_marked(&server, "account/7").await;
    until_heard(&server, "account/7", 1).await;
    // Redis loses the flag together with the lock.
    server.ask("FLUSHALL").await.expect("Redis answers");
    let other = theirs
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    // The keeper would find out after a third of the time to live.
    let prolonged = lost.extend().await;
    assert!(matches!(prolonged, Err(Error::Lost(_))), "{prolonged:?}");
    until_marked(&server, "account/7").await;
    other.release().await.expect("Redis answers");
    let got = waiting.await.expect("no panic").expect("a lock");
    assert!(got.is_held());
}

/// The waiter stands in line behind a holder of its own process, which loses the lock.
#[tokio::test]
async fn waiter_follows_the_new_holder_after_a_loss() {
    let server = RedisServer::start().await;
    let (ours, theirs) = (locks(&server.url()), locks(&server.url()));
    let first = ours
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    let [second, third] = [(); 2].map(|()| {
        let ours = ours.clone();
        tokio::spawn(async move { ours.acquire("account/7", LONG, PATIENCE).await })
    });
    until_heard(&server, "account/7", 1).await;
    first.release().await.expect("Redis answers");
    // The third knows from the second until when the lock is taken, and has sent no request to Redis.
    let second = second.await.expect("no panic").expect("a lock");
    server.ask("FLUSHALL").await.expect("Redis answers");
    let other = theirs
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    let prolonged = second.extend().await;
    assert!(matches!(prolonged, Err(Error::Lost(_))), "{prolonged:?}");
    // By now the third has sent its request and the other holder's lock is flagged; only its release can wake the
    // third.
    until_marked(&server, "account/7").await;
    other.release().await.expect("Redis answers");
    let third = third.await.expect("no panic").expect("a lock");
    assert!(third.is_held());
}
