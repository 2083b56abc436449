//! The orchestrator's commands: the order's row decides, and the reply carries the command's key.

use chassis::events::Publishing;
use contracts::value::OrderId;
use holdfast::messaging::Event;
use reqwest::Method;
use serde_json::json;
use testkit::{answer, eventually};

use crate::helpers::{
    cancelling, commit, confirmed, key, paid, release, reserve, settle, spawn_app,
};

#[tokio::test]
async fn each_command_is_answered_under_its_key_and_done_once() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let order = OrderId::new();
    let reserve = reserve(order, &[("TEA", 3)]);
    let [reserve_do, commit_do, undo] = [
        key(order, "reserve_inventory/do"),
        key(order, "commit_inventory/do"),
        key(order, "reserve_inventory/undo"),
    ];
    for n in 1..=2 {
        let reserved = inventory.ask(&reserve, &reserve_do, n).await;
        assert_eq!(reserved.kind, "inventory.reserved.v1");
        assert_eq!(inventory.shelves("TEA").await, (7, 3, 0, 0));
    }
    for n in 1..=2 {
        let committed = inventory.ask(&commit(order), &commit_do, n).await;
        assert_eq!(committed.kind, "inventory.committed.v1");
        assert_eq!(inventory.shelves("TEA").await, (7, 0, 3, 0));
    }
    for n in 1..=2 {
        let released = inventory.ask(&release(order), &undo, n).await;
        assert_eq!(released.kind, "inventory.released.v1");
        assert_eq!(
            (&released.data["restocked"], &released.data["order_version"]),
            (&json!(true), &json!(3))
        );
        assert_eq!(inventory.shelves("TEA").await, (10, 0, 0, 0));
    }
    // Late commands are answered without being carried out.
    let released = inventory.ask(&commit(order), &commit_do, 3).await;
    assert_eq!(released.kind, "inventory.released.v1");
    let rejected = inventory.ask(&reserve, &reserve_do, 3).await;
    assert_eq!(rejected.kind, "inventory.rejected.v1");
    assert_eq!(rejected.data["reason"], "order_cancelled");
    assert_eq!(inventory.shelves("TEA").await, (10, 0, 0, 0));
    assert_eq!(
        inventory.probe.seen_on("replies", order).len(),
        8,
        "one reply to each command, and no other"
    );
    assert!(
        inventory.probe.seen_on("events", order).is_empty(),
        "no event is published"
    );
    inventory.stop().await;
}

#[tokio::test]
async fn early_undo_keeps_a_late_reserve_from_happening() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let order = OrderId::new();
    let nothing = inventory.ask(&release(order), &key(order, "undo"), 1).await;
    assert_eq!(nothing.kind, "inventory.nothing_to_undo.v1");
    let reserve = reserve(order, &[("TEA", 3)]);
    let rejected = inventory.ask(&reserve, &key(order, "do"), 1).await;
    assert_eq!(rejected.kind, "inventory.rejected.v1");
    assert_eq!(rejected.data["reason"], "order_cancelled");
    assert_eq!(inventory.shelves("TEA").await, (10, 0, 0, 0));
    inventory.stop().await;
}

#[tokio::test]
async fn rejection_is_final_and_leaves_nothing_to_undo() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let order = OrderId::new();
    let reserve = reserve(order, &[("TEA", 11)]);
    for n in 1..=2 {
        let rejected = inventory.ask(&reserve, &key(order, "do"), n).await;
        assert_eq!(
            (&rejected.data["reason"], &rejected.data["sku"]),
            (&json!("out_of_stock"), &json!("TEA"))
        );
        inventory.stock("TEA", 10).await;
    }
    let nothing = inventory.ask(&release(order), &key(order, "undo"), 1).await;
    assert_eq!(nothing.kind, "inventory.nothing_to_undo.v1");
    inventory.stop().await;
}

#[tokio::test]
async fn commands_of_one_order_in_one_batch_are_each_answered() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let order = OrderId::new();
    let orchestrator = Publishing::by("orchestrator");
    let to = |step: &str| key(order, step);
    // The customer cancels what was confirmed, and the undo overtakes the commit.
    let messages = [
        orchestrator.command(&reserve(order, &[("TEA", 3)]), "inventory", to("do")),
        orchestrator.command(&release(order), "inventory", to("undo")),
        orchestrator.command(&commit(order), "inventory", to("commit")),
    ];
    inventory.probe.send_all(&messages).await;
    let mut kinds = Vec::new();
    for step in ["do", "undo", "commit"] {
        let reply = inventory.probe.wait_for_reply(&to(step)).await;
        kinds.push((reply.kind, reply.data["restocked"].clone()));
    }
    assert_eq!(
        kinds,
        [
            ("inventory.reserved.v1".to_owned(), json!(null)),
            ("inventory.released.v1".to_owned(), json!(false)),
            ("inventory.released.v1".to_owned(), json!(false)),
        ]
    );
    assert_eq!(inventory.shelves("TEA").await, (10, 0, 0, 0));
    inventory.stop().await;
}

