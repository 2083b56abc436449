//! Many clients under faults; afterwards their history must be linearizable.
//!
//! Clients increment a number in a database under the lock: read it in one transaction, wait for a while, write it plus
//! one in another. They do not check whether the lock was lost meanwhile. During this Redis is emptied, killed or cut
//! off.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use holdfast::{backoff::pause, distributed_lock::Locks};
use testkit::{Proxy, RedisServer};

use super::{
    checker::{Event, What, linearize},
    fixture::{Register, locks},
};

const NAME: &str = "account/7";
const TTL: Duration = Duration::from_millis(150);

/// The operations of all clients, timed by one logical clock.
#[derive(Clone, Default)]
struct History {
    clock: Arc<AtomicU64>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl History {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn add(&self, called: u64, what: What) {
        let returned = self.now();
        let event = Event {
            called,
            returned,
            what,
        };
        self.events.lock().expect("no panic").push(event);
    }
}

async fn client(locks: Locks, register: Arc<Register>, history: History, nr: u64) {
    let mut dice = fastrand::Rng::with_seed(nr);
    for _ in 0..12 {
        let called = history.now();
        let lock = match locks.acquire(NAME, TTL, Duration::from_secs(5)).await {
            Ok(lock) => lock,
            Err(error) if error.is_temporary() => continue,
            Err(error) => panic!("{error:?}"),
        };
        let fence = lock.fence().get();
        history.add(called, What::Acquired(fence));

        let called = history.now();
        let Ok(value) = register.read(NAME, lock.fence(), lock.token()).await else {
            history.add(called, What::Refused { fence });
            continue;
        };
        history.add(called, What::Read { fence, value });

        // One in four waits for so long that the lock may have passed to another holder, and does not check.
        let dawdles = dice.u32(..4) == 0;
        pause(Duration::from_millis(
            dice.u64(..if dawdles { 60 } else { 5 }),
        ))
        .await;

        let called = history.now();
        let value = value + 1;
        match register
            .write(NAME, lock.fence(), lock.token(), value)
            .await
        {
            Ok(()) => history.add(called, What::Wrote { fence, value }),
            Err(_) => history.add(called, What::Refused { fence }),
        }
        if let Err(error) = lock.release().await {
            assert!(error.is_temporary(), "{error:?}");
        }
    }
}

/// Runs clients while Redis is disturbed, and checks their history.
async fn run(mut server: RedisServer, trouble: Trouble) {
    let register = Arc::new(Register::create().await);
    let history = History::default();
    let proxy = Proxy::start(server.address()).await;
    let clients: Vec<_> = (0..6)
        .map(|nr| {
            // Every second one is behind the proxy.
            let locks = if nr % 2 == 0 {
                locks(&server.url())
            } else {
                locks(&format!("redis://{}", proxy.address()))
            };
            tokio::spawn(client(locks, Arc::clone(&register), history.clone(), nr))
        })
        .collect();
    let mut troubles = 0;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        pause(Duration::from_millis(40)).await;
        match trouble {
            Trouble::None => {}
            Trouble::Flush => server.flush().await,
            Trouble::Restart => server.revive().await,
            Trouble::Cut => {
                proxy.cut();
                pause(Duration::from_millis(60)).await;
                proxy.restore();
            }
        }
        troubles += 1;
    }
    for client in clients {
        client.await.expect("no panic");
    }
    let events = std::mem::take(&mut *history.events.lock().expect("no panic"));
    let count = |wanted: fn(&What) -> bool| events.iter().filter(|e| wanted(&e.what)).count();
    let written = count(|what| matches!(what, What::Wrote { .. }));
    let refused = count(|what| matches!(what, What::Refused { .. }));
    eprintln!("{trouble:?} x {troubles}: {written} written, {refused} refused");
    // Each accepted write adds one: none is lost, none takes effect twice.
    let effects = register.effects(NAME).await;
    let values: Vec<i64> = effects.iter().map(|(_, value)| *value).collect();
    let wanted: Vec<i64> = (1..).take(written).collect();
    assert_eq!(values, wanted);
    assert!(effects.is_sorted_by_key(|(fence, _)| *fence), "{effects:?}");
    assert!(written >= 20, "{written} written");
    if let Err(longest) = linearize(events) {
        panic!("no order explains this; the longest beginning of one: {longest:#?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    Flush,
    Restart,
    Cut,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_linearizable_on_a_healthy_redis() {
    run(RedisServer::start().await, Trouble::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_linearizable_while_redis_is_emptied() {
    run(RedisServer::start().await, Trouble::Flush).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_linearizable_while_redis_is_killed() {
    run(RedisServer::start().await, Trouble::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_linearizable_while_half_are_cut_off() {
    run(RedisServer::start().await, Trouble::Cut).await;
}
