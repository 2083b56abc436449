//! Orchestrated orders in the control room: shown step by step, and resumed or skipped when they are stuck.

use contracts::value::OrderId;
use load_tests::traffic::{Coordination, Ending};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{answer, eventually};

use super::{DEMO, ROOM, Watcher, ask, get, open, place_by};
use crate::system::System;

/// Returns an order's steps as the room shows them: the message's type, its participant, and the type of the reply. Ids
/// and times are left out.
fn asks(order: &Value) -> Vec<(String, String, Option<String>)> {
    let steps = order["steps"].as_array().expect("steps");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    steps
        .iter()
        .map(|step| {
            let answer = step["ask"]["answer"]["type"].as_str();
            let answer = answer.map(str::to_owned);
            (text(&step["type"]), text(&step["ask"]["of"]), answer)
        })
        .collect()
}

fn is_like(asks: &[(String, String, Option<String>)], wanted: &[(&str, &str, &str)]) -> bool {
    let asks = asks.iter().map(|(kind, of, answer)| {
        let answer = answer.as_deref().unwrap_or_default();
        (kind.as_str(), of.as_str(), answer)
    });
    asks.eq(wanted.iter().copied())
}

/// The steps of an order that ends confirmed.
const CONFIRMED: [(&str, &str, &str); 7] = [
    ("order.start_saga.v1", "orchestrator", ""),
    (
        "orchestrator.charge_payment.v1",
        "payment",
        "payment.completed.v1",
    ),
    (
        "orchestrator.reserve_inventory.v1",
        "inventory",
        "inventory.reserved.v1",
    ),
    (
        "orchestrator.confirm_order.v1",
        "order",
        "order.confirmed.v1",
    ),
    (
        "orchestrator.commit_inventory.v1",
        "inventory",
        "inventory.committed.v1",
    ),
    (
        "orchestrator.complete_order.v1",
        "order",
        "order.completed.v1",
    ),
    (
        "orchestrator.send_notification.v1",
        "notification",
        "notification.queued.v1",
    ),
];

/// The steps that follow if its customer then cancels it.
const UNDONE: [(&str, &str, &str); 5] = [
    ("order.start_saga.v1", "orchestrator", ""),
    (
        "orchestrator.refund_payment.v1",
        "payment",
        "payment.refunded.v1",
    ),
    (
        "orchestrator.release_inventory.v1",
        "inventory",
        "inventory.released.v1",
    ),
    (
        "orchestrator.cancel_order.v1",
        "order",
        "order.cancelled.v1",
    ),
    (
        "orchestrator.send_notification.v1",
        "notification",
        "notification.queued.v1",
    ),
];

/// Waits until the newest saga of an order is in `phase`, and returns the order's sagas.
async fn sagas(system: &System, id: OrderId, phase: &str) -> Vec<Value> {
    eventually(&format!("a saga of order {id} is {phase}"), || async {
        let answer = get(system, &format!("/room/orders/{id}/sagas")).await;
        let sagas = answer["sagas"].as_array().cloned().unwrap_or_default();
        if sagas.first().is_some_and(|saga| saga["phase"] == phase) {
            Ok(sagas)
        } else {
            Err(answer)
        }
    })
    .await
}

