//! The consumer from the queue to the commit, under every kind of failure.

use std::time::Duration;

use holdfast::{
    messaging::{
        Consumers, Error, Event, Handler, Incoming, Publisher, Received, Subscription, Undecodable,
        parking,
    },
    outbox::Message,
    telemetry::TraceContext,
    transaction,
};
use serde_json::json;
use sqlx::{PgConnection, PgPool, postgres::PgPoolOptions};
use testkit::{Probe, Proxy, Vhost, eventually};
use uuid::Uuid;

use crate::helpers::{
    Asked, Effects, KIND, QUEUE, consume, consume_all, consume_as, consume_without_waiting,
    database, decode, effects, message, raw, wait_for_effects, wait_for_empty,
};

async fn parked(pool: &PgPool, count: usize) -> Vec<parking::Parked> {
    eventually(&format!("{count} parked"), || async {
        let parked = parking::list(pool, "parked", None, 100)
            .await
            .expect("the table is there");
        if parked.len() == count {
            Ok(parked)
        } else {
            Err(format!("{parked:#?}"))
        }
    })
    .await
}

#[tokio::test]
async fn message_takes_effect_once_however_often_it_is_delivered() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let (one, two) = (message("one", "work"), message("two", "work"));
    // Twice in one batch, and once more later.
    probe
        .send_all(&[one.clone(), two.clone(), one.clone()])
        .await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    wait_for_effects(&pool, &["one", "two"]).await;
    probe.send_all(&[two, one, message("three", "work")]).await;
    wait_for_effects(&pool, &["one", "three", "two"]).await;
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn arrived_messages_are_handled_in_one_transaction() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let messages: Vec<Message> = (0..100)
        .map(|n| message(&format!("{n:03}"), "work"))
        .collect();
    probe.send_all(&messages).await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    eventually("100 effects", || async {
        let count = effects(&pool).await.len();
        if count == 100 { Ok(()) } else { Err(count) }
    })
    .await;
    let batches: i64 = sqlx::query_scalar("select count(distinct batch) from effect")
        .fetch_one(&pool)
        .await
        .expect("counted");
    assert!(batches <= 20, "100 messages in {batches} transactions");
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn batch_lingers_for_further_messages() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let subscription = Subscription {
        batch: 5,
        linger: Duration::from_secs(600),
        ..Subscription::new(QUEUE)
    };
    let running = consume_as(&vhost.url("payment"), &pool, subscription, Effects::new());
    running.link.up().await;
    for n in 0..10 {
        probe.send_all(&[message(&n.to_string(), "work")]).await;
    }
    let batches = eventually("10 effects", || async {
        let batches: Vec<i64> =
            sqlx::query_scalar("select count(*) from effect group by batch order by min(label)")
                .fetch_all(&pool)
                .await
                .expect("read");
        if batches.iter().sum::<i64>() == 10 {
            Ok(batches)
        } else {
            Err(format!("{batches:?}"))
        }
    })
    .await;
    assert_eq!(batches, [5, 5]);
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn bad_messages_are_parked_and_good_ones_are_unaffected() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let handler = Effects::new();

    let good: Vec<Message> = (0..20)
        .map(|n| message(&format!("good {n:02}"), "work"))
        .collect();
    let failing = message("failing", "fail");
    let forbidden = message("forbidden", "reject");
    let malformed = raw(KIND, &json!({ "order_id": Uuid::now_v7(), "label": 7 }));
    let unknown = raw(
        "order.created.v9",
        &json!({ "order_id": Uuid::now_v7(), "label": "x", "do": "work" }),
    );
    let panicking = message("panicking", "panic");
    let indigestible = message("indigestible", "panic early");
    let mut no_json = message("no JSON", "work");
    no_json.payload = b"\xff\xfe\x00{".to_vec();
    let mut no_envelope = message("no envelope", "work");
    no_envelope.headers.clear();
    let mut nul = message("NUL", "work");
    nul.headers
        .insert("cloudEvents_subject".into(), "a\0b".into());
    nul.payload = b"{}".to_vec();
    let bad = [
        &failing,
        &forbidden,
        &malformed,
        &unknown,
        &no_json,
        &no_envelope,
        &nul,
        &panicking,
        &indigestible,
    ];
    let mut all = good.clone();
    for (n, message) in bad.iter().enumerate() {
        all.insert(n * 3, (*message).clone());
    }
    probe.send_all(&all).await;
    let running = consume(&vhost.url("payment"), &pool, handler.clone()).await;

    let parked = parked(&pool, bad.len()).await;
    let cause = |message: &Message| {
        let row = parked
            .iter()
            .find(|row| row.message_id == message.id)
            .expect("it is parked");
        assert_eq!(row.payload, message.payload, "parked as it came");
        (row.cause.clone(), row.detail.clone())
    };
    let (why, detail) = cause(&failing);
    assert_eq!(why, "exhausted");
    assert!(
        detail.contains("attempt 5") && detail.contains("it always does"),
        "{detail}"
    );
    // Each message is handled once with its batch, and then alone at each of its five attempts.
    assert!(
        (5..=10).contains(&handler.attempts()),
        "{} attempts",
        handler.attempts()
    );
    assert_eq!(
        cause(&forbidden),
        ("rejected".into(), "that must not be".into())
    );
    assert_eq!(
        cause(&malformed),
        ("malformed".into(), "label or do is missing".into())
    );
    assert!(cause(&unknown).1.contains("order.created.v9") && cause(&unknown).0 == "unknown_type");
    assert_eq!(cause(&no_json).0, "malformed");
    assert!(
        cause(&no_envelope)
            .1
            .contains("cloudEvents_specversion is missing")
    );
    assert_eq!(cause(&nul).0, "malformed");
    let (why, detail) = cause(&panicking);
    assert!(
        why == "exhausted" && detail.contains("panicked: an index out of bounds"),
        "{why}: {detail}"
    );
    let (why, detail) = cause(&indigestible);
    assert!(
        why == "malformed" && detail.contains("panicked: a decoder"),
        "{why}: {detail}"
    );

    let labels: Vec<String> = (0..20).map(|n| format!("good {n:02}")).collect();
    assert_eq!(
        effects(&pool).await,
        labels,
        "the good, once each; of the bad, nothing"
    );
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn message_that_succeeds_at_the_third_attempt_is_handled() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let handler = Effects::new();
    let running = consume(&vhost.url("payment"), &pool, handler.clone()).await;
    probe.send(message("patient", "fail twice")).await;
    wait_for_effects(&pool, &["patient"]).await;
    assert_eq!(handler.attempts(), 3);
    wait_for_empty(&vhost).await;
    assert_eq!(parking::open(&pool).await.expect("counted"), 0);
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn conflict_costs_no_attempt() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    // The delays are so long that the test would time out if it needed one of them.
    let far = Vhost::with_delays(&[3_600_000; 4]).await;
    let probe = Probe::attach(&far).await;
    let handler = Effects::new();
    let running = consume(&far.url("payment"), &pool, handler.clone()).await;
    probe.send(message("unlucky", "conflict five times")).await;
    wait_for_effects(&pool, &["unlucky"]).await;
    assert_eq!(handler.attempts(), 6);
    running.stop().await;
    far.delete().await;
    vhost.delete().await;
}

