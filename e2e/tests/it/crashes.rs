//! Processes that die at each failpoint, and at random moments. Every order comes to rest all the same.

use std::{collections::BTreeSet, path::Path};

use load_tests::traffic::Ending;
use testkit::Probe;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use xtask::wiring::SERVICES;

use crate::system::System;

/// The cause that brings a service to a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Orders of every ending.
    Orders,
    /// A message that fails: the service's failpoint of this name fails every message until the service dies.
    Failing(&'static str),
    /// A message to this queue that cannot be decoded.
    Poison(&'static str),
    /// A reply that does not come: this service is stopped until the other one has died.
    Away(&'static str),
    /// Orders with a webhook endpoint registered.
    Webhook,
}

const fn orders(point: &'static str) -> (&'static str, By) {
    (point, By::Orders)
}

const fn failing(by: &'static str) -> (&'static str, By) {
    ("consumer.after_divert", By::Failing(by))
}

const fn poison(queue: &'static str) -> (&'static str, By) {
    ("parking.before_ack", By::Poison(queue))
}

const fn away(point: &'static str, service: &'static str) -> (&'static str, By) {
    (point, By::Away(service))
}

const ORDER: &[(&str, By)] = &[
    orders("order.after_commit"),
    orders("outbox.before_publish"),
    orders("outbox.mid_publish"),
    orders("outbox.after_publish"),
    orders("order.mid_batch"),
    orders("consumer.before_commit"),
    orders("consumer.after_commit"),
    failing("order.handle"),
    poison("order.choreography"),
    poison("order.commands"),
];

const PAYMENT: &[(&str, By)] = &[
    orders("payment.after_lock"),
    orders("payment.before_card_call"),
    orders("payment.after_card_call"),
    orders("outbox.before_publish"),
    orders("outbox.mid_publish"),
    orders("outbox.after_publish"),
    orders("payment.mid_batch"),
    orders("consumer.before_commit"),
    orders("consumer.after_commit"),
    failing("payment.handle"),
    poison("payment.choreography"),
    poison("payment.commands"),
];

const INVENTORY: &[(&str, By)] = &[
    orders("outbox.before_publish"),
    orders("outbox.mid_publish"),
    orders("outbox.after_publish"),
    orders("inventory.mid_batch"),
    orders("consumer.before_commit"),
    orders("consumer.after_commit"),
    failing("inventory.handle"),
    poison("inventory.choreography"),
    poison("inventory.commands"),
];

const NOTIFICATION: &[(&str, By)] = &[
    orders("notification.mid_batch"),
    orders("notification.after_smtp"),
    ("notification.after_webhook", By::Webhook),
    orders("consumer.before_commit"),
    orders("consumer.after_commit"),
    failing("notification.handle"),
    poison("notification.choreography"),
    poison("notification.commands"),
];

const ORCHESTRATOR: &[(&str, By)] = &[
    orders("orchestrator.mid_batch"),
    away("orchestrator.mid_sweep", "payment"),
    orders("outbox.before_publish"),
    orders("outbox.mid_publish"),
    orders("outbox.after_publish"),
    orders("consumer.before_commit"),
    orders("consumer.after_commit"),
    failing("orchestrator.handle"),
    poison("orchestrator.commands"),
    poison("orchestrator.replies"),
];

const CARD_PROCESSOR: &[(&str, By)] = &[
    orders("card_processor.accepted"),
    orders("card_processor.decided"),
];

/// Has `service` abort at each point, one after the other, while orders of every ending are under way.
async fn aborts_at(service: &'static str, points: &[(&'static str, By)]) {
    // The webhook endpoint listens on this machine.
    let here = [
        ("WEBHOOK_ALLOW_HTTP", "true"),
        ("WEBHOOK_ALLOW_PRIVATE", "true"),
    ];
    let system = System::start_with(&here).await;
    for (point, by) in points {
        let mut failpoints = format!("{point}=return(abort)");
        if let By::Failing(handler) = by {
            failpoints = format!("{failpoints};{handler}=return");
        }
        if *by == By::Webhook {
            listened_to(&system).await;
        }
        system.stop(service).await;
        let mut settings = vec![("FAILPOINTS", &*failpoints)];
        if let By::Away(other) = by {
            system.stop(other).await;
            // The orchestrator misses the reply at once.
            settings.extend([("SAGA_PACE", "1"), ("SAGA_POLL_MS", "50")]);
        }
        system.revive(service, &settings);
        if let By::Poison(queue) = by {
            poisoned(&system.probe, queue).await;
        }
        // Two orders of each ending by both ways, so that there are batches. They are accepted once all services are
        // back.
        let both = async { tokio::join!(system.place_all_both(), system.place_all_both()) };
        let crash = async {
            system.aborted(service, point).await;
            system.revive(service, &[]);
            if let By::Away(other) = by {
                system.revive(other, &[]);
            }
        };
        let ((first, second), ()) = tokio::join!(both, crash);
        system.ready(service).await;
        system.ended_as_expected(&first).await;
        system.ended_as_expected(&second).await;
        if let By::Poison(queue) = by {
            parked_once(&system, service, queue).await;
        }
    }
    system.end().await;
}

