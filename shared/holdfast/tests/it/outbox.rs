//! A state change and the message about it happen both or not at all.

mod pace;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use holdfast::{
    backoff::Backoff,
    messaging::Publisher,
    outbox::{self, Config, Message, Outcome, Relay, Unavailable, Waker},
    transaction,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use sqlx::PgPool;
use testkit::{Probe, Proxy, Vhost, eventually};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::helpers::{database, message};

fn config() -> Config {
    Config {
        batch: 10,
        max_attempts: 3,
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(5)).expect("valid"),
        ..Config::default()
    }
}

fn relay(
    url: &str,
    pool: &PgPool,
    waker: &Waker,
) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let shutdown = CancellationToken::new();
    let publisher = Publisher::new(url, "relay");
    let relay = Relay::new(pool.clone(), publisher, waker.clone(), config());
    (shutdown.clone(), tokio::spawn(relay.run(shutdown)))
}

async fn enqueue(pool: &PgPool, messages: &[Message]) {
    let mut tx = transaction::begin(pool).await.expect("a transaction");
    outbox::enqueue(&mut tx, messages).await.expect("rows");
    tx.commit().await.expect("a commit");
}

async fn wait_for_empty(pool: &PgPool) {
    eventually("an empty outbox", || async {
        let backlog = outbox::backlog(pool).await.expect("the table is there");
        if backlog.waiting + backlog.quarantined == 0 {
            Ok(())
        } else {
            Err(format!("{backlog:?}"))
        }
    })
    .await;
}

fn subjects(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| message.headers["cloudEvents_subject"].clone())
        .collect()
}

