//! The time of acknowledging a message: after the commit, and not before.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use holdfast::{
    messaging::{Error, Handler, Incoming, Received, Undecodable, parking},
    outbox::Message,
};
use sqlx::{PgConnection, PgPool, postgres::PgPoolOptions};
use testkit::{Depth, Probe, Proxy, Vhost, eventually};
use tokio::sync::Notify;

use crate::helpers::{
    Asked, Effects, QUEUE, consume, consume_without_waiting, database, decode, effects, message,
    wait_for_effects, wait_for_empty,
};

async fn wait_for_depth(vhost: &Vhost, wanted: Depth) {
    eventually(&format!("{wanted:?}"), || async {
        let depth = vhost.depth(QUEUE).await;
        if depth == wanted {
            Ok(())
        } else {
            Err(format!("{depth:?}"))
        }
    })
    .await;
}

const IN_HAND: Depth = Depth {
    ready: 0,
    unacknowledged: 1,
};
const IN_THE_QUEUE: Depth = Depth {
    ready: 1,
    unacknowledged: 0,
};

/// Makes every commit that wrote an effect wait for the advisory lock 7.
async fn slow_down_commits(pool: &PgPool) {
    sqlx::raw_sql(
        "create function wait_for_seven() returns trigger language plpgsql as
             $$ begin perform pg_advisory_xact_lock(7); return null; end $$;
         create constraint trigger at_commit after insert on effect
             deferrable initially deferred for each row execute function wait_for_seven()",
    )
    .execute(pool)
    .await
    .expect("a trigger");
}

async fn commit_under_way(pool: &PgPool) -> i32 {
    eventually("a commit that waits", || async {
        let pid: Option<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity
             where datname = current_database() and query like '%COMMIT' and wait_event = 'advisory'",
        )
        .fetch_optional(pool)
        .await
        .expect("a look");
        pid.ok_or("none")
    })
    .await
}

/// The guarantee of the module. The consumer loses the broker while its commit is under way, and then the commit fails:
/// if the message had been acknowledged by then, it would be lost.
#[tokio::test]
async fn message_is_acknowledged_only_after_the_commit() {
    let ((_, pool), vhost) = tokio::join!(database("acknowledging"), Vhost::of("payment"));
    slow_down_commits(&pool).await;
    let mut lock = pool.acquire().await.expect("a connection");
    sqlx::query("select pg_advisory_lock(7)")
        .execute(&mut *lock)
        .await
        .expect("locked");
    let probe = Probe::attach(&vhost).await;
    let proxy = Proxy::start(vhost.server()).await;
    let running = consume_without_waiting(
        &vhost.url_via("payment", proxy.address()),
        &pool,
        Effects::new(),
    );
    probe.send(message("kept", "work")).await;
    let committing = commit_under_way(&pool).await;
    wait_for_depth(&vhost, IN_HAND).await;

    proxy.cut();
    wait_for_depth(&vhost, IN_THE_QUEUE).await;
    sqlx::query("select pg_terminate_backend($1)")
        .bind(committing)
        .execute(&pool)
        .await
        .expect("ended");
    sqlx::query("select pg_advisory_unlock(7)")
        .execute(&mut *lock)
        .await
        .expect("unlocked");
    proxy.restore();
    wait_for_effects(&pool, &["kept"]).await;
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}

/// The commit may fail on a constraint that only it checks, after the handler has succeeded.
#[tokio::test]
async fn message_whose_commit_fails_is_not_acknowledged() {
    let ((_, pool), vhost) = tokio::join!(database("acknowledging"), Vhost::of("payment"));
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'not at the commit'; end $$;
         create constraint trigger at_commit after insert on effect
             deferrable initially deferred for each row execute function refuse()",
    )
    .execute(&pool)
    .await
    .expect("a trigger");
    let probe = Probe::attach(&vhost).await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    probe.send(message("refused", "work")).await;
    eventually("a parked message", || async {
        match parking::open(&pool).await.expect("counted") {
            1 => Ok(()),
            n => Err(n),
        }
    })
    .await;
    let parked = parking::list(&pool, "parked", None, 10)
        .await
        .expect("the table is there");
    assert_eq!(parked[0].cause, "exhausted");
    assert!(
        parked[0].detail.contains("not at the commit"),
        "{}",
        parked[0].detail
    );
    running.stop().await;
    vhost.delete().await;
}

/// A handler that loses the reply to the COMMIT after each of its runs, and notes each effect that it is given after a
/// commit.
#[derive(Clone)]
struct Noting {
    effects: Effects,
    proxy: Arc<Proxy>,
    seen: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Noting {
    /// Waits for `count` commits, and returns their effects.
    async fn seen(&self, count: usize) -> Vec<Option<usize>> {
        eventually("a commit", || {
            let seen = self.seen.lock().expect("no test panics with it").clone();
            let enough = seen.len() >= count;
            std::future::ready(if enough {
                Ok(seen)
            } else {
                Err(format!("{seen:?}"))
            })
        })
        .await
    }
}

impl Handler for Noting {
    type Command = Asked;
    type Effect = usize;

    fn decode(&self, event: &Incoming) -> Result<Asked, Undecodable> {
        decode(event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Asked>],
    ) -> Result<usize, Error> {
        self.effects.handle(conn, batch).await?;
        self.proxy.lose_reply();
        Ok(batch.len())
    }