#[tokio::test]
async fn an_orchestrated_order_is_seen_step_by_step() {
    let system = open().await;
    let mut watcher = Watcher::watch(&system).await;
    let wallet = json!({ "method": "wallet" });
    let id = place_by(&system, "bob", &wallet, "orchestration").await;
    let order = watcher
        .order(id, "each step was asked and answered", |order| {
            is_like(&asks(order), &CONFIRMED)
        })
        .await;
    assert_eq!(
        (
            &order["coordination"],
            &order["customer"],
            &order["state"],
            &order["at_rest"],
            &order["items"]
        ),
        (
            &json!("orchestration"),
            &json!("bob"),
            &json!("confirmed"),
            &json!(true),
            &json!(2)
        ),
        "{order}"
    );
    assert_eq!(
        order["trace_id"].as_str().map(str::len),
        Some(32),
        "{order}"
    );
    let steps = order["steps"].as_array().expect("steps");
    assert!(
        steps.iter().all(|step| step["ask"]["undoes"] == false),
        "{order}"
    );

    // The opened order shows its saga, as the orchestrator returns it.
    let completed = sagas(&system, id, "completed").await;
    let [saga] = &completed[..] else {
        panic!("one saga: {completed:?}");
    };
    assert_eq!(
        (&saga["definition"], &saga["remaining"]),
        (&json!("place_order"), &json!([])),
        "{saga}"
    );
    let charged = saga["steps"].as_array().expect("steps");
    let charged = charged.iter().find(|step| step["name"] == "charge_payment");
    let charged = &charged.expect("it charges")["asks"][0];
    assert!(
        charged["payload"].is_object() && charged["duration_ms"].is_i64(),
        "{saga}"
    );

    // After a cancel, the steps that undo the order are marked.
    let cancel = format!("/room/orders/{id}/cancel");
    ask(&system, Method::POST, &cancel, json!({ "customer": "bob" }))
        .await
        .expect(202);
    let whole = [&CONFIRMED[..], &UNDONE[..]].concat();
    let order = watcher
        .order(id, "each step was undone", |order| {
            is_like(&asks(order), &whole)
        })
        .await;
    assert_eq!(
        (&order["state"], &order["reason"], &order["at_rest"]),
        (&json!("cancelled"), &json!("customer"), &json!(true)),
        "{order}"
    );
    let steps = order["steps"].as_array().expect("steps");
    let undoes = |step: &Value| step["ask"]["undoes"] == true;
    assert!(steps[CONFIRMED.len()..].iter().all(undoes), "{order}");
    let both = sagas(&system, id, "completed").await;
    let names: Vec<&Value> = both.iter().map(|saga| &saga["definition"]).collect();
    assert_eq!(names, ["undo_order", "place_order"]);

    // A choreographed order has no saga, and names its coordination.
    let other = place_by(&system, "bob", &wallet, "choreography").await;
    let order = watcher
        .order(other, "it comes to rest", |order| order["at_rest"] == true)
        .await;
    assert_eq!(order["coordination"], "choreography", "{order}");
    assert!(order["steps"][0]["ask"].is_null(), "{order}");
    let none = get(&system, &format!("/room/orders/{other}/sagas")).await;
    assert_eq!(none["sagas"], json!([]));

    // A restarted room reads the order's timeline, and shows the same steps.
    system.stop(ROOM).await;
    system.open_room().await;
    let mut watcher = Watcher::watch(&system).await;
    let text = id.to_string();
    let shown = |order: &Value| order["id"] == text.as_str() && is_like(&asks(order), &whole);
    watcher
        .until("it is shown as before", |event, data| match event {
            "snapshot" => data["orders"]
                .as_array()
                .is_some_and(|orders| orders.iter().any(shown)),
            "order" => shown(data),
            _ => false,
        })
        .await;
    watcher
        .until("the books hold", |event, data| {
            event == "invariants"
                && data["checks"]
                    .as_array()
                    .is_some_and(|checks| checks.iter().all(|check| check["verdict"] == "holds"))
        })
        .await;
    system.end().await;
}

/// Drops the messages that payment has parked: their commands were resent, or are not wanted any more. Errors with the
/// report while the books do not agree.
async fn drop_parked(system: &System) -> Result<(), Value> {
    let rows = get(system, "/room/parked").await;
    for row in rows.as_array().expect("a list") {
        let (service, id) = (row["service"].as_str(), row["id"].as_str());
        let (service, id) = (service.expect("a name"), id.expect("an id"));
        let path = format!("/room/parked/{service}/{id}/drop");
        let note = json!({ "note": "asked for otherwise" });
        ask(system, Method::POST, &path, note).await.expect(204);
    }
    let report = system.reconcile().await;
    if report.is_clean() {
        Ok(())
    } else {
        Err(json!(report.to_string()))
    }
}

