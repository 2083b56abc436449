//! Consumers in other languages, `e2e/consumers`: each reads from a queue of its own what the services publish.
//!
//! They need Python and Node with packages, which `cargo xtask verify consumers` installs before it runs this file.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use chassis::events::Publishing;
use contracts::{
    order::{CancelReason, Customer, OrderCancelled, OrderConfirmed},
    value::{Currency, Money, OrderId},
};
use holdfast::{outbox::Message, telemetry::TraceContext};
use serde_json::{Value, json};
use testkit::{PATIENCE, Probe, Vhost, eventually};
use tokio::{task::spawn_blocking, time::timeout};

/// The account and the queue of `e2e/consumers/broker.json`.
const ACCOUNT: &str = "listener";
const QUEUE: &str = "listener.events";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("consumers")
}

/// Returns the folder of the packages installed for a language.
fn installed(language: &str) -> PathBuf {
    let tools = std::env::var_os("HOLDFAST_CONSUMERS");
    let tools =
        tools.expect("run by `cargo xtask verify consumers`, which installs what this needs");
    Path::new(&tools).join(language)
}

/// A consumer's process, killed on drop so that a failed test leaves none behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns two facts of one order as the order service would publish them, in the trace of [`PARENT`].
fn facts(order_id: OrderId) -> [Message; 2] {
    let customer = Customer {
        id: "alice".parse().expect("an id"),
        email: None,
    };
    let amount = Money::new(1380, Currency::EUR);
    let confirmed = OrderConfirmed {
        order_id,
        order_version: 2,
        customer: customer.clone(),
        amount,
    };
    let cancelled = OrderCancelled {
        order_id,
        order_version: 4,
        reason: CancelReason::Customer,
        customer,
        amount,
        refunded: true,
        settled: false,
    };
    let order = Publishing::by("order");
    let mut messages = [
        order.message(&confirmed, "order/confirm"),
        order.message(&cancelled, "order/cancel"),
    ];
    let trace = TraceContext::parse(PARENT, Some("rojo=1")).expect("a position in a trace");
    for message in &mut messages {
        trace.put_into(&mut message.headers);
    }
    messages
}

/// Publishes two facts of one order, has a consumer read them, and checks what it read.
async fn reads_what_is_published(mut consumer: Command) {
    let vhost = Vhost::create().await;
    let definitions = std::fs::read_to_string(folder().join("broker.json"));
    let definitions = definitions.expect("the account and the queue");
    vhost
        .import(serde_json::from_str(&definitions).expect("JSON"))
        .await;
    let probe = Probe::attach(&vhost).await;
    let order_id = OrderId::new();
    let messages = facts(order_id);
    for message in &messages {
        // Twice, as after a lost confirm.
        probe.send(message.clone()).await;
        probe.send(message.clone()).await;
    }

    let started = consumer
        .arg("2")
        .env("AMQP_URL", vhost.url(ACCOUNT))
        .stdout(Stdio::piped())
        .spawn();
    let mut running = Running(started.expect("it starts"));
    let output = running.0.stdout.take().expect("a pipe");
    // The consumer ends by itself, which closes its output.
    let read = spawn_blocking(move || BufReader::new(output).lines().collect());
    let read: std::io::Result<Vec<String>> = timeout(PATIENCE, read)
        .await
        .expect("it ends in time")
        .expect("no panic");
    let mut lines = read.expect("text").into_iter();
    for (message, kind, step) in [
        (&messages[0], "order.confirmed.v1", "order/confirm"),
        (&messages[1], "order.cancelled.v1", "order/cancel"),
    ] {
        let line = lines.next().expect("a line");
        let read: Value = serde_json::from_str(&line).expect("JSON");
        let data: Value = serde_json::from_slice(&message.payload).expect("JSON");
        let expected = json!({
            "id": message.id, "type": kind, "source": "/order", "order": order_id,
            "key": format!("{order_id}/{step}"),
            "traceparent": PARENT, "tracestate": "rojo=1", "data": data,
        });
        assert_eq!(read, expected);
    }
    let ended = running.0.wait().expect("it ends");
    assert!(ended.success(), "{ended}");
    // The handled messages are acknowledged. One copy may have been requeued when the consumer left.
    eventually("at most the last copy is left", || async {
        let depth = vhost.depth(QUEUE).await;
        if depth.ready + depth.unacknowledged <= 1 {
            Ok(())
        } else {
            Err(format!("{depth:?}"))
        }
    })
    .await;
    vhost.delete().await;
}

#[tokio::test]
#[ignore = "needs Python and its packages: cargo xtask verify consumers"]
async fn python_reads_what_the_services_publish() {
    let mut python = Command::new(installed("python").join("bin/python"));
    python.arg(folder().join("python/consumer.py"));
    reads_what_is_published(python).await;
}

#[tokio::test]
#[ignore = "needs Node and its packages: cargo xtask verify consumers"]
async fn javascript_reads_what_the_services_publish() {
    let mut node = Command::new("node");
    node.arg(installed("javascript").join("consumer.js"));
    reads_what_is_published(node).await;
}
