//! A database that is up but cannot do the work now: it is too slow, locked, or ends a session.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast::{
    backoff::pause,
    messaging::{Error, Handler, Incoming, Received, Subscription, Undecodable, parking},
    outbox::Message,
    transaction,
};
use sqlx::{
    AssertSqlSafe, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use testkit::{Probe, Proxy, Vhost, eventually};

use crate::helpers::{
    Asked, QUEUE, consume, consume_as, database, decode, effects, message, wait_for_effects,
    wait_for_empty,
};

/// The latest delivery of a message to its handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Came {
    /// The number of times that the handler had the message.
    times: u32,
    attempt: u32,
    put_off: u32,
}

/// A handler that runs the SQL in the message, and writes an effect.
#[derive(Clone, Default)]
struct Obedient(Arc<Mutex<BTreeMap<String, Came>>>);

impl Obedient {
    fn came(&self, label: &str) -> Came {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(label).copied().unwrap_or_default()
    }

    fn comes(&self, Received { event, command, .. }: &Received<Asked>) -> Came {
        let put_off = event.headers.get("holdfast-put-off");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let came = all.entry(command.label.clone()).or_default();
        *came = Came {
            times: came.times + 1,
            attempt: event.attempt,
            put_off: put_off.map_or(0, |times| times.parse().expect("a number")),
        };
        *came
    }
}

impl Handler for Obedient {
    type Command = Asked;
    type Effect = ();

    fn decode(&self, event: &Incoming) -> Result<Asked, Undecodable> {
        decode(event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Asked>],
    ) -> Result<(), Error> {
        for received in batch {
            let Came { times, .. } = self.comes(received);
            let Asked { label, behave } = &received.command;
            match behave.as_str() {
                "hang" => std::future::pending::<()>().await,
                // The process is frozen for so long, the first time only.
                "freeze once" if times == 1 => pause(Duration::from_secs(1)).await,
                "freeze once" => {}
                sql => {
                    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
                        .execute(&mut *conn)
                        .await?;
                }
            }
            sqlx::query("insert into effect (message_id, label, batch) values ($1, $2, $1)")
                .bind(received.event.id)
                .bind(label)
                .execute(&mut *conn)
                .await?;
        }
        Ok(())
    }

    fn committed(&self, _: Option<()>) {}
}

/// Returns a pool whose sessions have this setting.
fn pool_with(pool: &PgPool, setting: &str, value: &str) -> PgPool {
    let options: PgConnectOptions = (*pool.connect_options()).clone();
    PgPoolOptions::new()
        .max_connections(4)
        .connect_lazy_with(options.options([(setting, value)]))
}

/// Returns nine messages that work, with one that does not in the middle, and the labels of the nine.
fn nine_and(label: &str, behave: &str) -> (Vec<Message>, Vec<String>) {
    let labels: Vec<String> = (0..9).map(|n| format!("good {n}")).collect();
    let mut messages: Vec<Message> = labels.iter().map(|l| message(l, "select 1")).collect();
    messages.insert(4, message(label, behave));
    (messages, labels)
}

async fn wait_for_parked(pool: &PgPool) -> parking::Parked {
    eventually("a parked message", || async {
        let mut parked = parking::list(pool, "parked", None, 100)
            .await
            .expect("the table is there");
        parked.pop().ok_or("none")
    })
    .await
}

