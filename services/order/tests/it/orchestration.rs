//! Orchestrated orders: the replies to the orchestrator's commands, and the requests to the orchestrator. The tests
//! play the orchestrator.

use contracts::{
    Message,
    inventory::InventoryReserved,
    orchestrator::{CancelOrder, CompleteOrder, ConfirmOrder, Undoing},
    order::CancelReason,
    value::OrderId,
};
use holdfast::messaging::Event;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Seen, answer, eventually};
use uuid::Uuid;

use crate::helpers::{Orders, spawn_app, spawn_app_with, tea};

/// Returns an orchestrated order of two teas, paid from the wallet.
fn orchestrated_tea() -> Value {
    let mut order = tea();
    order["coordination"] = json!("orchestration");
    order
}

/// Places an orchestrated order, and returns its id once its saga was requested.
async fn place(orders: &Orders) -> OrderId {
    let placed = orders.try_place("alice", &orchestrated_tea()).await;
    let id = placed.expect(202)["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("a UUID");
    orders.probe.wait_for("order.start_saga.v1", id).await;
    id
}

fn confirm(order_id: OrderId) -> ConfirmOrder {
    ConfirmOrder {
        order_id,
        order_version: 1,
    }
}

fn complete(order_id: OrderId) -> CompleteOrder {
    CompleteOrder {
        order_id,
        order_version: 2,
    }
}

fn cancel(order_id: OrderId, reason: CancelReason, payment: Undoing) -> CancelOrder {
    CancelOrder {
        order_id,
        order_version: 1,
        reason,
        payment,
        inventory: Undoing::NothingToUndo,
    }
}

/// Sends a command under this key, and returns its reply.
async fn ask<M: Message>(orders: &Orders, command: &M, key: &str) -> Seen {
    let before = orders.probe.replies(key).len();
    let asked = orders.probe.command("order", command, key).await;
    let reply = orders.probe.wait_for_nth_reply(key, before + 1).await;
    assert_eq!(
        (reply.routing_key.as_str(), &reply.subject),
        ("orchestrator", &command.order_id().to_string())
    );
    assert_eq!(
        reply.headers["cloudEvents_causationid"],
        asked.to_string(),
        "each command gets a reply"
    );
    reply
}

/// Returns the messages of this type about an order that were sent to the orchestrator.
fn requests(orders: &Orders, id: OrderId, kind: &str) -> Vec<Seen> {
    let mut requests = orders.probe.seen(id);
    requests.retain(|seen| seen.kind == kind);
    for request in &requests {
        assert_eq!(
            (request.exchange.as_str(), request.routing_key.as_str()),
            ("commands", "orchestrator")
        );
    }
    requests
}

/// Checks that an orchestrated order publishes no event: other services would act on it by themselves.
fn no_event(orders: &Orders, id: OrderId) {
    let mut seen = orders.probe.seen(id);
    seen.retain(|seen| seen.exchange == "events");
    assert!(seen.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn saga_is_requested_with_all_that_it_needs() {
    let orders = spawn_app().await;
    let placed = orders.try_place("alice", &orchestrated_tea()).await;
    let placed = placed.expect(202);
    assert_eq!(placed["coordination"], "orchestration");
    let id: OrderId = placed["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("a UUID");
    let start = orders.probe.wait_for("order.start_saga.v1", id).await;
    assert_eq!(
        (start.exchange.as_str(), start.routing_key.as_str()),
        ("commands", "orchestrator")
    );
    assert_eq!(start.key(), Some(format!("{id}/place_order").as_str()));
    let price = |amount| json!({ "amount_minor": amount, "currency": "EUR" });
    assert_eq!(
        start.data,
        json!({
            "order_id": id, "order_version": 1, "saga": "place_order",
            "customer": { "id": "alice", "email": "alice@example.test" },
            "lines": [{ "sku": "TEA", "quantity": 2, "unit_price": price(690) }],
            "amount": price(1380),
            "payment": { "method": "wallet" },
        })
    );
    let view = orders.operator_view(id).await;
    assert_eq!(
        (&view["state"], &view["awaits"], &view["deadline_at"]),
        (&json!("pending"), &json!(["orchestrator"]), &json!(null))
    );
    no_event(&orders, id);
    orders.stop().await;
}

#[tokio::test]
async fn confirm_and_complete_get_a_reply_each_time() {
    let orders = spawn_app().await;
    let id = place(&orders).await;
    for key in ["confirm", "confirm", "confirm by hand"] {
        let confirmed = ask(&orders, &confirm(id), key).await;
        assert_eq!(confirmed.kind, "order.confirmed.v1");
        assert_eq!(
            (&confirmed.data["order_version"], &confirmed.data["amount"]),
            (
                &json!(2),
                &json!({ "amount_minor": 1380, "currency": "EUR" })
            )
        );
        assert_eq!(confirmed.data["customer"]["id"], "alice");
    }
    orders.wait_for(id, "confirmed", false).await;
    for key in ["complete", "complete", "complete by hand"] {
        let completed = ask(&orders, &complete(id), key).await;
        assert_eq!(completed.kind, "order.completed.v1");
        assert_eq!(completed.data["order_version"], 2);
    }
    let order = orders.wait_for(id, "confirmed", true).await;
    assert_eq!(order["version"], 2);
    assert_eq!(orders.operator_view(id).await["awaits"], json!([]));
    no_event(&orders, id);

    // The timeline has all of these messages.
    let path = format!("/orders/{id}/timeline");
    eventually("it is on the timeline", || async {
        let timeline = answer(orders.app.as_customer("alice", Method::GET, &path)).await;
        let timeline = timeline.expect(200);
        let count = |kind: &str| {
            let entries = timeline.as_array().into_iter().flatten();
            entries.filter(|entry| entry["type"] == kind).count()
        };
        let counts = [
            count("order.start_saga.v1"),
            count("orchestrator.confirm_order.v1"),
            count("order.confirmed.v1"),
            count("orchestrator.complete_order.v1"),
            count("order.completed.v1"),
        ];
        if counts == [1, 3, 3, 3, 3] {
            Ok(())
        } else {
            Err(timeline)
        }
    })
    .await;
    orders.stop().await;
}

#[tokio::test]
async fn order_is_cancelled_when_its_saga_has_given_up() {
    let orders = spawn_app().await;
    for (reason, payment, refunded, settled) in [
        (
            CancelReason::PaymentDeclined,
            Undoing::NothingToUndo,
            false,
            false,
        ),
        (CancelReason::OutOfStock, Undoing::Undone, true, false),
        (CancelReason::Deadline, Undoing::Settled, false, true),
    ] {
        let id = place(&orders).await;
        let command = cancel(id, reason, payment);
        for n in 1..=2 {
            let cancelled = ask(&orders, &command, &format!("{id}/cancel")).await;
            assert_eq!(cancelled.kind, "order.cancelled.v1", "ask {n}");
            assert_eq!(
                cancelled.data,
                json!({
                    "order_id": id, "order_version": 2, "reason": reason,
                    "customer": { "id": "alice", "email": "alice@example.test" },
                    "amount": { "amount_minor": 1380, "currency": "EUR" },
                    "refunded": refunded, "settled": settled,
                })
            );
        }
        let order = orders.wait_for(id, "cancelled", true).await;
        assert_eq!(
            (&order["reason"], &order["version"]),
            (&json!(reason), &json!(2))
        );
        let view = orders.operator_view(id).await;
        assert_eq!(
            (&view["payment_answer"], &view["inventory_answer"]),
            (&json!(payment), &json!("nothing_to_undo"))
        );
        // Now a confirm comes too late.
        let rejected = ask(&orders, &confirm(id), &format!("{id}/confirm")).await;
        assert_eq!(rejected.kind, "order.confirm_rejected.v1");
        assert_eq!(rejected.data["reason"], json!(reason));
        let answered = orders.cancel("alice", id).await.expect(202);
        assert_eq!(answered["reason"], json!(reason));
        assert!(requests(&orders, id, "order.cancel_requested.v1").is_empty());
    }
    orders.stop().await;
}

#[tokio::test]
async fn order_cancelled_first_is_not_confirmed() {
    let orders = spawn_app().await;
    let id = place(&orders).await;
    for _ in 0..2 {
        let answered = orders.cancel("alice", id).await.expect(202);
        assert_eq!(
            (&answered["state"], &answered["reason"]),
            (&json!("cancelling"), &json!("customer"))
        );
    }
    let requested = orders.probe.wait_for("order.cancel_requested.v1", id).await;
    assert_eq!(
        requested.key(),
        Some(format!("{id}/cancel_requested").as_str())
    );
    assert_eq!(
        requested.data,
        json!({ "order_id": id, "order_version": 2, "reason": "customer" })
    );
    let rejected = ask(&orders, &confirm(id), "confirm").await;
    assert_eq!(rejected.kind, "order.confirm_rejected.v1");
    assert_eq!(
        rejected.data,
        json!({ "order_id": id, "order_version": 2, "reason": "customer" })
    );
    assert_eq!(
        orders.operator_view(id).await["awaits"],
        json!(["orchestrator"])
    );

    // The saga may have given the order up for a reason of its own meanwhile: the first cancel gives the reason.
    let command = cancel(id, CancelReason::OutOfStock, Undoing::Undone);
    let cancelled = ask(&orders, &command, "cancel").await;
    assert_eq!(
        (
            &cancelled.data["reason"],
            &cancelled.data["refunded"],
            &cancelled.data["order_version"]
        ),
        (&json!("customer"), &json!(true), &json!(3))
    );
    let order = orders.wait_for(id, "cancelled", true).await;
    assert_eq!(order["reason"], "customer");

    // A repeated command gets the same reply.
    let again = ask(&orders, &confirm(id), "confirm").await;
    assert_eq!((again.kind, again.data), (rejected.kind, rejected.data));
    assert_eq!(ask(&orders, &command, "again").await.data, cancelled.data);
    let answered = orders.cancel("alice", id).await.expect(202);
    assert_eq!(answered["state"], "cancelled");
    assert_eq!(requests(&orders, id, "order.cancel_requested.v1").len(), 1);
    assert_eq!(requests(&orders, id, "order.start_saga.v1").len(), 1);
    orders.stop().await;
}

#[tokio::test]
async fn confirmed_order_is_undone_by_a_second_saga() {
    let orders = spawn_app().await;
    for completed in [false, true] {
        let id = place(&orders).await;
        let key = |step: &str| format!("{id}/{step}");
        let confirmed = ask(&orders, &confirm(id), &key("confirm")).await;
        if completed {
            ask(&orders, &complete(id), &key("complete")).await;
        }
        for _ in 0..2 {
            let answered = orders.cancel("alice", id).await.expect(202);
            assert_eq!(
                (&answered["state"], &answered["version"]),
                (&json!("cancelling"), &json!(3))
            );
        }
        let start = orders
            .probe
            .wait_for_nth("order.start_saga.v1", id, 2)
            .await;
        assert_eq!(start.key(), Some(key("undo_order").as_str()));
        assert_eq!(
            (&start.data["saga"], &start.data["order_version"]),
            (&json!("undo_order"), &json!(3))
        );
        assert_eq!(start.data["lines"][0]["sku"], "TEA");

        // The first saga ends well all the same: the replies that it got stay true.
        let completed = ask(&orders, &complete(id), &key("complete")).await;
        assert_eq!(completed.kind, "order.completed.v1");
        assert_eq!(completed.data["order_version"], 2);
        let again = ask(&orders, &confirm(id), &key("confirm")).await;
        assert_eq!((again.kind, &again.data), (confirmed.kind, &confirmed.data));
        assert_eq!(orders.order(id).await["state"], "cancelling");

        let command = cancel(id, CancelReason::Customer, Undoing::Undone);
        let cancelled = ask(&orders, &command, &key("cancel")).await;
        assert_eq!(
            (
                &cancelled.data["order_version"],
                &cancelled.data["refunded"]
            ),
            (&json!(4), &json!(true))
        );
        orders.wait_for(id, "cancelled", true).await;
        let again = ask(&orders, &confirm(id), &key("confirm")).await;
        assert_eq!(again.data, confirmed.data);
        let again = ask(&orders, &complete(id), &key("complete")).await;
        assert_eq!(again.data, completed.data);
        assert_eq!(requests(&orders, id, "order.start_saga.v1").len(), 2);
        assert!(requests(&orders, id, "order.cancel_requested.v1").is_empty());
        no_event(&orders, id);
    }
    orders.stop().await;
}

/// Every course of an order, for many orders at once and more than once: each order is written once, and each command
/// gets a reply.
#[tokio::test]
async fn each_command_of_a_batch_gets_a_reply() {
    const ASKS: usize = 3;
    let orders = spawn_app().await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(place(&orders).await);
    }
    let mut commands = Vec::new();
    let publishing = chassis::events::Publishing::by("orchestrator");
    for _ in 0..ASKS {
        for (n, id) in ids.iter().enumerate() {
            let key = |step: &str| format!("{id}/{step}");
            let steps = if n % 2 == 0 {
                vec![
                    publishing.command(&confirm(*id), "order", key("confirm")),
                    publishing.command(&complete(*id), "order", key("complete")),
                ]
            } else {
                let undone = cancel(*id, CancelReason::OutOfStock, Undoing::Undone);
                vec![
                    publishing.command(&undone, "order", key("cancel")),
                    publishing.command(&confirm(*id), "order", key("confirm")),
                ]
            };
            commands.extend(steps);
        }
    }
    orders.probe.send_all(&commands).await;
    for (n, id) in ids.iter().enumerate() {
        let (state, kinds) = if n % 2 == 0 {
            ("confirmed", ["order.confirmed.v1", "order.completed.v1"])
        } else {
            (
                "cancelled",
                ["order.cancelled.v1", "order.confirm_rejected.v1"],
            )
        };
        for kind in kinds {
            orders.probe.wait_for_nth(kind, *id, ASKS).await;
        }
        assert_eq!(orders.wait_for(*id, state, true).await["version"], 2);
    }
    orders.stop().await;
}

#[tokio::test]
async fn contradicting_messages_are_parked() {
    let mut orders = spawn_app().await;
    let choreographed = orders.place("alice", &tea()).await;
    let (pending, confirmed) = (place(&orders).await, place(&orders).await);
    ask(&orders, &confirm(confirmed), "confirm").await;
    let stranger = OrderId::new();

    let expected = [
        // Each way of coordination has its own messages.
        (choreographed, "order.commands", "one of Choreography"),
        (pending, "order.choreography", "one of Orchestration"),
        (
            confirmed,
            "order.commands",
            "is not possible while the order is Confirmed",
        ),
        (stranger, "order.commands", "there is no order"),
    ];
    orders
        .probe
        .command("order", &confirm(choreographed), "a")
        .await;
    orders
        .probe
        .publish(&InventoryReserved {
            order_id: pending,
            order_version: 1,
        })
        .await;
    let undone = cancel(confirmed, CancelReason::PaymentDeclined, Undoing::Undone);
    orders.probe.command("order", &undone, "b").await;
    orders.probe.command("order", &confirm(stranger), "c").await;
    // Without a key the reply would belong to no command.
    let keyless = OrderId::new();
    let data = serde_json::to_vec(&confirm(keyless)).expect("it serializes");
    let event = Event::new(
        ConfirmOrder::TYPE,
        "/orchestrator",
        keyless.to_string(),
        data,
    );
    orders
        .probe
        .send(event.into_message("commands.orchestrator", "order".to_owned()))
        .await;

    let parked = eventually("all are parked", || async {
        let parked = answer(orders.app.as_operator(Method::GET, "/operator/parked"))
            .await
            .expect(200);
        if parked.as_array().is_some_and(|parked| parked.len() == 5) {
            Ok(parked)
        } else {
            Err(parked)
        }
    })
    .await;
    let about = |id: OrderId| {
        let mut rows = parked.as_array().expect("a list").iter();
        rows.find(|row| row["subject"] == id.to_string())
            .expect("it is parked")
    };
    for (id, queue, detail) in expected {
        let row = about(id);
        assert_eq!(
            (&row["queue"], &row["cause"]),
            (&json!(queue), &json!("rejected"))
        );
        let text = row["detail"].as_str().expect("text");
        assert!(text.contains(detail), "{text}");
    }
    let row = about(keyless);
    assert_eq!(row["cause"], "malformed", "{row}");
    for id in [choreographed, pending] {
        assert_eq!(orders.order(id).await["state"], "pending");
    }
    assert_eq!(orders.order(confirmed).await["state"], "confirmed");

    // A command is checked as a command when it is edited.
    let id = about(confirmed)["id"].as_str().expect("an id");
    let path = format!("/operator/parked/{id}");
    let edit = async |data: Value| {
        let edit = json!({ "note": "mended", "data": data });
        answer(orders.app.as_operator(Method::PUT, &path).json(&edit)).await
    };
    let mut data = serde_json::to_value(&undone).expect("it serializes");
    data["reason"] = json!("a whim");
    edit(data.clone())
        .await
        .expect_problem(422, "invalid-field", Some("data"));
    data["reason"] = json!("out_of_stock");
    assert!(edit(data).await.status.is_success());
    orders.app.expect_trouble();
    orders.stop().await;
}

#[tokio::test]
async fn orchestrator_is_asked_again_until_the_order_is_stuck() {
    let orders = spawn_app_with(&["--sweep-after-ms=50", "--sweeps=3"]).await;
    let (pending, confirmed, cancelled, undone) = (
        place(&orders).await,
        place(&orders).await,
        place(&orders).await,
        place(&orders).await,
    );
    ask(&orders, &confirm(confirmed), "confirmed").await;
    ask(&orders, &confirm(undone), "undone").await;
    for id in [cancelled, undone] {
        orders.cancel("alice", id).await.expect(202);
    }
    for id in [pending, confirmed, cancelled, undone] {
        let view = orders.wait_until_stuck(id).await;
        assert_eq!(view["awaits"], json!(["orchestrator"]));
    }
    // Each was requested three times after its last change, with the same content and under the same key.
    let starts = |id: OrderId, saga: &str| {
        let mut starts = requests(&orders, id, "order.start_saga.v1");
        starts.retain(|start| start.data["saga"] == saga);
        assert!(
            starts
                .iter()
                .all(|start| start.data == starts[0].data && start.key() == starts[0].key()),
            "{starts:?}"
        );
        let ids: std::collections::HashSet<Uuid> = starts.iter().map(|start| start.id).collect();
        assert_eq!(ids.len(), starts.len(), "each is a new send with a new id");
        starts.len()
    };
    // That an order is stuck is committed before its last request is published.
    let all = async |what: &str, count: &dyn Fn() -> usize, least: usize| {
        eventually(what, || async {
            if count() >= least {
                Ok(count())
            } else {
                Err(count())
            }
        })
        .await
    };
    let asks = all("pending", &|| starts(pending, "place_order"), 4).await;
    assert_eq!(asks, 4);
    // Before it was confirmed or cancelled, a sweep may have requested it, too.
    for id in [confirmed, cancelled] {
        all("to be placed", &|| starts(id, "place_order"), 4).await;
    }
    let gave_up = || requests(&orders, cancelled, "order.cancel_requested.v1").len();
    assert_eq!(all("to be given up", &gave_up, 4).await, 4);
    let asks = all("to be undone", &|| starts(undone, "undo_order"), 4).await;
    assert_eq!(asks, 4);
    assert!(requests(&orders, undone, "order.cancel_requested.v1").is_empty());
    for id in [pending, confirmed, cancelled] {
        assert_eq!(starts(id, "undo_order"), 0);
    }

    // The saga knows what its participants did, so it is settled there.
    let settle = json!({ "note": "n", "participants": ["payment"] });
    let detail = orders
        .act(cancelled, "settle", settle)
        .await
        .expect_problem(409, "conflict", None);
    assert!(detail.contains("cargo xtask sagas"), "{detail}");
    let note = json!({ "note": "the orchestrator is mended" });
    let resumed = orders.act(undone, "resume", note.clone()).await;
    assert_eq!(resumed.expect(202)["stuck_since"], json!(null));
    all("to be undone at last", &|| starts(undone, "undo_order"), 5).await;

    // After a command that moves it on, the order is no longer stuck.
    ask(&orders, &complete(confirmed), "confirmed at last").await;
    let view = orders.operator_view(confirmed).await;
    assert_eq!(
        (&view["at_rest"], &view["stuck_since"]),
        (&json!(true), &json!(null))
    );
    orders
        .act(confirmed, "resume", note)
        .await
        .expect_problem(409, "conflict", None);
    orders.stop().await;
}

#[tokio::test]
async fn orchestrated_order_has_no_deadline() {
    let orders = spawn_app_with(&["--order-deadline-seconds=1"]).await;
    let orchestrated = place(&orders).await;
    let choreographed = orders.place("alice", &tea()).await;
    // When the younger order is cancelled, this one would have been, too.
    orders
        .probe
        .wait_for("order.cancelling.v1", choreographed)
        .await;
    assert_eq!(orders.order(orchestrated).await["state"], "pending");
    orders.stop().await;
}

#[tokio::test]
async fn operator_cancels_only_pending_orders() {
    let orders = spawn_app().await;
    let (pending, confirmed) = (place(&orders).await, place(&orders).await);
    ask(&orders, &confirm(confirmed), "confirm").await;
    let note = json!({ "note": "fraud" });
    let view = orders.act(pending, "cancel", note.clone()).await;
    let view = view.expect(202);
    assert_eq!(
        (&view["state"], &view["reason"], &view["deeds"][0]["note"]),
        (&json!("cancelling"), &json!("operator"), &json!("fraud"))
    );
    let requested = orders
        .probe
        .wait_for("order.cancel_requested.v1", pending)
        .await;
    assert_eq!(requested.data["reason"], "operator");
    orders
        .act(confirmed, "cancel", note)
        .await
        .expect_problem(409, "conflict", None);
    assert_eq!(orders.order(confirmed).await["state"], "confirmed");
    assert_eq!(orders.operator_view(confirmed).await["deeds"], json!([]));
    orders.stop().await;
}

#[tokio::test]
async fn another_coordination_is_another_request() {
    let orders = spawn_app().await;
    let first = answer(orders.request("alice", "k-1", &orchestrated_tea())).await;
    let first = first.expect(202);
    let again = answer(orders.request("alice", "k-1", &orchestrated_tea())).await;
    assert_eq!(again.expect(202), first);
    answer(orders.request("alice", "k-1", &tea()))
        .await
        .expect_problem(422, "idempotency-key-reused", None);
    answer(orders.request("alice", "k-2", &tea()))
        .await
        .expect(202);
    answer(orders.request("alice", "k-2", &orchestrated_tea()))
        .await
        .expect_problem(422, "idempotency-key-reused", None);
    assert_eq!(orders.count().await, 2);
    orders.stop().await;
}