#[tokio::test]
async fn stuck_sagas_are_listed_skipped_and_resumed() {
    // A hundredth of the default patience: a saga sends a command ten times within ten seconds, and is then stuck.
    let hasty = [("SAGA_PACE", "1"), ("SAGA_POLL_MS", "50")];
    let settings: Vec<_> = DEMO.iter().copied().chain(hasty).collect();
    let system = System::start_with(&settings).await;
    system.open_room().await;
    let mut watcher = Watcher::watch(&system).await;
    // Payment charges, and fails at refunds.
    system.stop("payment").await;
    system.revive("payment", &[("FAILPOINTS", "payment.cancel=return")]);
    system.ready("payment").await;
    let out_of_stock = Ending::OutOfStock.order(Coordination::Orchestration);
    let skipped = system.place_this("alice", &out_of_stock).await;
    let resumed = system.place_this("bob", &out_of_stock).await;
    watcher
        .until("two sagas wait for an operator", |event, data| {
            event == "trouble" && data["stuck_sagas"] == 2
        })
        .await;
    let stuck = get(&system, "/room/sagas").await;
    let saga_of = |order: OrderId| {
        let order = order.to_string();
        let rows = stuck.as_array().expect("a list");
        let row = rows.iter().find(|row| row["order_id"] == order.as_str());
        row.unwrap_or_else(|| panic!("a saga of {order} in {stuck}"))
            .clone()
    };
    for order in [skipped, resumed] {
        let saga = saga_of(order);
        assert_eq!(
            (&saga["phase"], &saga["step"], &saga["direction"]),
            (&json!("stuck"), &json!("charge_payment"), &json!("undo"))
        );
        // Its order is shown as stuck, with the number of times that the refund was requested.
        let id = order.to_string();
        let is_it = |order: &Value| {
            let steps = order["steps"].as_array().expect("steps");
            let refund = steps
                .iter()
                .find(|step| step["type"] == "orchestrator.refund_payment.v1");
            order["id"] == id.as_str()
                && order["stuck"] == true
                && refund.is_some_and(|refund| {
                    refund["ask"]["attempts"].as_u64() > Some(5)
                        && refund["ask"]["undoes"] == true
                        && refund["ask"]["answer"].is_null()
                })
        };
        Watcher::watch(&system)
            .await
            .until("its order is shown as stuck", |event, data| match event {
                "snapshot" => data["orders"]
                    .as_array()
                    .is_some_and(|orders| orders.iter().any(is_it)),
                "order" => is_it(data),
                _ => false,
            })
            .await;
    }

    let decide = async |order: OrderId, action: &str, note: &str| {
        let id = saga_of(order)["id"].as_str().expect("an id").to_owned();
        let path = format!("/room/sagas/{id}/{action}");
        ask(&system, Method::POST, &path, json!({ "note": note })).await
    };
    // An action needs a note. A skipped step is settled by its participant, and so the order ends.
    decide(skipped, "skip", "").await.expect(422);
    decide(skipped, "skip", "paid back by bank transfer")
        .await
        .expect(202);
    let order = watcher
        .order(skipped, "it ends", |order| order["at_rest"] == true)
        .await;
    assert_eq!(
        (&order["state"], &order["reason"]),
        (&json!("cancelled"), &json!("out_of_stock")),
        "{order}"
    );
    let over = sagas(&system, skipped, "compensated").await;
    assert_eq!(over[0]["deeds"][0]["note"], "paid back by bank transfer");
    decide(skipped, "resume", "once more").await.expect(409);

    // Resumed, the saga resends its command, now that payment is repaired.
    system.stop("payment").await;
    system.revive("payment", &[]);
    system.ready("payment").await;
    decide(resumed, "resume", "payment is mended")
        .await
        .expect(202);
    watcher
        .order(resumed, "it ends, too", |order| order["at_rest"] == true)
        .await;
    sagas(&system, resumed, "compensated").await;
    let payments = [(skipped, "settled"), (resumed, "refunded")];
    for (order, state) in payments {
        let path = format!("/operator/payments/{order}");
        let payment = answer(system.as_operator("payment", Method::GET, &path)).await;
        assert_eq!(payment.expect(200)["state"], state);
    }
    watcher
        .until("nothing waits for an operator", |event, data| {
            event == "trouble" && data["stuck_sagas"] == 0
        })
        .await;
    // Each refund at which payment failed was parked; the last may still be on its way to the parking lot.
    eventually("nothing is left of it", || drop_parked(&system)).await;
    system.end().await;
}
