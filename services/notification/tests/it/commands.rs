//! The orchestrator's commands: each is answered, and each end of an order is one mail.

use chassis::events::Publishing;
use contracts::{
    orchestrator::{News, Undoing},
    order::CancelReason,
    value::OrderId,
};
use holdfast::messaging::Event;
use reqwest::Method;
use serde_json::json;
use testkit::{answer, eventually};

use crate::helpers::{confirmed, key, send, spawn_app};

const ALICE: Option<&str> = Some("alice@example.test");

fn cancelled(payment: Undoing) -> News {
    News::Cancelled {
        reason: CancelReason::Customer,
        payment,
    }
}

#[tokio::test]
async fn repeated_command_is_answered_again_and_mailed_once() {
    let notification = spawn_app().await;
    let order = OrderId::new();
    let [to_confirm, to_cancel] = [
        key(order, "send_notification/do"),
        key(order, "undo/send_notification/do"),
    ];
    let news = send(order, 2, News::Confirmed, ALICE);
    for n in 1..=2 {
        let queued = notification.ask(&news, &to_confirm, n).await;
        assert_eq!(queued.data["order_version"], 2);
    }
    notification
        .wait_for(order, "order.confirmed", "sent")
        .await;
    let undone = send(order, 4, cancelled(Undoing::Undone), ALICE);
    for n in 1..=2 {
        notification.ask(&undone, &to_cancel, n).await;
    }
    notification
        .wait_for(order, "order.cancelled", "sent")
        .await;
    let delivered = notification.delivered(order);
    assert_eq!(delivered.len(), 2, "{delivered:#?}");
    assert!(delivered[0].unwrapped().contains("has been charged"));
    assert!(delivered[1].unwrapped().contains("you asked us to"));
    assert_eq!(notification.probe.seen_on("replies", order).len(), 4);
    assert!(
        notification.probe.seen_on("events", order).is_empty(),
        "no event is published"
    );
    notification.stop().await;
}

#[tokio::test]
async fn late_news_is_answered_and_not_mailed() {
    let notification = spawn_app().await;
    let order = OrderId::new();
    let undone = send(order, 4, cancelled(Undoing::Undone), ALICE);
    notification.ask(&undone, &key(order, "undo"), 1).await;
    let late = send(order, 2, News::Confirmed, ALICE);
    let queued = notification.ask(&late, &key(order, "do"), 1).await;
    assert_eq!(queued.data["order_version"], 2);
    notification
        .wait_for(order, "order.cancelled", "sent")
        .await;
    assert_eq!(notification.mails(order).await.len(), 1);
    notification.stop().await;
}

#[tokio::test]
async fn command_without_an_address_is_answered_and_skipped() {
    let notification = spawn_app().await;
    let order = OrderId::new();
    let news = send(order, 2, News::Confirmed, None);
    notification.ask(&news, &key(order, "do"), 1).await;
    notification
        .wait_for(order, "order.confirmed", "skipped")
        .await;
    notification.stop().await;
}

#[tokio::test]
async fn commands_of_one_order_in_one_batch_are_each_answered() {
    let notification = spawn_app().await;
    let order = OrderId::new();
    let orchestrator = Publishing::by("orchestrator");
    let confirmed = send(order, 2, News::Confirmed, ALICE);
    let undone = send(order, 4, cancelled(Undoing::Undone), ALICE);
    let to = "notification";
    let messages = [
        orchestrator.command(&confirmed, to, key(order, "do")),
        orchestrator.command(&confirmed, to, key(order, "do")),
        orchestrator.command(&undone, to, key(order, "undo")),
        orchestrator.command(&confirmed, to, key(order, "do")),
    ];
    notification.probe.send_all(&messages).await;
    notification
        .probe
        .wait_for_nth_reply(&key(order, "do"), 3)
        .await;
    notification.probe.wait_for_reply(&key(order, "undo")).await;
    assert_eq!(notification.mails(order).await.len(), 2);
    notification.stop().await;
}

#[tokio::test]
async fn cancellation_mail_says_what_happened_to_the_money() {
    let notification = spawn_app().await;
    for (payment, words) in [
        (Undoing::Undone, "on its way back"),
        (Undoing::NothingToUndo, "have not been charged"),
        (Undoing::Settled, "put right by our staff"),
    ] {
        let order = OrderId::new();
        let news = send(order, 4, cancelled(payment), ALICE);
        notification.ask(&news, &key(order, "undo"), 1).await;
        notification
            .wait_for(order, "order.cancelled", "sent")
            .await;
        let text = notification.delivered(order)[0].unwrapped();
        assert!(text.contains(words), "{text}");
    }
    notification.stop().await;
}

/// A message that its queue does not take is parked, and an operator's edit is checked against that queue's types.
#[tokio::test]
async fn each_queue_takes_its_own_types_only_also_after_an_edit() {
    let mut notification = spawn_app().await;
    let (stray, lost, nameless) = (OrderId::new(), OrderId::new(), OrderId::new());
    let (app, probe) = (&notification.app, &notification.probe);
    // An event among the commands, a command among the events, and a command without a key to reply under.
    probe
        .command("notification", &confirmed(stray), &key(stray, "do"))
        .await;
    let event = |kind: &str, order: OrderId| {
        let data = serde_json::to_vec(&send(order, 2, News::Confirmed, ALICE)).expect("JSON");
        Event::new(kind, "/orchestrator", order.to_string(), data)
    };
    let send_type = "orchestrator.send_notification.v1";
    probe
        .send(
            event(send_type, lost)
                .into_message("retry.notification", "notification.choreography".to_owned()),
        )
        .await;
    probe
        .send(
            event(send_type, nameless)
                .into_message("commands.orchestrator", "notification".to_owned()),
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
        (stray, "notification.commands", "unknown_type"),
        (lost, "notification.choreography", "unknown_type"),
        (nameless, "notification.commands", "malformed"),
    ] {
        assert_eq!(
            (&of(order)["queue"], &of(order)["cause"]),
            (&json!(queue), &json!(cause))
        );
        assert!(notification.mails(order).await.is_empty());
    }

    let path = format!(
        "/operator/parked/{}",
        of(stray)["id"].as_str().expect("an id")
    );
    let edit = async |kind: &str, news: &str| {
        let mut data = json!(confirmed(stray));
        data["news"] = json!(news);
        let body = json!({ "note": "it is a command", "type": kind, "data": data });
        answer(app.as_operator(Method::PUT, &path).json(&body)).await
    };
    for (kind, news) in [("order.confirmed.v1", "confirmed"), (send_type, "good")] {
        edit(kind, news)
            .await
            .expect_problem(422, "invalid-field", Some("data"));
    }
    edit(send_type, "confirmed").await.expect(204);
    let again = app.as_operator(Method::POST, &format!("{path}/requeue"));
    answer(again.json(&json!({ "note": "now it fits" })))
        .await
        .expect(202);
    probe.wait_for_reply(&key(stray, "do")).await;
    notification
        .wait_for(stray, "order.confirmed", "sent")
        .await;
    notification.app.expect_trouble();
    notification.stop().await;
}
