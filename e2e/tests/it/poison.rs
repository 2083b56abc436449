//! Messages that cannot be handled, in a batch of good ones, and the operator actions on them.

use contracts::value::OrderId;
use holdfast::{
    messaging::{Event, retry_exchange},
    outbox::Message,
};
use load_tests::traffic::Ending;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{answer, eventually};
use uuid::Uuid;

use crate::system::System;

/// A sweep would resend the messages by itself, which an operator is to do in these tests.
const NO_SWEEPS: &[(&str, &str)] = &[("SWEEP_AFTER_MS", "600000")];

/// Waits until `n` messages are parked at a service.
async fn parked(system: &System, service: &str, n: usize) -> Vec<Value> {
    eventually(&format!("{n} are parked at {service}"), || async {
        let parked = system.parked(service).await;
        if parked.len() == n {
            Ok(parked)
        } else {
            Err(format!("{parked:?}"))
        }
    })
    .await
}

/// Sends an operator action on a parked message.
async fn act(system: &System, service: &str, parked: &Value, action: &str) {
    let id = parked["id"].as_str().expect("an id");
    let path = format!("/operator/parked/{id}/{action}");
    let request = system
        .as_operator(service, Method::POST, &path)
        .json(&json!({ "note": "mended" }));
    let done = answer(request).await;
    assert!(done.status.is_success(), "{action}: {done:?}");
}