#[tokio::test]
async fn committed_row_is_published_once_and_rolled_back_row_never() {
    let ((_, pool), vhost) = tokio::join!(database("outbox"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let waker = Waker::default();
    let (stop, task) = relay(&vhost.url("order"), &pool, &waker);

    let undone = message("undone", "work");
    let mut tx = transaction::begin(&pool).await.expect("a transaction");
    outbox::enqueue(&mut tx, std::slice::from_ref(&undone))
        .await
        .expect("rows");
    tx.rollback().await.expect("a rollback");
    let done: Vec<Message> = (0..35)
        .map(|n| message(&format!("done {n}"), "work"))
        .collect();
    enqueue(&pool, &done).await;
    waker.wake();

    wait_for_empty(&pool).await;
    for (message, subject) in done.iter().zip(subjects(&done)) {
        let seen = probe.wait_for("order.created.v1", &subject).await;
        assert_eq!(
            (seen.id, seen.headers),
            (message.id, message.headers.clone())
        );
        assert_eq!(seen.routing_key, "choreography.order.created.v1");
        assert_eq!(probe.seen(&subject).len(), 1);
    }
    assert!(probe.seen(&subjects(&[undone])[0]).is_empty());
    stop.cancel();
    task.await.expect("the relay does not panic");
    vhost.delete().await;
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let ((_, pool), vhost) = tokio::join!(database("outbox"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let (stop, task) = relay(&vhost.url("order"), &pool, &Waker::default());

    // The late transaction takes the lower number, and commits after the higher one was published.
    let (late, early) = (message("late", "work"), message("early", "work"));
    let mut slow = transaction::begin(&pool).await.expect("a transaction");
    outbox::enqueue(&mut slow, std::slice::from_ref(&late))
        .await
        .expect("rows");
    enqueue(&pool, std::slice::from_ref(&early)).await;
    let [early, late] =
        [&early, &late].map(|message| message.headers["cloudEvents_subject"].clone());
    probe.wait_for("order.created.v1", &early).await;
    assert!(probe.seen(&late).is_empty());
    slow.commit().await.expect("a commit");

    // The relay is not woken: its poll finds the row.
    probe.wait_for("order.created.v1", &late).await;
    wait_for_empty(&pool).await;
    stop.cancel();
    task.await.expect("the relay does not panic");
    vhost.delete().await;
}

#[tokio::test]
async fn any_number_of_relays_share_the_work() {
    let ((_, pool), vhost) = tokio::join!(database("outbox"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let messages: Vec<Message> = (0..200).map(|n| message(&format!("{n}"), "work")).collect();
    enqueue(&pool, &messages).await;
    let waker = Waker::default();
    let relays: Vec<_> = (0..3)
        .map(|_| relay(&vhost.url("order"), &pool, &waker))
        .collect();
    wait_for_empty(&pool).await;
    for subject in subjects(&messages) {
        probe.wait_for("order.created.v1", &subject).await;
        assert_eq!(probe.seen(&subject).len(), 1, "published by one relay only");
    }
    for (stop, task) in relays {
        stop.cancel();
        task.await.expect("the relay does not panic");
    }
    vhost.delete().await;
}

#[tokio::test]
async fn refused_row_is_quarantined_and_holds_up_no_other() {
    let ((_, pool), vhost) = tokio::join!(database("outbox"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let (stop, task) = relay(&vhost.url("order"), &pool, &Waker::default());

    // No queue is bound to the key; there is no such exchange; order's user may not publish for payment.
    let mut unroutable = message("unroutable", "work");
    unroutable.exchange = "retry.order".to_owned();
    unroutable.routing_key = "nobody".to_owned();
    let mut nowhere = message("nowhere", "work");
    nowhere.exchange = "no such exchange".to_owned();
    let mut forbidden = message("forbidden", "work");
    forbidden.routing_key = "choreography.payment.completed.v1".to_owned();
    let good: Vec<Message> = (0..5)
        .map(|n| message(&format!("good {n}"), "work"))
        .collect();
    let mut all = vec![unroutable.clone(), nowhere.clone(), forbidden.clone()];
    all.extend(good.clone());
    enqueue(&pool, &all).await;

    for subject in subjects(&good) {
        probe.wait_for("order.created.v1", &subject).await;
    }
    let aside = eventually("three quarantined rows", || async {
        let aside = outbox::quarantined(&pool, 10)
            .await
            .expect("the table is there");
        if aside.len() == 3 {
            Ok(aside)
        } else {
            Err(format!("{aside:?}"))
        }
    })
    .await;
    let error = |id: Uuid| {
        let row = aside
            .iter()
            .find(|row| row.message_id == id)
            .expect("it is quarantined");
        assert_eq!(row.attempts, 3);
        row.last_error.clone().unwrap_or_default()
    };
    assert!(
        error(unroutable.id).contains("NO_ROUTE"),
        "{}",
        error(unroutable.id)
    );
    assert!(
        error(nowhere.id).contains("no such exchange"),
        "{}",
        error(nowhere.id)
    );
    assert!(
        error(forbidden.id).contains("ACCESS_REFUSED"),
        "{}",
        error(forbidden.id)
    );

    // An operator repairs the cause and releases the row.
    sqlx::query("update outbox set exchange = 'events', routing_key = 'choreography.order.created.v1' where message_id = $1")
        .bind(unroutable.id)
        .execute(&pool)
        .await
        .expect("repaired");
    assert!(
        outbox::release(&pool, unroutable.id)
            .await
            .expect("released")
    );
    assert!(!outbox::release(&pool, Uuid::now_v7()).await.expect("asked"));
    probe
        .wait_for("order.created.v1", &subjects(&[unroutable])[0])
        .await;
    stop.cancel();
    task.await.expect("the relay does not panic");
    vhost.delete().await;
}

#[tokio::test]
async fn an_outage_of_the_broker_costs_no_attempt_and_loses_nothing() {
    let ((_, pool), vhost) = tokio::join!(database("outbox"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let proxy = Proxy::start(vhost.server()).await;
    let waker = Waker::default();
    let (stop, task) = relay(&vhost.url_via("order", proxy.address()), &pool, &waker);
    let first = message("first", "work");
    enqueue(&pool, std::slice::from_ref(&first)).await;
    probe
        .wait_for("order.created.v1", &subjects(&[first])[0])
        .await;
    // A message that the probe has seen may not be confirmed yet.
    wait_for_empty(&pool).await;

    proxy.cut();
    let meanwhile: Vec<Message> = (0..25).map(|n| message(&format!("{n}"), "work")).collect();
    enqueue(&pool, &meanwhile).await;
    waker.wake();
    // The relay tries to connect, without success.
    eventually("attempts to connect", || async {
        let backlog = outbox::backlog(&pool).await.expect("the table is there");
        if backlog.waiting == 25 && backlog.oldest_seconds > 0.5 {
            Ok(())
        } else {
            Err(format!("{backlog:?}"))
        }
    })
    .await;
    let attempts: i32 = sqlx::query_scalar("select max(attempts) from outbox")
        .fetch_one(&pool)
        .await
        .expect("rows");
    assert_eq!(attempts, 0);

    proxy.restore();
    wait_for_empty(&pool).await;
    for subject in subjects(&meanwhile) {
        probe.wait_for("order.created.v1", &subject).await;
    }
    stop.cancel();
    task.await.expect("the relay does not panic");
    vhost.delete().await;
}

#[tokio::test]
async fn a_stopping_relay_publishes_what_is_committed() {
    let ((_, pool), vhost) = tokio::join!(database("outbox"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let messages: Vec<Message> = (0..30).map(|n| message(&format!("{n}"), "work")).collect();
    enqueue(&pool, &messages).await;
    let (stop, task) = relay(&vhost.url("order"), &pool, &Waker::default());
    stop.cancel();
    task.await.expect("the relay does not panic");
    assert_eq!(
        outbox::backlog(&pool)
            .await
            .expect("the table is there")
            .waiting,
        0
    );
    for subject in subjects(&messages) {
        probe.wait_for("order.created.v1", &subject).await;
    }
    vhost.delete().await;
}

/// A broker that cannot store anything for some rounds.
#[derive(Clone)]
struct Sick(Arc<AtomicU32>);

impl outbox::Publisher for Sick {
    async fn ready(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn publish(&self, batch: &[Message]) -> Vec<Outcome> {
        let well = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_err();
        let outcome = if well {
            Outcome::Confirmed
        } else {
            Outcome::Nacked
        };
        vec![outcome; batch.len()]
    }
}

#[tokio::test]
async fn a_broker_that_cannot_store_is_waited_for() {
    let (_, pool) = database("outbox").await;
    // Many more rounds than a refused message would have attempts.
    let sick = Sick(Arc::new(AtomicU32::new(30)));
    let messages: Vec<Message> = (0..5).map(|n| message(&format!("{n}"), "work")).collect();
    enqueue(&pool, &messages).await;
    let stop = CancellationToken::new();
    let relay = Relay::new(pool.clone(), sick.clone(), Waker::default(), config());
    let task = tokio::spawn(relay.run(stop.clone()));
    wait_for_empty(&pool).await;
    assert_eq!(sick.0.load(Ordering::Relaxed), 0);
    stop.cancel();
    task.await.expect("the relay does not panic");
}

/// A broker with an outcome for each message and round, written down beforehand. After the last of them it confirms.
#[derive(Clone)]
struct Scripted(Arc<Mutex<Script>>);

struct Script {
    outcomes: HashMap<Uuid, VecDeque<Outcome>>,
    /// The ids of the messages that were published, in order.
    published: Vec<Uuid>,
    /// The number of rounds that a relay began.
    rounds: usize,
}

impl Scripted {
    fn new<const N: usize>(outcomes: [(&Message, Vec<Outcome>); N]) -> Self {
        let outcomes = outcomes.map(|(message, outcomes)| (message.id, outcomes.into()));
        Self(Arc::new(Mutex::new(Script {
            outcomes: outcomes.into(),
            published: Vec::new(),
            rounds: 0,
        })))
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of times that a message was published.
    fn published(&self, message: &Message) -> usize {
        let script = self.script();
        let published = script.published.iter();
        published.filter(|id| **id == message.id).count()
    }

    /// Runs a relay with this publisher until `end`.
    async fn relay<T>(&self, pool: &PgPool, end: impl Future<Output = T>) -> T {
        self.relay_with(pool, &Waker::default(), config(), end)
            .await
    }

    /// Runs a relay with this publisher and configuration until `end`.
    async fn relay_with<T>(
        &self,
        pool: &PgPool,
        waker: &Waker,
        config: Config,
        end: impl Future<Output = T>,
    ) -> T {
        let stop = CancellationToken::new();
        let relay = Relay::new(pool.clone(), self.clone(), waker.clone(), config);
        let task = tokio::spawn(relay.run(stop.clone()));
        let ended = end.await;
        stop.cancel();
        task.await.expect("the relay does not panic");
        ended
    }
}

impl outbox::Publisher for Scripted {
    async fn ready(&self) -> Result<(), Unavailable> {
        self.script().rounds += 1;
        Ok(())
    }

    async fn publish(&self, batch: &[Message]) -> Vec<Outcome> {
        let mut script = self.script();
        let mut outcomes = Vec::new();
        for Message { id, .. } in batch {
            script.published.push(*id);
            let next = script.outcomes.get_mut(id).and_then(VecDeque::pop_front);
            outcomes.push(next.unwrap_or(Outcome::Confirmed));
        }
        outcomes
    }
}

/// A relay loses nothing in an outage because it deletes only confirmed rows. A batch whose connection broke half way
/// has rows of both kinds.
#[tokio::test]
async fn row_of_unknown_outcome_stays_and_is_published_again() {
    let (_, pool) = database("outbox").await;
    let [first, second, third] = [1, 2, 3].map(|n| message(&format!("{n}"), "work"));
    let scripted = Scripted::new([
        (&second, vec![Outcome::Unknown; 3]),
        (&third, vec![Outcome::Unknown]),
    ]);
    enqueue(&pool, &[first.clone(), second.clone(), third.clone()]).await;
    scripted.relay(&pool, wait_for_empty(&pool)).await;
    let times = [&first, &second, &third].map(|message| scripted.published(message));
    assert_eq!(times, [1, 4, 2], "each until it is confirmed");
}

/// A row may have more unknown outcomes than refusals, because they say nothing about the row.
#[tokio::test]
async fn unknown_outcomes_count_no_attempt() {
    let (_, pool) = database("outbox").await;
    let one = message("one", "work");
    let mut outcomes = vec![Outcome::Unknown; 4];
    outcomes.push(Outcome::Refused("not this one".to_owned()));
    let scripted = Scripted::new([(&one, outcomes)]);
    enqueue(&pool, std::slice::from_ref(&one)).await;
    scripted.relay(&pool, wait_for_empty(&pool)).await;
    assert_eq!(scripted.published(&one), 6);
}

/// A full queue nacks for minutes; a refusal among the nacks is still the first attempt.
#[tokio::test]
async fn nacks_count_no_attempt_towards_quarantine() {
    let (_, pool) = database("outbox").await;
    let one = message("one", "work");
    // `config` allows three refusals.
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        outcomes.extend(vec![Outcome::Nacked; 9]);
        outcomes.push(Outcome::Refused("not this one".to_owned()));
    }
    let scripted = Scripted::new([(&one, outcomes)]);
    enqueue(&pool, std::slice::from_ref(&one)).await;
    let put_aside = eventually("a quarantined row", || async {
        let aside = outbox::quarantined(&pool, 10)
            .await
            .expect("the table is there");
        aside.into_iter().next().ok_or("none")
    });
    let aside = scripted.relay(&pool, put_aside).await;
    assert_eq!((aside.attempts, scripted.published(&one)), (3, 30));
}

/// A broker that does not take messages.
#[derive(Clone, Copy, Debug)]
enum Unwilling {
    /// It cannot be reached.
    Away,
    /// It accepts a batch and never confirms it, like a broker that blocks its publishers.
    Silent,
    /// It loses the connection with each batch.
    Broken,
    /// It cannot store anything, so that every batch stays a full one.
    Full,
}

impl outbox::Publisher for Unwilling {
    async fn ready(&self) -> Result<(), Unavailable> {
        match self {
            Self::Away => Err(Unavailable("nobody answers".to_owned())),
            _ => Ok(()),
        }
    }

    async fn publish(&self, batch: &[Message]) -> Vec<Outcome> {
        match self {
            Self::Away | Self::Silent => std::future::pending().await,
            Self::Broken => vec![Outcome::Unknown; batch.len()],
            Self::Full => vec![Outcome::Nacked; batch.len()],
        }
    }
}

#[tokio::test]
async fn backlog_is_sampled_in_every_state_of_the_relay() {
    for unwilling in [
        Unwilling::Away,
        Unwilling::Silent,
        Unwilling::Broken,
        Unwilling::Full,
    ] {
        let (_, pool) = database("outbox").await;
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        // A test's runtime has one thread, so this recorder sees the relay's task and no other test's.
        let _here = metrics::set_default_local_recorder(&recorder);
        let stop = CancellationToken::new();
        let config = Config {
            sample: Duration::from_millis(20),
            ..config()
        };
        let relay = Relay::new(pool.clone(), unwilling, Waker::default(), config);
        let task = tokio::spawn(relay.run(stop));
        // The first rows hold up the relay; the gauges must also show the row that comes after them.
        let batch: Vec<Message> = (0..10).map(|n| message(&format!("{n}"), "work")).collect();
        enqueue(&pool, &batch).await;
        for waiting in [10, 11] {
            eventually(&format!("{waiting} that wait, {unwilling:?}"), || async {
                let text = metrics.render();
                let gauge = |name: &str| {
                    let mut lines = text.lines();
                    let value = lines.find_map(|line| line.strip_prefix(name));
                    value.unwrap_or_default().to_owned()
                };
                let (rows, age) = (gauge("outbox_waiting "), gauge("outbox_oldest_seconds "));
                if rows == waiting.to_string() && age.parse::<f64>().is_ok_and(|age| age > 0.1) {
                    Ok(())
                } else {
                    Err(format!("{rows} rows, {age} s"))
                }
            })
            .await;
            enqueue(&pool, &[message("later", "work")]).await;
        }
        task.abort();
    }
}
