//! The spans of messages: of each attempt to publish, of each delivery, and of batches.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use holdfast::{
    messaging::{Error, Event, Handler, Incoming, Publisher, Received, Undecodable},
    outbox::{self, Message, Outcome, Publisher as _},
    telemetry::{self, Exporter, Sampling, TraceContext},
    transaction,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use sqlx::{PgConnection, PgPool, types::Json};
use testkit::{Probe, Vhost, eventually};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;

use super::{CALLER, Collector, Seen, VERSION, setup};
use crate::helpers::{
    Effects, KIND, QUEUE, consume, database, message, wait_for_effects, wait_for_empty,
};

/// The same trace as `CALLER`'s, which its caller does not keep.
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A scope in which this thread is traced. Each test has a thread of its own, with a runtime in it.
struct Traced {
    collector: Collector,
    provider: SdkTracerProvider,
    _guard: DefaultGuard,
}

impl Traced {
    fn start() -> Self {
        setup();
        let collector = Collector::start();
        let exporter = Exporter::Otlp {
            endpoint: collector.url(""),
        };
        let provider = telemetry::provider("test", VERSION, &[exporter], Sampling::default())
            .expect("an exporter");
        let subscriber = tracing_subscriber::registry().with(telemetry::layer("test", &provider));
        Self {
            collector,
            provider,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// Waits for `count` ended spans whose names begin like this, and returns them.
    async fn spans(&self, name: &str, count: usize) -> Vec<Seen> {
        eventually(&format!("{count} spans {name:?}"), || async {
            self.provider.force_flush().expect("it is taken");
            let spans = self.collector.otlp_spans();
            let found: Vec<Seen> = spans
                .iter()
                .filter(|span| span.name.starts_with(name))
                .cloned()
                .collect();
            if found.len() == count {
                Ok(found)
            } else {
                Err(format!("{spans:#?}"))
            }
        })
        .await
    }
}

/// Returns a message that was written in a trace.
fn traced(label: &str, behave: &str, traceparent: &str) -> Message {
    let mut message = message(label, behave);
    let header = ("traceparent".to_owned(), traceparent.to_owned());
    message.headers.extend([header]);
    message
}

fn caller_of(n: u8) -> (String, String) {
    let trace = format!("{n:02x}{}", &CALLER[5..35]);
    (format!("00-{trace}{}", &CALLER[35..]), trace)
}

async fn publish_alone(publisher: &Publisher, label: &str) {
    let outcomes = publisher.publish(&[message(label, "work")]).await;
    assert_eq!(outcomes, [Outcome::Confirmed]);
}

/// A batch has a span of its own. It is linked with the spans of its messages, each of which is in its message's trace,
/// below the span that sent the message.
#[tokio::test]
async fn batch_is_linked_with_its_messages_and_each_with_its_sender() {
    let ((_, pool), vhost) = tokio::join!(database("traces"), Vhost::of("payment"));
    let traced_here = Traced::start();
    let callers: Vec<(String, String)> = (1..=3).map(caller_of).collect();
    let messages: Vec<Message> = callers
        .iter()
        .enumerate()
        .map(|(n, (caller, _))| traced(&n.to_string(), "work", caller))
        .collect();
    let publisher = Publisher::new(vhost.url("order"), "test");
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    // The first message of a channel is handled alone. The three arrive while the second is being handled, so they are
    // a batch.
    publish_alone(&publisher, "a").await;
    wait_for_effects(&pool, &["a"]).await;
    let mut holder = transaction::begin(&pool).await.expect("a transaction");
    sqlx::query("lock table effect")
        .execute(&mut *holder)
        .await
        .expect("a lock");
    publish_alone(&publisher, "b").await;
    let outcomes = publisher.publish(&messages).await;
    assert_eq!(outcomes, vec![Outcome::Confirmed; 3]);
    eventually("all four are in hand", || async {
        let depth = vhost.depth(QUEUE).await;
        if depth.unacknowledged == 4 {
            Ok(())
        } else {
            Err(format!("{depth:?}"))
        }
    })
    .await;
    holder.rollback().await.expect("a rollback");
    wait_for_effects(&pool, &["0", "1", "2", "a", "b"]).await;

    let destination = format!("events:choreography.{KIND}");
    let sent = traced_here.spans(&format!("send {destination}"), 5).await;
    let processed = traced_here
        .spans(&format!("process {destination}:{QUEUE}"), 5)
        .await;
    let sending = traced_here.spans("send batch", 1).await.remove(0);
    let received = traced_here
        .spans(&format!("receive {QUEUE}"), 1)
        .await
        .remove(0);
    let committed = traced_here.spans(&format!("TRANSACTION {QUEUE}"), 3).await;
    let committed = committed
        .iter()
        .find(|span| span.parent.as_deref() == Some(received.id.as_str()))
        .unwrap_or_else(|| panic!("no transaction below the batch: {committed:#?}"));
    for ((caller, trace), message) in callers.iter().zip(&messages) {
        let of = |spans: &[Seen]| {
            let found = spans.iter().find(|span| span.trace == *trace);
            found
                .unwrap_or_else(|| panic!("{trace} in {spans:#?}"))
                .clone()
        };
        let (sent, processed) = (of(&sent), of(&processed));
        assert_eq!((sent.kind, processed.kind), ("producer", "consumer"));
        assert_eq!(sent.parent.as_deref(), Some(&caller[36..52]));
        assert_eq!(processed.parent.as_deref(), Some(sent.id.as_str()));
        for span in [&sent, &processed] {
            assert_eq!(span.attributes["messaging.system"], "rabbitmq");
            assert_eq!(
                span.attributes["messaging.message.id"],
                message.id.to_string()
            );
        }
        assert!(sending.links.contains(&(trace.clone(), sent.id.clone())));
        assert!(
            received
                .links
                .contains(&(trace.clone(), processed.id.clone()))
        );
        // The link leads back, too: from the message's trace to the batch.
        assert_eq!(
            processed.links,
            [(received.trace.clone(), received.id.clone())]
        );
    }
    for batch in [&sending, &received] {
        assert_eq!((batch.parent.as_deref(), batch.links.len()), (None, 3));
        assert_eq!(batch.attributes["messaging.batch.message_count"], "3");
    }
    assert_eq!(committed.attributes["db.system.name"], "postgresql");
    running.stop().await;
    publisher.close().await;
    vhost.delete().await;
}

#[tokio::test]
async fn each_retry_is_below_the_attempt_that_failed() {
    let ((_, pool), vhost) = tokio::join!(database("traces"), Vhost::of("payment"));
    let traced_here = Traced::start();
    let publisher = Publisher::new(vhost.url("order"), "test");
    let outcomes = publisher
        .publish(&[traced("again", "fail twice", CALLER)])
        .await;
    assert_eq!(outcomes, [Outcome::Confirmed]);
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    wait_for_effects(&pool, &["again"]).await;
    wait_for_empty(&vhost).await;

    // Deliveries 1 to 3; the second and the third come from delay queues.
    let mut deliveries = traced_here.spans("process ", 3).await;
    deliveries.sort_by_key(|span| span.attributes["holdfast.attempt"].clone());
    let sends = traced_here.spans("send ", 3).await;
    assert!(
        deliveries.iter().all(|span| span.trace == CALLER[3..35]),
        "{deliveries:#?}"
    );
    let mut above = CALLER[36..52].to_owned();
    for (n, delivery) in deliveries.iter().enumerate() {
        assert_eq!(delivery.attributes["holdfast.attempt"], (n + 1).to_string());
        let sent = sends
            .iter()
            .find(|sent| Some(&sent.id) == delivery.parent.as_ref())
            .unwrap_or_else(|| panic!("{delivery:#?} in {sends:#?}"));
        assert_eq!(sent.parent.as_ref(), Some(&above), "{sent:#?}");
        let error = delivery.attributes.get("error.type").map(String::as_str);
        assert_eq!(error, (n < 2).then_some("retried"));
        above.clone_from(&delivery.id);
        // The message is alone in its batch, so the transaction is below the message itself.
        let transactions = traced_here.spans("TRANSACTION ", 3).await;
        assert!(
            transactions
                .iter()
                .any(|span| span.parent.as_ref() == Some(&delivery.id))
        );
    }
    let names: Vec<&str> = deliveries.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(
        names,
        [
            format!("process events:choreography.{KIND}:{QUEUE}"),
            format!("process {QUEUE}"),
            format!("process {QUEUE}"),
        ]
    );
    running.stop().await;
    publisher.close().await;
    vhost.delete().await;
}

#[tokio::test]
async fn parked_message_has_its_cause_in_its_trace() {
    let ((_, pool), vhost) = tokio::join!(database("traces"), Vhost::of("payment"));
    let traced_here = Traced::start();
    let publisher = Publisher::new(vhost.url("order"), "test");
    publisher
        .publish(&[traced("never", "reject", CALLER)])
        .await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    let refused = traced_here.spans("process events:", 1).await.remove(0);
    assert_eq!(refused.attributes["error.type"], "rejected");
    assert_eq!(refused.error.as_deref(), Some("that must not be"));
    // The parking lot's own delivery is in the same trace.
    let parked = traced_here
        .spans(&format!("process retry.payment:{QUEUE}.dead"), 1)
        .await
        .remove(0);
    assert_eq!(parked.trace, refused.trace);
    wait_for_empty(&vhost).await;
    running.stop().await;
    publisher.close().await;
    vhost.delete().await;
}

/// A handler that notes the trace context of each delivery, fails the first two, and publishes a message with the
/// third.
#[derive(Clone, Default)]
struct Noting {
    seen: Arc<Mutex<Vec<TraceContext>>>,
}

impl Handler for Noting {
    type Command = ();
    type Effect = ();

    fn decode(&self, _: &Incoming) -> Result<(), Undecodable> {
        Ok(())
    }

    async fn handle(&self, conn: &mut PgConnection, batch: &[&Received<()>]) -> Result<(), Error> {
        for received in batch {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.extend(received.event.trace.clone());
            if seen.len() < 3 {
                return Err(Error::Failed("it does twice".into()));
            }
        }
        for Received { event, span, .. } in batch {
            let data = event.data.clone();
            let said = span.in_scope(|| Event::new(KIND, "/test", event.subject.clone(), data));
            let said = said.into_message("events", format!("choreography.{KIND}"));
            outbox::enqueue(conn, &[said]).await?;
        }
        Ok(())
    }

    fn committed(&self, _: Option<()>) {}
}

/// Waits for the one row in the outbox, and returns its headers.
async fn said(pool: &PgPool) -> BTreeMap<String, String> {
    eventually("a row in the outbox", || async {
        let rows: Vec<Json<BTreeMap<String, String>>> =
            sqlx::query_scalar("select headers from outbox")
                .fetch_all(pool)
                .await
                .expect("the table is there");
        match <[_; 1]>::try_from(rows) {
            Ok([Json(headers)]) => Ok(headers),
            Err(rows) => Err(rows.len()),
        }
    })
    .await
}

#[tokio::test]
async fn trace_state_goes_on_through_retries_and_the_outbox() {
    let ((_, pool), vhost) = tokio::join!(database("traces"), Vhost::of("payment"));
    // A key that level 2 allows, and that OpenTelemetry's own type refuses.
    let state = "rojo=00f067aa0ba902b7,tenant@@system=1";
    for (sampled, caller) in [(true, CALLER), (false, UNSAMPLED)] {
        let _traced = Traced::start();
        let publisher = Publisher::new(vhost.url("order"), "test");
        let mut message = traced("again", "", caller);
        let header = ("tracestate".to_owned(), state.to_owned());
        message.headers.extend([header]);
        let outcomes = publisher.publish(&[message]).await;
        assert_eq!(outcomes, [Outcome::Confirmed]);
        let noting = Noting::default();
        let running = consume(&vhost.url("payment"), &pool, noting.clone()).await;
        let headers = said(&pool).await;
        let last = TraceContext::from_headers(&headers).expect("it is part of a trace");
        let seen = noting.seen.lock().expect("no panic").clone();
        assert_eq!(seen.len(), 3, "{seen:#?}");
        for context in seen.iter().chain([&last]) {
            assert_eq!(context.trace_id(), CALLER[3..35]);
            assert_eq!(context.tracestate(), Some(state));
            assert_eq!(context.is_sampled(), sampled);
        }
        sqlx::query("delete from outbox")
            .execute(&pool)
            .await
            .expect("the table is there");
        wait_for_empty(&vhost).await;
        running.stop().await;
        publisher.close().await;
    }
    vhost.delete().await;
}

#[tokio::test]
async fn malformed_trace_headers_of_a_message_are_not_sent() {
    let vhost = Vhost::of("payment").await;
    let _traced = Traced::start();
    let publisher = Publisher::new(vhost.url("order"), "test");
    let probe = Probe::attach(&vhost).await;
    for (parent, state, goes_on) in [
        (CALLER, "rojo=1,Congo=2", true),
        (UNSAMPLED, "rojo=1,Congo=2", true),
        (&CALLER[..54], "rojo=1", false),
    ] {
        let mut message = traced("one", "work", parent);
        let header = ("tracestate".to_owned(), state.to_owned());
        message.headers.extend([header]);
        let subject = message.headers["cloudEvents_subject"].clone();
        assert_eq!(publisher.publish(&[message]).await, [Outcome::Confirmed]);
        let seen = probe.wait_for(KIND, subject).await;
        let sent = TraceContext::from_headers(&seen.headers).expect("a trace");
        assert_eq!(sent.trace_id() == CALLER[3..35], goes_on, "{seen:?}");
        assert_eq!(seen.headers.get("tracestate"), None, "{seen:?}");
    }
    publisher.close().await;
    vhost.delete().await;
}