fn wallet() -> Value {
    json!({ "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }], "payment": { "method": "wallet" } })
}

#[tokio::test]
async fn bad_messages_of_a_batch_are_parked_and_good_ones_go_on() {
    let system = System::start_with(NO_SWEEPS).await;
    system.stop("payment").await;
    // One message whose payload is damaged on its way, one at which payment always fails, and good ones.
    let damaged = system.place_this("alice", &wallet()).await;
    let mut message = eventually("it is on the queue", || async {
        system
            .vhost
            .take("payment.choreography")
            .await
            .ok_or("not yet")
    })
    .await;
    assert_eq!(message.headers["cloudEvents_subject"], damaged.to_string());
    let mut data: Value = serde_json::from_slice(&message.payload).expect("JSON");
    data["order_version"] = json!("one");
    message.payload = data.to_string().into_bytes();
    system.probe.send(message).await;

    let failing = system.place_this("alice", &wallet()).await;
    let mut good = Vec::new();
    for _ in 0..10 {
        good.push((
            Ending::ConfirmedWallet,
            system.place_this("bob", &wallet()).await,
        ));
    }
    // Bytes that are not a message, and a message version that no service knows.
    let to_payment = |id: Uuid, headers: &[(&str, &str)], payload: &[u8]| Message {
        id,
        exchange: retry_exchange("payment.choreography"),
        routing_key: "payment.choreography".to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        payload: payload.to_vec(),
    };
    let (stranger, id) = (OrderId::new().to_string(), Uuid::now_v7());
    system
        .probe
        .send_all(&[
            to_payment(Uuid::now_v7(), &[], b"\x00\xff\xfe"),
            to_payment(
                id,
                &[
                    ("cloudEvents_specversion", "1.0"),
                    ("cloudEvents_id", &id.to_string()),
                    ("cloudEvents_type", "order.created.v99"),
                    ("cloudEvents_source", "/order"),
                    ("cloudEvents_subject", &stranger),
                ],
                b"{}",
            ),
        ])
        .await;
    let point = format!("payment.handle=return({failing})");
    system.revive("payment", &[("FAILPOINTS", &point)]);

    system.ended_as_expected(&good).await;
    let rows = parked(&system, "payment", 4).await;
    let row = |subject: Option<&OrderId>, cause: &str| {
        let subject = subject.map(OrderId::to_string);
        rows.iter()
            .find(|row| {
                row["cause"] == cause
                    && (subject.is_none() || row["subject"].as_str() == subject.as_deref())
            })
            .unwrap_or_else(|| panic!("{cause} {subject:?} in {rows:?}"))
    };
    let unreadable = rows
        .iter()
        .find(|row| row["subject"].is_null())
        .expect("the bytes that are not a message");
    assert_eq!(unreadable["cause"], "malformed");
    let unknown = row(None, "unknown_type");
    let exhausted = row(Some(&failing), "exhausted");
    let edited = row(Some(&damaged), "malformed");
    assert!(
        edited["detail"]
            .as_str()
            .unwrap_or_default()
            .contains("order_version"),
        "{edited}"
    );
    assert!(
        exhausted["detail"]
            .as_str()
            .unwrap_or_default()
            .contains("attempt 5 failed"),
        "{exhausted}"
    );
    for id in [damaged, failing] {
        let order = system.api.order(id).await.expect("it answers");
        assert_eq!(order["state"], "pending", "{order}");
    }

    // The edited message must keep its amount. Requeued, it brings its order to rest.
    let path = format!("/operator/parked/{}", edited["id"].as_str().expect("an id"));
    let mut cheaper = data.clone();
    cheaper["order_version"] = json!(1);
    let mended = cheaper.clone();
    cheaper["amount"]["amount_minor"] = json!(1);
    let edit = async |data: &Value| {
        let request = system
            .as_operator("payment", Method::PUT, &path)
            .json(&json!({ "note": "a number, not a word", "data": data }));
        answer(request).await
    };
    edit(&cheaper).await.expect(422);
    edit(&mended).await.expect(204);
    act(&system, "payment", edited, "requeue").await;
    act(&system, "payment", unreadable, "drop").await;
    act(&system, "payment", unknown, "drop").await;
    system
        .ended_as_expected(&[(Ending::ConfirmedWallet, damaged)])
        .await;

    // A requeued message is handled once the cause of its failure is removed.
    system.stop("payment").await;
    system.revive("payment", &[]);
    system.ready("payment").await;
    act(&system, "payment", exhausted, "requeue").await;
    system
        .ended_as_expected(&[(Ending::ConfirmedWallet, failing)])
        .await;
    system.end().await;
}

/// One service publishes in another's name, and one message has a total that is not the sum of its lines. Neither is
/// accepted; the order goes on when the true fact arrives.
#[tokio::test]
async fn forged_and_contradictory_facts_change_nothing() {
    let system = System::start_with(NO_SWEEPS).await;
    system.stop("payment").await;
    let id = system.place_this("alice", &wallet()).await;
    let created = eventually("it is on the queue", || async {
        system
            .vhost
            .take("payment.choreography")
            .await
            .ok_or("not yet")
    })
    .await;
    let mut data: Value = serde_json::from_slice(&created.payload).expect("JSON");
    let paid = json!({
        "order_id": id, "order_version": 1, "amount": data["amount"], "lines": data["lines"],
    });
    let forged = Event::new(
        "payment.completed.v1",
        "/notification",
        id.to_string(),
        paid.to_string().into_bytes(),
    );
    let forged = forged.into_message("events", "choreography.payment.completed.v1".to_owned());
    system.probe.send(forged).await;
    data["amount"]["amount_minor"] = json!(1);
    let cheaper = Message {
        payload: data.to_string().into_bytes(),
        ..created.clone()
    };
    system.probe.send(cheaper).await;
    system.revive("payment", &[]);
    system.ready("payment").await;

    for (service, queue, cause, detail) in [
        (
            "payment",
            "payment.choreography",
            "contract_violation",
            "amount: must be the sum of the lines",
        ),
        (
            "inventory",
            "inventory.choreography",
            "forged_source",
            "\"/notification\" may not publish",
        ),
        (
            "order",
            "order.timeline",
            "forged_source",
            "\"/notification\" may not publish",
        ),
    ] {
        let row = parked(&system, service, 1).await.remove(0);
        assert_eq!(
            (&row["queue"], &row["cause"]),
            (&json!(queue), &json!(cause)),
            "{row}"
        );
        let why = row["detail"].as_str().unwrap_or_default();
        assert!(why.contains(detail), "{row}");
        // Requeued as it is, it would be parked again.
        let path = format!(
            "/operator/parked/{}/requeue",
            row["id"].as_str().expect("an id")
        );
        let requeue = system.as_operator(service, Method::POST, &path);
        answer(requeue.json(&json!({ "note": "as it is" })))
            .await
            .expect(422);
        act(&system, service, &row, "drop").await;
    }
    let order = system.api.order(id).await.expect("it answers");
    assert_eq!(order["state"], "pending", "{order}");

    system.probe.send(created).await;
    system
        .ended_as_expected(&[(Ending::ConfirmedWallet, id)])
        .await;
    system.end().await;
}

#[tokio::test]
async fn a_refund_that_keeps_failing_is_settled_by_an_operator() {
    let system = System::start_with(&[
        ("SWEEP_AFTER_MS", "500"),
        ("SWEEPS", "2"),
        ("WORKER_POLL_MS", "50"),
    ])
    .await;
    let id = system.place_this("alice", &wallet()).await;
    system.wait_for(id, |order| order["at_rest"] == true).await;
    let point = format!("payment.cancel=return({id})");
    system.stop("payment").await;
    system.revive("payment", &[("FAILPOINTS", &point)]);
    system.ready("payment").await;
    system.cancel("alice", id).await;

    // Each requested refund fails, is parked, and is dropped, until the sweeps are used up.
    let view = eventually("the order is stuck", || async {
        for row in system.parked("payment").await {
            assert_eq!(
                (&row["cause"], &row["type"]),
                (&json!("exhausted"), &json!("order.cancelling.v1"))
            );
            act(&system, "payment", &row, "drop").await;
        }
        let path = format!("/operator/orders/{id}");
        let view = answer(system.as_operator("order", Method::GET, &path))
            .await
            .expect(200);
        if view["stuck_since"].is_string() {
            Ok(view)
        } else {
            Err(view)
        }
    })
    .await;
    assert_eq!(
        (&view["state"], &view["payment_answer"]),
        (&json!("cancelling"), &Value::Null)
    );
    eventually("it is a metric to alert on", || async {
        let metrics = system.metrics("order").await;
        if metrics.contains("orders_stuck{service=\"order\"} 1") {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
    let report = system.reconcile().await;
    assert!(!report.is_clean(), "an order is not at rest: {report}");

    let settle = json!({ "note": "paid back by bank transfer", "participants": ["payment"] });
    let path = format!("/operator/orders/{id}/settle");
    answer(
        system
            .as_operator("order", Method::POST, &path)
            .json(&settle),
    )
    .await
    .expect(202);
    let order = system.wait_for(id, |order| order["at_rest"] == true).await;
    assert_eq!(order["state"], "cancelled");
    // The last request may still have been on its way to the parking lot.
    eventually("nothing is left of it", || async {
        for row in system.parked("payment").await {
            act(&system, "payment", &row, "drop").await;
        }
        let report = system.reconcile().await;
        if report.is_clean() {
            Ok(())
        } else {
            Err(report)
        }
    })
    .await;
    eventually("nothing is alerted any more", || async {
        let metrics = system.metrics("order").await;
        if metrics.contains("orders_stuck{service=\"order\"} 0") {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
    system.end().await;
}
