use std::sync::Arc;

use redis::{PushInfo, PushKind, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    connection::{self, Wire},
    fence::Floor,
    keeper::Keeper,
    lease::Held,
    name::Name,
    waiting::Lines,
    *,
};

const SECOND: Duration = Duration::from_secs(1);

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn held(ttl: Duration) -> Arc<Held> {
    let fence = Fence::new(7).expect("a fence");
    let (token, sent) = (Uuid::new_v4(), Instant::now());
    Arc::new(Held::new(name("account/7"), token, fence, ttl, sent))
}

#[test]
fn names_are_what_an_acl_and_a_person_can_read() {
    for good in ["a", "account/7", "Shop-1.eu:stock_2@x", &"x".repeat(200)] {
        assert_eq!(name(good).as_str(), good);
    }
    for (bad, why) in [
        ("", "it is empty"),
        (&*"x".repeat(201), "it is too long"),
        ("account 7", "it has other characters"),
        ("konto/ä", "it has other characters"),
        // The key of the fence is not a valid name.
        ("#fence", "it has other characters"),
    ] {
        let error = Name::parse(bad).expect_err("no name");
        assert!(error.to_string().ends_with(why), "{error}");
        assert!(!error.is_temporary());
    }
    assert_eq!(name("account/7").key(), "lock:account/7");
    assert_eq!(name("account/7").to_string(), "account/7");
}

#[test]
fn fences_are_what_lua_can_count() {
    for good in [0, 1, Fence::HIGHEST.get()] {
        assert_eq!(Fence::new(good).expect("a fence").get(), good);
    }
    for bad in [-1, i64::MIN, Fence::HIGHEST.get() + 1, i64::MAX] {
        assert!(matches!(Fence::new(bad), Err(Error::Fence { given }) if given == bad));
    }
    let floor = Floor::default();
    for (seen, highest) in [(5, 5), (3, 5), (9, 9)] {
        floor.raise(Fence::new(seen).expect("a fence"));
        assert_eq!(floor.on(1).seen.get(), highest);
    }
    // Each connection may be the first one to another Redis, until it has granted a lock.
    assert!(floor.on(1).is_first);
    floor.granted(Fence::new(12).expect("a fence"), 2);
    assert_eq!(floor.on(2).seen.get(), 12);
    assert_eq!([1, 2, 3].map(|n| floor.on(n).is_first), [true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_holder_stops_before_redis_does() {
    let lock = held(10 * SECOND);
    // 1 % for the clocks, 2 ms for rounding.
    let until = Instant::now() + Duration::from_millis(10_000 - 102);
    assert_eq!(lock.until(), until);
    tokio::time::advance(3 * SECOND).await;
    lock.prolonged(Instant::now());
    assert_eq!(lock.until(), until + 3 * SECOND);
    // A reply that was overtaken shortens nothing.
    lock.prolonged(Instant::now() - SECOND);
    assert_eq!(lock.until(), until + 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn lock_is_due_after_a_third_of_its_ttl_unless_it_ended() {
    let keeper = Keeper::default();
    let (long, short, over) = (held(30 * SECOND), held(3 * SECOND), held(3 * SECOND));
    for lock in [&long, &short, &over] {
        keeper.keep(lock);
    }
    assert!(keeper.forget(&over), "its renewals had not ended");
    assert!(!keeper.forget(&over), "once");
    // Released while the keeper renewed it.
    over.renew_after(Instant::now());
    keeper.keep(&over);

    let (due, next) = keeper.take_due(Instant::now());
    assert!(due.is_empty());
    assert_eq!(next, Some(Instant::now() + SECOND));
    tokio::time::advance(SECOND).await;
    let (due, next) = keeper.take_due(Instant::now());
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].token, short.token);
    assert_eq!(next, Some(Instant::now() + 9 * SECOND));

    // `long` is released before it is due. The keeper's wake-up stays: a lock that is kept from now on is due later.
    keeper.forget(&long);
    let (due, next) = keeper.take_due(Instant::now());
    assert!(due.is_empty());
    assert_eq!(next, Some(Instant::now() + 9 * SECOND));
    tokio::time::advance(9 * SECOND).await;
    assert_eq!(keeper.take_due(Instant::now()).1, None);
}

#[tokio::test]
async fn a_line_lives_as_long_as_somebody_waits_in_it() {
    let (lines, account) = (Lines::default(), name("account/7"));
    let first = lines.enter(&account);
    let second = lines.enter(&account);
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!lines.leave(&account), "one is left");

    let released = PushInfo {
        kind: PushKind::Message,
        data: vec![
            Value::BulkString("lock:account/7".into()),
            Value::BulkString(Vec::new()),
        ],
    };
    lines.on_push(&released);
    // The notification is kept for a waiter that is not listening yet.
    first.woken.notified().await;
    // A new connection: releases may have been missed meanwhile.
    lines.wake_all();
    first.woken.notified().await;
    // A release in this process.
    lines.wake(account.key());
    first.woken.notified().await;

    assert!(!lines.leave(&account), "there was no subscription");

    // A line's last waiter unsubscribes; but a new one has joined meanwhile, and will do it when it leaves.
    let client = connection::client("redis://127.0.0.1:1", None).expect("a URL");
    let wire = Wire::new(client, SECOND, Arc::new(|_, _| {}));
    lines.enter(&account);
    lines.ignore(&wire, &account).await;
    assert!(lines.leave(&account), "it is still subscribed");
}

#[tokio::test]
async fn passwords_are_not_shown() {
    let options = Options {
        password: Some("secret".to_owned()),
        ..Options::new("redis://payment:secret@127.0.0.1:1")
    };
    let locks = Locks::new(&options).expect("a URL");
    let shown = format!("{options:?} {locks:?}");
    assert!(!shown.contains("secret"), "{shown}");
    let error = locks.ping().await.expect_err("no server there");
    assert!(error.is_temporary(), "{error:?}");
    assert!(
        !format!("{error} {error:?}").contains("secret"),
        "{error:?}"
    );
}