/// A handler that updates two rows in the order that the message id gives. Two consumers with different orders
/// deadlock.
#[derive(Clone)]
struct Crosswise;

impl Handler for Crosswise {
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
            let forwards = received.event.id.as_u128() % 2 == 0;
            for row in if forwards { [1, 2] } else { [2, 1] } {
                sqlx::query("update account set balance = balance + 1 where id = $1")
                    .bind(row)
                    .execute(&mut *conn)
                    .await?;
            }
        }
        Ok(())
    }

    fn committed(&self, _: Option<()>) {}
}

#[tokio::test]
async fn deadlock_is_rerun_and_costs_no_attempt() {
    let ((_, pool), far) = tokio::join!(database("consumer"), Vhost::with_delays(&[3_600_000; 4]));
    sqlx::query("create table account (id int primary key, balance bigint not null)")
        .execute(&pool)
        .await
        .expect("made");
    sqlx::query("insert into account values (1, 0), (2, 0)")
        .execute(&pool)
        .await
        .expect("filled");
    // PostgreSQL looks for a deadlock after this time.
    sqlx::query("alter system set deadlock_timeout = '20ms'")
        .execute(&pool)
        .await
        .expect("a superuser may");
    sqlx::query("select pg_reload_conf()")
        .execute(&pool)
        .await
        .expect("a superuser may");
    let probe = Probe::attach(&far).await;
    let pools: Vec<PgPool> = (0..2)
        .map(|_| {
            PgPoolOptions::new()
                .max_connections(4)
                .connect_lazy_with((*pool.connect_options()).clone())
        })
        .collect();
    let one = consume(&far.url("payment"), &pools[0], Crosswise).await;
    let other = consume(&far.url("payment"), &pools[1], Crosswise).await;
    let messages: Vec<Message> = (0..300).map(|n| message(&format!("{n}"), "work")).collect();
    probe.send_all(&messages).await;
    eventually("every update, on both rows", || async {
        let balances: Vec<i64> = sqlx::query_scalar("select balance from account order by id")
            .fetch_all(&pool)
            .await
            .expect("read");
        if balances == [300, 300] {
            Ok(())
        } else {
            Err(format!("{balances:?}"))
        }
    })
    .await;
    assert_eq!(parking::open(&pool).await.expect("counted"), 0);
    one.stop().await;
    other.stop().await;
    far.delete().await;
}