    fn committed(&self, effect: Option<usize>) {
        self.seen
            .lock()
            .expect("no test panics with it")
            .push(effect);
    }
}

/// The run after a COMMIT without a reply finds nothing new, on the same channel or on another one. What the first run
/// led to is passed on nevertheless, once.
#[tokio::test]
async fn effect_survives_the_lost_reply_to_its_commit() {
    for loses_channel in [false, true] {
        let ((database, pool), vhost) =
            tokio::join!(database("acknowledging"), Vhost::of("payment"));
        let probe = Probe::attach(&vhost).await;
        let proxy = Arc::new(Proxy::start(database.server()).await);
        let broker = Proxy::start(vhost.server()).await;
        let through = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_millis(300))
            .connect_lazy(&database.url_via(proxy.address()))
            .expect("the URL is valid");
        let handler = Noting {
            effects: Effects::new(),
            proxy: Arc::clone(&proxy),
            seen: Arc::default(),
        };
        let url = vhost.url_via("payment", broker.address());
        let running = consume(&url, &through, handler.clone()).await;
        let once = message("once", "work");
        probe.send(once.clone()).await;
        // It has committed, and the consumer does not know.
        wait_for_effects(&pool, &["once"]).await;
        if loses_channel {
            broker.cut();
            running.link.down().await;
            broker.restore();
        }
        proxy.restore();
        assert_eq!(handler.seen(1).await, [Some(1)]);

        // It was handled before: nothing has an effect.
        probe.send(once).await;
        assert_eq!(handler.seen(2).await, [Some(1), None]);
        assert_eq!(effects(&pool).await, ["once"]);
        running.stop().await;
        vhost.delete().await;
    }
}

/// The broker ends the consumer while its database is unavailable, e.g. after its consumer timeout. The consumer drops
/// the current batch at once, and subscribes again.
#[tokio::test]
async fn consumer_that_the_broker_ends_subscribes_again() {
    let ((database, pool), vhost) = tokio::join!(database("acknowledging"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let proxy = Proxy::start(database.server()).await;
    let through = PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_millis(300))
        .connect_lazy(&database.url_via(proxy.address()))
        .expect("the URL is valid");
    let running = consume(&vhost.url("payment"), &through, Effects::new()).await;
    probe.send(message("before", "work")).await;
    wait_for_effects(&pool, &["before"]).await;
    wait_for_depth(&vhost, Depth::default()).await;

    proxy.cut();
    let kept = message("kept", "work");
    probe.send(kept.clone()).await;
    wait_for_depth(&vhost, IN_HAND).await;
    // The broker sends `basic.cancel`, and the channel stays open.
    let deleted = vhost.delete_queue(QUEUE).await;
    eventually("a consumer that has noticed", || {
        let noticed = !running.link.is_up();
        std::future::ready(noticed.then_some(()).ok_or("it has not"))
    })
    .await;
    vhost.restore_queue(deleted).await;
    probe.send(kept).await;
    // The database is still unavailable.
    wait_for_depth(&vhost, IN_HAND).await;
    proxy.restore();
    wait_for_effects(&pool, &["before", "kept"]).await;
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}

/// A handler that a message kills: it reports the death, and never returns.
#[derive(Clone)]
struct Mortal {
    effects: Effects,
    died: Arc<Notify>,
    deaths: Arc<AtomicU32>,
}

impl Handler for Mortal {
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
        if batch
            .iter()
            .any(|received| received.command.behave == "kill")
        {
            self.deaths.fetch_add(1, Ordering::SeqCst);
            self.died.notify_one();
            return std::future::pending().await;
        }
        self.effects.handle(conn, batch).await
    }

    fn committed(&self, _: Option<()>) {}
}

/// The process dies at each delivery of one message. Messages that were delivered together with it have as many
/// deliveries, and must not be parked.
#[tokio::test]
async fn message_that_kills_its_consumer_parks_no_neighbour() {
    let ((_, pool), vhost) = tokio::join!(database("killer"), Vhost::with_delivery_limit(6));
    let probe = Probe::attach(&vhost).await;
    let labels: Vec<String> = (0..30).map(|n| format!("{n:02}")).collect();
    let mut messages: Vec<Message> = labels.iter().map(|l| message(l, "work")).collect();
    let killer = message("killer", "kill");
    messages.insert(15, killer.clone());
    probe.send_all(&messages).await;

    let mortal = Mortal {
        effects: Effects::new(),
        died: Arc::default(),
        deaths: Arc::default(),
    };
    let living = async {
        loop {
            let proxy = Proxy::start(vhost.server()).await;
            let url = vhost.url_via("payment", proxy.address());
            let running = consume_without_waiting(&url, &pool, mortal.clone());
            mortal.died.notified().await;
            running.kill();
            proxy.cut();
        }
    };
    let parked = async {
        eventually("a parked message", || async {
            let parked = parking::list(&pool, "parked", None, 100)
                .await
                .expect("the table is there");
            if parked.is_empty() {
                Err("none")
            } else {
                Ok(parked)
            }
        })
        .await
    };
    let parked = tokio::select! {
        () = living => unreachable!(),
        parked = parked => parked,
    };
    assert_eq!(parked.len(), 1, "{parked:#?}");
    assert_eq!(
        (parked[0].message_id, parked[0].cause.as_str()),
        (killer.id, "delivery_limit")
    );
    assert_eq!(mortal.deaths.load(Ordering::SeqCst), 7);
    let running = consume(&vhost.url("payment"), &pool, mortal).await;
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    wait_for_effects(&pool, &labels).await;
    assert_eq!(parking::open(&pool).await.expect("counted"), 1);
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}
