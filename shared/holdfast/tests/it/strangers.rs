//! Messages that no publisher of this project sends: without an id, with another message's id, with headers of any size
//! and kind. Each becomes a row in the parking lot, and other messages are unaffected.

use holdfast::messaging::parking::{self, Parked};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use sqlx::PgPool;
use testkit::{Probe, Vhost, eventually};
use uuid::Uuid;

use crate::helpers::{
    Effects, KIND, QUEUE, consume, database, message, wait_for_effects, wait_for_empty,
};

/// A publisher without rules.
struct Stranger {
    channel: Channel,
    _connection: Connection,
}

impl Stranger {
    async fn connect(vhost: &Vhost) -> Self {
        let connection = Connection::connect(&vhost.url("admin"), ConnectionProperties::default())
            .await
            .expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        Self {
            channel,
            _connection: connection,
        }
    }

    /// Publishes a message to a queue of the service, and waits for the confirm.
    async fn send(&self, queue: &str, properties: BasicProperties, payload: &[u8]) {
        let confirm = self
            .channel
            .basic_publish(
                // The default exchange routes to every queue by its name.
                "".into(),
                queue.into(),
                BasicPublishOptions::default(),
                payload,
                properties,
            )
            .await
            .expect("sent");
        assert!(confirm.await.expect("an answer").is_ack());
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// Returns the properties that carry these headers.
fn with_headers(headers: FieldTable) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers)
}

/// Returns the properties of a valid message of this type, with `more` headers.
fn envelope(kind: &str, more: FieldTable) -> BasicProperties {
    let ours = message("enveloped", "work");
    let mut headers = more;
    for (name, value) in &ours.headers {
        headers.insert(ShortString::from(name.as_str()), text(value));
    }
    headers.insert("cloudEvents_type".into(), text(kind));
    with_headers(headers).with_message_id(ours.id.to_string().into())
}

async fn rows(pool: &PgPool, state: &str, count: usize) -> Vec<Parked> {
    eventually(&format!("{count} {state}"), || async {
        let rows = parking::list(pool, state, None, 100)
            .await
            .expect("the table is there");
        if rows.len() == count {
            Ok(rows)
        } else {
            Err(format!("{rows:#?}"))
        }
    })
    .await
}

