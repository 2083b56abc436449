//! Who waits is woken, and asks nobody meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use holdfast::distributed_lock::{Error, Locks, Released};
use testkit::{PATIENCE, Proxy, RedisServer, eventually};
use tokio::{task::JoinHandle, time::Instant};

use super::fixture::{LONG, SHORT, locks};

/// How often a server was asked something about locks: each question for one is a SET, in a script or by itself, or both if
/// somebody else has it; each release is a DEL, and a PUBLISH if somebody waits.
async fn commands(server: &RedisServer) -> u64 {
    let mut sum = 0;
    for command in ["set", "del", "publish", "subscribe", "unsubscribe", "ping"] {
        sum += server.calls(command).await;
    }
    sum
}

/// Waits until so many connections listen for a lock.
async fn until_heard(server: &RedisServer, name: &str, processes: usize) {
    eventually("all processes listen", || async {
        let heard = server.ask(&format!("PUBSUB NUMSUB lock:{name}")).await;
        let heard = heard.map_err(|error| error.to_string())?;
        let wanted = format!(":{processes}\r\n");
        heard.contains(&wanted).then_some(()).ok_or(heard)
    })
    .await;
}

/// Waits until the lock is one that somebody waits for.
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
async fn a_release_wakes_and_nobody_asks_meanwhile() {
    let server = RedisServer::start().await;
    let holder = locks(&server.url());
    let lock = holder
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");

    // Five processes, each with two who wait.
    let processes: Vec<Locks> = (0..5).map(|_| locks(&server.url())).collect();
    let order = Order::default();
    let tasks: Vec<_> = (0..10)
        .map(|nr| wait_in_line(&processes[nr % 5], nr, &order))
        .collect();
    until_heard(&server, "account/7", 5).await;
    // Listening is followed by one more question.
    let before = std::cell::Cell::new(0);
    eventually("they have asked", || async {
        let now = commands(&server).await;
        (before.replace(now) == now).then_some(()).ok_or(now)
    })
    .await;
    let quiet = commands(&server).await;
    holdfast::backoff::pause(Duration::from_millis(500)).await;
    assert_eq!(commands(&server).await, quiet, "they ask while it is held");

    lock.release().await.expect("Redis answers");
    // Ten take it after each other, within their patience: far less than the time to live.
    for task in tasks {
        task.await.expect("a lock for everybody");
    }
    // Eleven releases, for each of which each of at most five processes asks once; ten of them succeed; and each hears no more
    // of it in the end.
    let spent = commands(&server).await - quiet;
    assert!(spent <= 11 * (2 + 5 * 2) + 5, "{spent} commands");
    until_heard(&server, "account/7", 0).await;
    assert_eq!(order.lock().expect("no panic").len(), 10);
}

#[tokio::test]
async fn in_one_process_first_come_is_first_served_with_two_commands_each() {
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
        // Each is in line before the next comes.
        tokio::task::yield_now().await;
    }
    until_heard(&server, "account/7", 1).await;
    let before = commands(&server).await;
    lock.release().await.expect("Redis answers");
    for task in tasks {
        task.await.expect("a lock for everybody");
    }
    let spent = commands(&server).await - before;
    // The first is given back and told of. Each takes it and gives it back, and tells nobody. In the end Redis is told that nobody
    // hears; and some slack for a question that crossed a release.
    assert!((42..=43 + 5).contains(&spent), "{spent} commands");
    assert_eq!(server.calls("publish").await, 1);
    let order = order.lock().expect("no panic");
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn a_holder_that_died_is_waited_for_until_its_time_is_over() {
    let server = RedisServer::start().await;
    let begun = Instant::now();
    // As a killed process leaves it: nobody prolongs it, nobody gives it back.
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
    // A question, the same after listening, and one at the end.
    let asked = server.calls("evalsha").await + server.calls("eval").await;
    assert!(asked <= 6, "{asked} questions");
}

#[tokio::test]
async fn who_waits_survives_a_redis_that_restarts() {
    let mut server = RedisServer::start().await;
    let holder = locks(&server.url());
    let lock = holder
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    let waiter = locks(&server.url());
    let waiting = tokio::spawn(async move { waiter.acquire("account/7", LONG, PATIENCE).await });
    until_heard(&server, "account/7", 1).await;
    // It comes back empty: the lock is free, and nobody says so.
    server.revive().await;
    let got = waiting.await.expect("no panic").expect("a lock");
    assert!(got.fence() > lock.fence());
}

#[tokio::test]
async fn a_release_is_told_to_those_who_wait_and_costs_nothing_where_nobody_does() {
    let server = RedisServer::start().await;
    let (holder, other) = (locks(&server.url()), locks(&server.url()));
    let hold = async || {
        holder
            .acquire_forever("account/7", SHORT)
            .await
            .expect("a lock")
    };

    // Somebody asks, and does not wait.
    let lock = hold().await;
    let refused = other.try_acquire("account/7", LONG).await;
    assert!(refused.expect("Redis answers").is_none());
    lock.release().await.expect("Redis answers");
    assert_eq!(server.calls("publish").await, 0);

    // Somebody waits, and gives up before it is given back: Redis tells them nothing from then on.
    let lock = hold().await;
    let given_up = other.acquire("account/7", LONG, SHORT / 2).await;
    assert!(matches!(given_up, Err(Error::Timeout(_))), "{given_up:?}");
    until_heard(&server, "account/7", 0).await;
    lock.release().await.expect("Redis answers");
    assert_eq!(server.calls("publish").await, 1);

    // A lock that somebody waits for is prolonged, and given back, as any other.
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

#[tokio::test]
async fn who_waits_hears_of_the_release_also_after_the_connection_was_given_up() {
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
    // Nobody hangs up: somebody else in that process finds that the connection says nothing, and gives it up.
    proxy.pause();
    let error = far.ping().await.expect_err("nobody answers");
    assert!(error.is_temporary(), "{error:?}");
    proxy.restore();
    // Who waits asks on another one.
    lock.release().await.expect("Redis answers");
    let _lock = waiting.await.expect("no panic").expect("a lock");
}

#[tokio::test]
async fn who_waits_in_another_process_for_a_lock_that_redis_forgot_looks_who_has_it_now() {
    let server = RedisServer::start().await;
    let [ours, theirs, elsewhere] = [(); 3].map(|()| locks(&server.url()));
    let lost = ours
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    let waiting = tokio::spawn(async move { elsewhere.acquire("account/7", LONG, PATIENCE).await });
    until_marked(&server, "account/7").await;
    until_heard(&server, "account/7", 1).await;
    // With the lock Redis forgets that somebody waits.
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

#[tokio::test]
async fn who_waits_behind_a_lock_of_this_process_that_is_lost_waits_for_who_has_it_then() {
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
    // The third knows from the second until when it is taken, and did not ask Redis.
    let second = second.await.expect("no panic").expect("a lock");
    server.ask("FLUSHALL").await.expect("Redis answers");
    let other = theirs
        .acquire_forever("account/7", LONG)
        .await
        .expect("a lock");
    let prolonged = second.extend().await;
    assert!(matches!(prolonged, Err(Error::Lost(_))), "{prolonged:?}");
    // By now the third has asked, and the other one's lock is marked: there is nothing to see of it but the release.
    until_marked(&server, "account/7").await;
    other.release().await.expect("Redis answers");
    let third = third.await.expect("no panic").expect("a lock");
    assert!(third.is_held());
}