/// Registers a webhook endpoint for every order, which accepts every request.
async fn listened_to(system: &System) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // One read returns the whole of so small a request, or at least its head; the rest is ignored.
            let mut request = [0; 8192];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let url = format!("http://{address}/");
    let endpoint = system
        .as_operator("notification", reqwest::Method::POST, "/webhooks")
        .json(&serde_json::json!({ "url": url }));
    testkit::answer(endpoint).await.expect(201);
}

/// Sends bytes that are not a message straight to a queue.
async fn poisoned(probe: &Probe, queue: &str) {
    probe
        .send(holdfast::outbox::Message {
            id: uuid::Uuid::now_v7(),
            exchange: holdfast::messaging::retry_exchange(queue),
            routing_key: queue.to_owned(),
            headers: std::collections::BTreeMap::new(),
            payload: b"\xff not a message".to_vec(),
        })
        .await;
}

/// Checks that the message was parked once, however often it was delivered. Then drops it, so that the books agree
/// again.
async fn parked_once(system: &System, service: &str, queue: &str) {
    let parked = testkit::eventually("it is parked", || async {
        let parked = system.parked(service).await;
        if parked.is_empty() {
            Err("nothing is parked")
        } else {
            Ok(parked)
        }
    })
    .await;
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert_eq!(
        (&parked[0]["queue"], &parked[0]["cause"]),
        (&queue.into(), &"malformed".into())
    );
    let id = parked[0]["id"].as_str().expect("an id");
    let path = format!("/operator/parked/{id}/drop");
    let drop = system
        .as_operator(service, reqwest::Method::POST, &path)
        .json(&serde_json::json!({ "note": "a test's" }));
    assert!(testkit::answer(drop).await.status.is_success());
}

#[tokio::test]
async fn order_aborts_at_every_point() {
    aborts_at("order", ORDER).await;
}

#[tokio::test]
async fn payment_aborts_at_every_point() {
    aborts_at("payment", PAYMENT).await;
}

#[tokio::test]
async fn inventory_aborts_at_every_point() {
    aborts_at("inventory", INVENTORY).await;
}

#[tokio::test]
async fn notification_aborts_at_every_point() {
    aborts_at("notification", NOTIFICATION).await;
}

#[tokio::test]
async fn the_orchestrator_aborts_at_every_point() {
    aborts_at("orchestrator", ORCHESTRATOR).await;
}

#[tokio::test]
async fn the_card_processor_aborts_at_every_point() {
    aborts_at("card-processor", CARD_PROCESSOR).await;
}

/// A failpoint that no test aborts at is not known to be safe.
#[test]
fn no_failpoint_is_left_out() {
    let mut in_code = BTreeSet::new();
    for folder in ["services", "shared/holdfast/src", "shared/chassis/src"] {
        points_in(&xtask::workspace::root().join(folder), &mut in_code);
    }
    let aborted_at: BTreeSet<String> = [
        ORDER,
        PAYMENT,
        INVENTORY,
        NOTIFICATION,
        ORCHESTRATOR,
        CARD_PROCESSOR,
    ]
    .iter()
    .flat_map(|points| points.iter().map(|(point, _)| (*point).to_owned()))
    .collect();
    assert_eq!(in_code, aborted_at);
}

fn points_in(folder: &Path, points: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            points_in(&path, points);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("our code is text");
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                if let Some((_, rest)) = line.split_once("failpoint!(\"") {
                    let (point, _) = rest.split_once('"').expect("a string ends");
                    points.insert(point.to_owned());
                }
            }
        }
    }
}

#[tokio::test]
async fn each_process_is_killed_under_traffic() {
    let system = System::start().await;
    let mut placed = Vec::new();
    for service in SERVICES {
        let orders = async {
            let mut placed = Vec::new();
            for _ in 0..3 {
                placed.extend(system.place_all_both().await);
            }
            placed
        };
        let kill = async {
            // By then at least one order of this round has been published.
            let before = system.probe.count("order.created.v1");
            testkit::eventually("an order is under way", || async {
                if system.probe.count("order.created.v1") > before + 3 {
                    Ok(())
                } else {
                    Err("none yet")
                }
            })
            .await;
            system.kill(service);
            system.revive(service, &[]);
        };
        let (more, ()) = tokio::join!(orders, kill);
        placed.extend(more);
        system.ready(service).await;
    }
    system.ended_as_expected(&placed).await;
    assert!(
        placed
            .iter()
            .any(|(ending, _)| *ending == Ending::ConfirmedCard)
    );
    system.end().await;
}