/// Messages that are equal in every byte were still confirmed to their publisher one by one.
#[tokio::test]
async fn equal_messages_without_an_id_are_a_row_each() {
    let ((_, pool), vhost) = tokio::join!(database("strangers"), Vhost::of("payment"));
    let stranger = Stranger::connect(&vhost).await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;

    stranger
        .send(QUEUE, BasicProperties::default(), b"{}")
        .await;
    let first = rows(&pool, "parked", 1).await.remove(0);
    assert_eq!(first.cause, "malformed");
    let mut conn = pool.acquire().await.expect("a connection");
    parking::discard(&mut conn, first.id, "olga", "nonsense")
        .await
        .expect("dropped");
    drop(conn);
    for _ in 0..3 {
        stranger
            .send(QUEUE, BasicProperties::default(), b"{}")
            .await;
    }
    rows(&pool, "parked", 3).await;

    // The same in the dead-letter queue, where the broker moves messages itself.
    let dead = format!("{QUEUE}.dead");
    for _ in 0..2 {
        stranger
            .send(&dead, BasicProperties::default(), b"{}")
            .await;
    }
    rows(&pool, "parked", 5).await;
    wait_for_empty(&vhost).await;
    rows(&pool, "parked", 5).await;
    rows(&pool, "dropped", 1).await;
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn messages_that_share_an_id_are_a_row_each() {
    let ((_, pool), vhost) = tokio::join!(database("strangers"), Vhost::of("payment"));
    let stranger = Stranger::connect(&vhost).await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    let id = Uuid::now_v7();
    let named = || BasicProperties::default().with_message_id(id.to_string().into());
    // The second message repeats the first; the third is another one with the same id.
    for payload in [&b"{}"[..], b"{}", b"[]"] {
        stranger.send(QUEUE, named(), payload).await;
    }
    let parked = rows(&pool, "parked", 2).await;
    wait_for_empty(&vhost).await;
    rows(&pool, "parked", 2).await;
    assert_eq!(
        (parked[0].message_id, &parked[0].payload[..]),
        (id, &b"{}"[..])
    );
    assert_ne!(parked[1].message_id, id);
    assert_eq!(parked[1].payload, b"[]");
    assert!(
        parked[1].detail.contains(&id.to_string()),
        "{}",
        parked[1].detail
    );
    running.stop().await;
    vhost.delete().await;
}

/// Returns `depth` tables, one in the other, around a text of `length` bytes.
fn nested(depth: usize, length: usize) -> AMQPValue {
    let mut value = text(&"x".repeat(length));
    for _ in 0..depth {
        let mut table = FieldTable::default();
        table.insert("t".into(), value);
        value = AMQPValue::FieldTable(table);
    }
    value
}

#[tokio::test]
async fn headers_of_any_size_cost_no_connection() {
    let ((_, pool), vhost) = tokio::join!(database("strangers"), Vhost::of("payment"));
    let stranger = Stranger::connect(&vhost).await;
    let probe = Probe::attach(&vhost).await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    let lost = tokio::spawn({
        let link = running.link.clone();
        async move { link.down().await }
    });

    let large = |length: usize| {
        let mut headers = FieldTable::default();
        headers.insert("baggage".into(), text(&"x".repeat(length)));
        headers
    };
    // With the headers of parking, 16,020 bytes were more than a frame of 16 KiB. The last length fills a frame of the
    // broker's 128 KiB, which leaves no room for the headers of parking.
    let lengths = [16_020, 20_000, 100_000, 130_000];
    probe.send(message("before", "work")).await;
    for length in lengths {
        stranger
            .send(QUEUE, envelope("order.created.v9", large(length)), b"{}")
            .await;
    }
    let mut tables = FieldTable::default();
    tables.insert("tables".into(), nested(50, 100_000));
    stranger
        .send(QUEUE, envelope("order.created.v9", tables), b"{}")
        .await;
    // The dead-letter queue, where the broker moves messages itself.
    let dead = format!("{QUEUE}.dead");
    stranger
        .send(&dead, envelope(KIND, large(100_000)), b"{}")
        .await;
    probe.send(message("after", "work")).await;

    wait_for_effects(&pool, &["after", "before"]).await;
    let parked = rows(&pool, "parked", 6).await;
    let of = |length: usize| {
        parked.iter().find(|row| {
            row.headers
                .get("baggage")
                .is_some_and(|b| b.len() == length)
        })
    };
    for length in &lengths[..3] {
        let whole = of(*length).unwrap_or_else(|| panic!("{length} bytes are kept"));
        assert!(!whole.detail.contains("left out"), "{}", whole.detail);
    }
    let cut: Vec<&Parked> = parked
        .iter()
        .filter(|row| row.detail.contains("left out: 1 of "))
        .collect();
    assert_eq!(cut.len(), 1, "{parked:#?}");
    assert_eq!(cut[0].cause, "unknown_type");
    assert_eq!(cut[0].kind.as_deref(), Some("order.created.v9"));
    assert!(!cut[0].headers.contains_key("baggage"));
    wait_for_empty(&vhost).await;
    assert!(!lost.is_finished(), "no connection was lost on the way");
    running.stop().await;
    vhost.delete().await;
}

/// A retried message is published again by the consumer, with its headers.
#[tokio::test]
async fn retried_message_keeps_its_large_headers() {
    let ((_, pool), vhost) = tokio::join!(database("strangers"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    let mut heavy = message("heavy", "fail twice");
    heavy
        .headers
        .insert("baggage".to_owned(), "x".repeat(100_000));
    probe.send(heavy).await;
    wait_for_effects(&pool, &["heavy"]).await;
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}