#[tokio::test]
async fn settled_units_are_written_off_and_never_released() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let order = OrderId::new();
    let reserve = reserve(order, &[("TEA", 3)]);
    inventory.ask(&reserve, &key(order, "do"), 1).await;
    for n in 1..=2 {
        let settled = inventory
            .ask(&settle(order), &key(order, "settle"), n)
            .await;
        assert_eq!(settled.kind, "inventory.settled.v1");
    }
    let settled = inventory.ask(&release(order), &key(order, "undo"), 1).await;
    assert_eq!(settled.kind, "inventory.settled.v1");
    let settled = inventory
        .ask(&commit(order), &key(order, "commit"), 1)
        .await;
    assert_eq!(settled.kind, "inventory.settled.v1");
    assert_eq!(inventory.shelves("TEA").await, (7, 0, 0, 3));
    let settlements: Vec<(String, String, String)> =
        sqlx::query_as("select was, operator, note from settlement")
            .fetch_all(&inventory.app.pool)
            .await
            .expect("the table is there");
    assert_eq!(
        settlements,
        [("reserved".into(), "olga".into(), "fell off a lorry".into())]
    );
    inventory.stop().await;
}

#[tokio::test]
async fn late_commit_of_choreography_is_answered_by_an_event() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let (order, probe) = (OrderId::new(), &inventory.probe);
    probe.publish(&paid(order, &[("TEA", 3)])).await;
    probe.publish(&cancelling(order)).await;
    probe.publish(&confirmed(order)).await;
    let late = probe.wait_for_nth("inventory.released.v1", order, 2).await;
    assert_eq!(late.routing_key, "choreography.inventory.released.v1");
    assert_eq!(inventory.shelves("TEA").await, (10, 0, 0, 0));
    assert!(probe.seen_on("replies", order).is_empty());
    inventory.stop().await;
}

/// A message that its queue does not take is parked, and an operator's edit of it is checked against that queue's
/// types.
#[tokio::test]
async fn each_queue_takes_its_own_types_only_also_after_an_edit() {
    let mut inventory = spawn_app().await;
    let (stray, lost, nameless) = (OrderId::new(), OrderId::new(), OrderId::new());
    let (app, probe) = (&inventory.app, &inventory.probe);
    // An event among the commands, a command among the events, and a command without a key to reply under.
    probe
        .command("inventory", &cancelling(stray), &key(stray, "undo"))
        .await;
    let event = |kind: &str, order: OrderId| {
        let data = serde_json::to_vec(&release(order)).expect("JSON");
        Event::new(kind, "/orchestrator", order.to_string(), data)
    };
    let release_type = "orchestrator.release_inventory.v1";
    probe
        .send(
            event(release_type, lost)
                .into_message("retry.inventory", "inventory.choreography".to_owned()),
        )
        .await;
    probe
        .send(
            event(release_type, nameless)
                .into_message("commands.orchestrator", "inventory".to_owned()),
        )
        .await;

    let parked = eventually("all are parked", || async {
        let parked = answer(app.as_operator(Method::GET, "/operator/parked")).await;
        let parked = parked.expect(200).as_array().cloned().unwrap_or_default();
        if parked.len() == 3 {
            Ok(parked)
        } else {
            Err(format!("{parked:#?}"))
        }
    })
    .await;
    let of = |order: OrderId| {
        parked
            .iter()
            .find(|parked| parked["subject"] == order.to_string())
            .expect("it is parked")
    };
    for (order, queue, cause) in [
        (stray, "inventory.commands", "unknown_type"),
        (lost, "inventory.choreography", "unknown_type"),
        (nameless, "inventory.commands", "malformed"),
    ] {
        assert_eq!(
            (&of(order)["queue"], &of(order)["cause"]),
            (&json!(queue), &json!(cause))
        );
    }

    let path = format!(
        "/operator/parked/{}",
        of(stray)["id"].as_str().expect("an id")
    );
    let edit = async |kind: &str| {
        let body = json!({ "note": "it is a command", "type": kind, "data": cancelling(stray) });
        answer(app.as_operator(Method::PUT, &path).json(&body)).await
    };
    edit("order.cancelling.v1")
        .await
        .expect_problem(422, "invalid-field", Some("data"));
    edit(release_type).await.expect(204);
    let again = app.as_operator(Method::POST, &format!("{path}/requeue"));
    answer(again.json(&json!({ "note": "now it fits" })))
        .await
        .expect(202);
    let nothing = probe.wait_for_reply(&key(stray, "undo")).await;
    assert_eq!(nothing.kind, "inventory.nothing_to_undo.v1");
    inventory.app.expect_trouble();
    inventory.stop().await;
}