/// A database whose network is gone looks slow: each transaction runs into its limit. It is not the messages' fault.
#[tokio::test]
async fn database_that_answers_nothing_costs_no_attempt() {
    let ((database, pool), vhost) = tokio::join!(database("silent"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let proxy = Proxy::start(database.server()).await;
    let through = PgPoolOptions::new()
        .max_connections(4)
        .connect_lazy(&database.url_via(proxy.address()))
        .expect("the URL is valid");
    let subscription = Subscription {
        transaction: Duration::from_millis(300),
        ..Subscription::new(QUEUE)
    };
    let obedient = Obedient::default();
    let running = consume_as(
        &vhost.url("payment"),
        &through,
        subscription,
        obedient.clone(),
    );
    probe.send(message("before", "select 1")).await;
    wait_for_effects(&pool, &["before"]).await;

    proxy.pause();
    let before = proxy.connections();
    probe.send(message("meanwhile", "select 1")).await;
    // A message that is given up after three timeouts makes no further connections.
    eventually("six more connections", || async {
        match proxy.connections() - before {
            6.. => Ok(()),
            more => Err(format!("{more} more")),
        }
    })
    .await;
    proxy.restore();
    wait_for_effects(&pool, &["before", "meanwhile"]).await;
    assert_eq!(obedient.came("meanwhile").attempt, 1);
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn message_that_is_always_too_slow_stops_no_neighbour() {
    let ((_, pool), vhost) = tokio::join!(database("slow"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let (messages, labels) = nine_and("slow", "select pg_sleep(60)");
    probe.send_all(&messages).await;
    let hasty = pool_with(&pool, "statement_timeout", "300");
    let running = consume(&vhost.url("payment"), &hasty, Obedient::default()).await;
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    wait_for_effects(&pool, &labels).await;
    let parked = wait_for_parked(&pool).await;
    assert_eq!(parked.cause, "exhausted");
    assert!(
        parked.detail.contains("attempt 5") && parked.detail.contains("statement timeout"),
        "{}",
        parked.detail
    );
    assert_eq!(effects(&pool).await, labels);
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn handler_that_hangs_stops_no_neighbour() {
    let ((_, pool), vhost) = tokio::join!(database("slow"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let (messages, labels) = nine_and("hanging", "hang");
    probe.send_all(&messages).await;
    let subscription = Subscription {
        transaction: Duration::from_millis(500),
        ..Subscription::new(QUEUE)
    };
    let running = consume_as(
        &vhost.url("payment"),
        &pool,
        subscription,
        Obedient::default(),
    );
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    wait_for_effects(&pool, &labels).await;
    assert_eq!(wait_for_parked(&pool).await.cause, "exhausted");
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn locked_row_costs_no_attempt_and_stops_no_neighbour() {
    let ((_, pool), vhost) = tokio::join!(database("locked"), Vhost::of("payment"));
    sqlx::raw_sql("create table kept (id int primary key); insert into kept values (1)")
        .execute(&pool)
        .await
        .expect("a row");
    let mut holder = transaction::begin(&pool).await.expect("a transaction");
    sqlx::query("select * from kept for update")
        .execute(&mut *holder)
        .await
        .expect("locked");
    let probe = Probe::attach(&vhost).await;
    let (messages, mut labels) = nine_and("locked out", "update kept set id = 1");
    probe.send_all(&messages).await;
    let handler = Obedient::default();
    let impatient = pool_with(&pool, "lock_timeout", "10");
    let running = consume(&vhost.url("payment"), &impatient, handler.clone()).await;
    let good: Vec<&str> = labels.iter().map(String::as_str).collect();
    wait_for_effects(&pool, &good).await;
    // The message is put off more often than the retry schedule has attempts.
    eventually("more rounds than there are attempts", || async {
        let came = handler.came("locked out");
        if came.put_off > 5 {
            Ok(())
        } else {
            Err(format!("{came:?}"))
        }
    })
    .await;
    assert_eq!(parking::open(&pool).await.expect("counted"), 0);
    holder.rollback().await.expect("given up");
    labels.push("locked out".to_owned());
    let all: Vec<&str> = labels.iter().map(String::as_str).collect();
    wait_for_effects(&pool, &all).await;
    assert_eq!(handler.came("locked out").attempt, 1);
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}

/// A table may be locked by an operator's `alter table` that waits for another transaction.
#[tokio::test]
async fn locked_table_costs_no_attempt() {
    let ((_, pool), vhost) = tokio::join!(database("locked"), Vhost::of("payment"));
    let mut holder = transaction::begin(&pool).await.expect("a transaction");
    sqlx::query("lock table effect in access exclusive mode")
        .execute(&mut *holder)
        .await
        .expect("locked");
    let probe = Probe::attach(&vhost).await;
    let labels: Vec<String> = (0..10).map(|n| format!("label {n}")).collect();
    let messages: Vec<Message> = labels.iter().map(|l| message(l, "select 1")).collect();
    probe.send_all(&messages).await;
    let handler = Obedient::default();
    let impatient = pool_with(&pool, "lock_timeout", "10");
    let running = consume(&vhost.url("payment"), &impatient, handler.clone()).await;
    eventually("a message that was put off", || async {
        let came: Vec<Came> = labels.iter().map(|label| handler.came(label)).collect();
        if came.iter().any(|came| came.put_off > 0) {
            Ok(())
        } else {
            Err(format!("{came:?}"))
        }
    })
    .await;
    holder.rollback().await.expect("given up");
    let all: Vec<&str> = labels.iter().map(String::as_str).collect();
    wait_for_effects(&pool, &all).await;
    for label in &labels {
        assert_eq!(handler.came(label).attempt, 1, "{label}");
    }
    assert_eq!(parking::open(&pool).await.expect("counted"), 0);
    running.stop().await;
    vhost.delete().await;
}

/// The process is frozen (SIGSTOP and SIGCONT, or a suspended machine), and the server ends the session meanwhile.
#[tokio::test]
async fn process_that_was_frozen_charges_no_attempt() {
    let ((_, pool), far) = tokio::join!(database("frozen"), Vhost::with_delays(&[3_600_000; 4]));
    let probe = Probe::attach(&far).await;
    let handler = Obedient::default();
    let strict = pool_with(&pool, "idle_in_transaction_session_timeout", "100");
    probe.send(message("frozen", "freeze once")).await;
    let running = consume(&far.url("payment"), &strict, handler.clone()).await;
    wait_for_effects(&pool, &["frozen"]).await;
    assert_eq!(
        handler.came("frozen"),
        Came {
            times: 2,
            attempt: 1,
            put_off: 0
        }
    );
    running.stop().await;
    far.delete().await;
}
