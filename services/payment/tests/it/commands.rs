//! The orchestrator's commands: the order's row decides, and the reply carries the command's key.

use contracts::value::{OrderId, PaymentMethod};
use holdfast::messaging::Event;
use reqwest::Method;
use serde_json::json;
use testkit::{answer, eventually};

use crate::helpers::{cancelling, charge, key, refund, settle, spawn_app};

#[tokio::test]
async fn each_command_is_answered_under_its_key_and_done_once() {
    let payment = spawn_app().await;
    payment.fund("alice", 1000).await;
    let order = OrderId::new();
    let charge = charge(order, "alice", 300, &PaymentMethod::Wallet);
    for n in 1..=3 {
        let completed = payment.ask(&charge, &key(order, "do"), n).await;
        assert_eq!(completed.kind, "payment.completed.v1");
        assert_eq!(completed.data["lines"][0]["sku"], "TEA");
        assert_eq!(payment.balance("alice").await, 700);
    }
    for n in 1..=3 {
        let refunded = payment.ask(&refund(order), &key(order, "undo"), n).await;
        assert_eq!(refunded.kind, "payment.refunded.v1");
        assert_eq!(refunded.data["amount"]["amount_minor"], 300);
        assert_eq!(payment.balance("alice").await, 1000);
    }
    // A late charge is answered without being carried out.
    let declined = payment.ask(&charge, &key(order, "do"), 4).await;
    assert_eq!(declined.kind, "payment.declined.v1");
    assert_eq!(declined.data["reason"], "order_cancelled");
    // A refunded payment has nothing left to settle.
    let refunded = payment.ask(&settle(order), &key(order, "settle"), 1).await;
    assert_eq!(refunded.kind, "payment.refunded.v1");
    assert_eq!(payment.balance("alice").await, 1000);
    assert_eq!(
        payment.probe.seen_on("replies", order).len(),
        8,
        "one reply to each command, and no other"
    );
    assert!(
        payment.probe.seen_on("events", order).is_empty(),
        "no event is published"
    );
    payment.stop().await;
}

#[tokio::test]
async fn early_undo_keeps_a_late_charge_from_happening() {
    let payment = spawn_app().await;
    payment.fund("alice", 1000).await;
    let order = OrderId::new();
    let nothing = payment.ask(&refund(order), &key(order, "undo"), 1).await;
    assert_eq!(nothing.kind, "payment.nothing_to_undo.v1");
    let charge = charge(order, "alice", 300, &PaymentMethod::Wallet);
    let declined = payment.ask(&charge, &key(order, "do"), 1).await;
    assert_eq!(declined.kind, "payment.declined.v1");
    assert_eq!(declined.data["reason"], "order_cancelled");
    assert_eq!(
        (
            payment.balance("alice").await,
            payment.state(order).await.as_str()
        ),
        (1000, "void")
    );
    payment.stop().await;
}

#[tokio::test]
async fn uncovered_charge_is_declined_and_leaves_nothing_to_undo() {
    let payment = spawn_app().await;
    payment.fund("alice", 299).await;
    for (customer, reason) in [("alice", "insufficient_funds"), ("mallory", "no_account")] {
        let order = OrderId::new();
        let charge = charge(order, customer, 300, &PaymentMethod::Wallet);
        for n in 1..=2 {
            let declined = payment.ask(&charge, &key(order, "do"), n).await;
            assert_eq!(declined.kind, "payment.declined.v1");
            assert_eq!(declined.data["reason"], reason);
        }
        let nothing = payment.ask(&refund(order), &key(order, "undo"), 1).await;
        assert_eq!(nothing.kind, "payment.nothing_to_undo.v1");
    }
    payment.stop().await;
}

#[tokio::test]
async fn commands_of_one_order_in_one_batch_are_each_answered() {
    let payment = spawn_app().await;
    payment.fund("alice", 1000).await;
    let order = OrderId::new();
    let charge = charge(order, "alice", 300, &PaymentMethod::Wallet);
    let orchestrator = chassis::events::Publishing::by("orchestrator");
    let messages = [
        orchestrator.command(&charge, "payment", key(order, "do")),
        orchestrator.command(&charge, "payment", key(order, "do")),
        orchestrator.command(&refund(order), "payment", key(order, "undo")),
        orchestrator.command(&charge, "payment", key(order, "do")),
    ];
    payment.probe.send_all(&messages).await;
    payment.probe.wait_for_nth_reply(&key(order, "do"), 3).await;
    payment.probe.wait_for_reply(&key(order, "undo")).await;
    let kinds: Vec<String> = payment
        .probe
        .seen_on("replies", order)
        .into_iter()
        .map(|reply| reply.kind)
        .collect();
    assert_eq!(
        kinds,
        [
            "payment.completed.v1",
            "payment.completed.v1",
            "payment.refunded.v1",
            "payment.declined.v1"
        ]
    );
    assert_eq!(payment.balance("alice").await, 1000);
    payment.stop().await;
}