#[tokio::test]
async fn unavailable_database_costs_no_attempt() {
    let ((database, pool), far) =
        tokio::join!(database("consumer"), Vhost::with_delays(&[3_600_000; 4]));
    let probe = Probe::attach(&far).await;
    let proxy = Proxy::start(database.server()).await;
    let through = PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_millis(300))
        .connect_lazy(&database.url_via(proxy.address()))
        .expect("the URL is valid");
    let running = consume(&far.url("payment"), &through, Effects::new()).await;
    probe.send(message("before", "work")).await;
    wait_for_effects(&pool, &["before"]).await;

    proxy.cut();
    probe
        .send_all(&[
            message("meanwhile 1", "work"),
            message("meanwhile 2", "work"),
        ])
        .await;
    // The consumer keeps the messages while it waits for the database.
    eventually("messages in hand", || async {
        let depth = far.depth(QUEUE).await;
        if depth.unacknowledged == 2 {
            Ok(())
        } else {
            Err(format!("{depth:?}"))
        }
    })
    .await;
    proxy.restore();
    wait_for_effects(&pool, &["before", "meanwhile 1", "meanwhile 2"]).await;
    assert_eq!(parking::open(&pool).await.expect("counted"), 0);
    running.stop().await;
    far.delete().await;
}

#[tokio::test]
async fn an_outage_of_the_broker_loses_nothing_and_repeats_nothing() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let proxy = Proxy::start(vhost.server()).await;
    let running = consume_without_waiting(
        &vhost.url_via("payment", proxy.address()),
        &pool,
        Effects::new(),
    );
    let mut labels = Vec::new();
    for round in 0..5 {
        let messages: Vec<Message> = (0..20)
            .map(|n| message(&format!("{round} {n:02}"), "work"))
            .collect();
        labels.extend((0..20).map(|n| format!("{round} {n:02}")));
        probe.send_all(&messages).await;
        // The outage comes in the middle of a batch.
        proxy.cut();
        vhost.close_connections("test consumer").await;
        proxy.restore();
    }
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    wait_for_effects(&pool, &labels).await;
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn missing_queue_is_waited_for() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    // The user of inventory may not read payment's queue, which is to it as if it did not exist.
    let running = consume_without_waiting(&vhost.url("inventory"), &pool, Effects::new());
    let probe = Probe::attach(&vhost).await;
    probe.send(message("not for you", "work")).await;
    let other = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    wait_for_effects(&pool, &["not for you"]).await;
    other.stop().await;
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn a_queue_that_cannot_be_consumed_stops_no_other() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let queues = ["payment.nowhere", QUEUE];
    let running = consume_all(&vhost.url("payment"), &pool, &queues, Effects::new());
    for label in ["one", "two"] {
        probe.send(message(label, "work")).await;
        eventually(label, || async {
            let seen = effects(&pool).await;
            if seen.iter().any(|seen| seen == label) {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await;
    }
    assert!(
        !running.link.is_up(),
        "one of two queues is not all of them"
    );
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn a_paused_queue_keeps_its_messages_and_is_no_outage() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    running.receiving.up().await;
    assert!(running.controls.pause(QUEUE, true));
    running.receiving.down().await;
    probe.send(message("meanwhile", "work")).await;
    eventually("a message that waits", || async {
        let depth = vhost.depth(QUEUE).await;
        if (depth.ready, depth.unacknowledged) == (1, 0) {
            Ok(())
        } else {
            Err(format!("{depth:?}"))
        }
    })
    .await;
    // For readiness the connection counts as up.
    running.link.up().await;
    assert!(effects(&pool).await.is_empty());

    // A connection that breaks does not end the pause.
    eventually("a closed connection", || async {
        match vhost.close_connections("test consumer").await {
            0 => Err("the broker does not list it yet"),
            _ => Ok(()),
        }
    })
    .await;
    probe.send(message("thereafter", "work")).await;
    eventually("two messages that wait", || async {
        let depth = vhost.depth(QUEUE).await;
        if depth.ready == 2 && running.link.is_up() {
            Ok(())
        } else {
            Err(format!("{depth:?}"))
        }
    })
    .await;
    assert!(!running.receiving.is_up());
    assert!(running.controls.pause(QUEUE, false));
    wait_for_effects(&pool, &["meanwhile", "thereafter"]).await;
    running.receiving.up().await;
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn message_that_keeps_killing_its_consumer_is_parked() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::with_delivery_limit(3));
    let probe = Probe::attach(&vhost).await;
    let killer = message("killer", "work");
    probe.send(killer.clone()).await;
    die_with_the_first_message(&vhost, 4).await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    let parked = parked(&pool, 1).await;
    assert_eq!(
        (parked[0].message_id, parked[0].cause.as_str()),
        (killer.id, "delivery_limit")
    );
    assert_eq!(effects(&pool).await, Vec::<String>::new());
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn a_suspect_in_company_holds_back_no_neighbour() {
    let ((_, pool), vhost) = tokio::join!(database("consumer"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let subscription = Subscription {
        batch: 1,
        prefetch: 3,
        ..Subscription::new(QUEUE)
    };
    let running = consume_as(&vhost.url("payment"), &pool, subscription, Effects::new());
    running.link.up().await;
    // A first message ends the careful start. Then three are in hand, and none gets on.
    probe.send(message("0", "work")).await;
    wait_for_effects(&pool, &["0"]).await;
    let mut held = transaction::begin(&pool).await.expect("a transaction");
    sqlx::query("lock table effect in exclusive mode")
        .execute(&mut *held)
        .await
        .expect("a lock");
    let messages: Vec<Message> = ["1", "2", "3", "4 suspect", "5", "6"]
        .map(|label| message(label, "work"))
        .into();
    probe.send_all(&messages).await;
    eventually("three messages in hand", || async {
        let depth = vhost.depth(QUEUE).await;
        if (depth.ready, depth.unacknowledged) == (3, 3) {
            Ok(())
        } else {
            Err(format!("{depth:?}"))
        }
    })
    .await;
    die_with_the_first_message(&vhost, 2).await;
    held.rollback().await.expect("a rollback");
    let all = ["0", "1", "2", "3", "4 suspect", "5", "6"];
    wait_for_effects(&pool, &all).await;
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}

/// Takes the first message of the queue, and closes the channel without an acknowledgement, this many times.
async fn die_with_the_first_message(vhost: &Vhost, times: usize) {
    let url = vhost.url("payment");
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default())
        .await
        .expect("the broker answers");
    for _ in 0..times {
        eventually("a delivery", || async {
            let channel = connection.create_channel().await.expect("a channel");
            let got = channel
                .basic_get(QUEUE.into(), lapin::options::BasicGetOptions::default())
                .await;
            let got = got.expect("an answer").is_some();
            channel.close(200, "died".into()).await.expect("closed");
            if got { Ok(()) } else { Err("nothing") }
        })
        .await;
    }
}

#[tokio::test]
async fn consumers_show_their_queues_and_no_password() {
    let pool = PgPool::connect_lazy("postgres://localhost/nowhere").expect("a URL");
    let url = "amqp://payment:secret@localhost/nowhere";
    let publisher = Publisher::new(url, "test publisher");
    let consumers = Consumers::new(url, "test consumer", publisher, pool)
        .consume(Subscription::new(QUEUE), Effects::new());
    let shown = format!("{consumers:?}");
    assert!(shown.contains("test consumer"), "{shown}");
    assert!(shown.contains(QUEUE), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_trace_goes_on_through_a_message() {
    let vhost = Vhost::of("payment").await;
    let probe = Probe::attach(&vhost).await;
    let mut event = Event::new(KIND, "/order", Uuid::now_v7().to_string(), b"{}".to_vec());
    event.trace = TraceContext::parse(
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        Some("rojo=1,congo=t61rcWkgMzE"),
    );
    let subject = event.subject.clone();
    probe
        .send(event.into_message("events", format!("choreography.{KIND}")))
        .await;
    let seen = probe.wait_for(KIND, subject).await;
    assert_eq!(
        seen.headers["traceparent"],
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    );
    vhost.delete().await;
}