#[tokio::test]
async fn settled_payment_is_recorded_and_never_refunded() {
    let payment = spawn_app().await;
    payment.fund("alice", 1000).await;
    let order = OrderId::new();
    let charge = charge(order, "alice", 300, &PaymentMethod::Wallet);
    payment.ask(&charge, &key(order, "do"), 1).await;
    for n in 1..=2 {
        let settled = payment.ask(&settle(order), &key(order, "settle"), n).await;
        assert_eq!(settled.kind, "payment.settled.v1");
    }
    let settled = payment.ask(&refund(order), &key(order, "undo"), 1).await;
    assert_eq!(settled.kind, "payment.settled.v1");
    assert_eq!(payment.balance("alice").await, 700);
    let settlements: Vec<(i64, String, String)> =
        sqlx::query_as("select amount_minor, operator, note from settlement")
            .fetch_all(&payment.app.pool)
            .await
            .expect("the table is there");
    assert_eq!(
        settlements,
        [(300, "olga".into(), "paid back by bank transfer".into())]
    );
    payment.stop().await;
}

/// A message that its queue does not take is parked, and an operator's edit of it is checked against that queue's
/// types.
#[tokio::test]
async fn each_queue_takes_its_own_types_only_also_after_an_edit() {
    let mut payment = spawn_app().await;
    let (stray, lost, nameless, free) = (
        OrderId::new(),
        OrderId::new(),
        OrderId::new(),
        OrderId::new(),
    );
    let (app, probe) = (&payment.app, &payment.probe);
    // An event among the commands, a command among the events, a command without a key to reply under, and a charge of
    // zero.
    probe
        .command("payment", &cancelling(stray), &key(stray, "undo"))
        .await;
    let event = |kind: &str, order: OrderId| {
        let data = serde_json::to_vec(&refund(order)).expect("JSON");
        Event::new(kind, "/orchestrator", order.to_string(), data)
    };
    let refund_type = "orchestrator.refund_payment.v1";
    probe
        .send(
            event(refund_type, lost)
                .into_message("retry.payment", "payment.choreography".to_owned()),
        )
        .await;
    probe
        .send(
            event(refund_type, nameless)
                .into_message("commands.orchestrator", "payment".to_owned()),
        )
        .await;
    let gift = charge(free, "alice", 0, &PaymentMethod::Wallet);
    probe.command("payment", &gift, &key(free, "do")).await;

    let parked = eventually("all are parked", || async {
        let parked = answer(app.as_operator(Method::GET, "/operator/parked")).await;
        let parked = parked.expect(200).as_array().cloned().unwrap_or_default();
        if parked.len() == 4 {
            Ok(parked)
        } else {
            Err(format!("{parked:#?}"))
        }
    })
    .await;
    for (order, queue, cause, detail) in [
        (
            stray,
            "payment.commands",
            "unknown_type",
            "order.cancelling.v1",
        ),
        (lost, "payment.choreography", "unknown_type", refund_type),
        (nameless, "payment.commands", "malformed", "idempotencykey"),
        (free, "payment.commands", "contract_violation", "amount"),
    ] {
        let found = parked
            .iter()
            .find(|parked| parked["subject"] == order.to_string())
            .expect("it is parked");
        assert_eq!(found["queue"], queue);
        assert_eq!(found["cause"], cause);
        let why = found["detail"].as_str().unwrap_or_default();
        assert!(why.contains(detail), "{why}");
        assert_eq!(payment.state(order).await, "unheard of");
    }

    let stray_id = parked
        .iter()
        .find(|parked| parked["subject"] == stray.to_string())
        .and_then(|parked| parked["id"].as_str())
        .expect("an id");
    let path = format!("/operator/parked/{stray_id}");
    let edit = async |kind: &str| {
        let body = json!({ "note": "it is a command", "type": kind, "data": cancelling(stray) });
        answer(app.as_operator(Method::PUT, &path).json(&body)).await
    };
    edit("order.cancelling.v1")
        .await
        .expect_problem(422, "invalid-field", Some("data"));
    edit(refund_type).await.expect(204);
    let again = app.as_operator(Method::POST, &format!("{path}/requeue"));
    answer(again.json(&json!({ "note": "now it fits" })))
        .await
        .expect(202);
    let nothing = probe.wait_for_reply(&key(stray, "undo")).await;
    assert_eq!(nothing.kind, "payment.nothing_to_undo.v1");
    payment.app.expect_trouble();
    payment.stop().await;
}
