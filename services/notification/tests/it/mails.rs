//! Each end of an order is one mail, however the mail server replies.

use contracts::value::OrderId;
use reqwest::Method;
use testkit::{SmtpMode, answer, eventually};

use crate::helpers::{cancelled, confirmed, spawn_app};

#[tokio::test]
async fn repeated_event_sends_one_mail_for_each_end() {
    let notification = spawn_app().await;
    let order = OrderId::new();
    for _ in 0..3 {
        notification.probe.publish(&confirmed(order)).await;
    }
    let mail = notification
        .wait_for(order, "order.confirmed", "sent")
        .await;
    assert_eq!(
        (mail["attempts"].as_i64(), mail["recipient"].as_str()),
        (Some(1), Some("alice@example.test"))
    );
    notification
        .probe
        .publish(&cancelled(order, Some("alice@example.test")))
        .await;
    notification
        .wait_for(order, "order.cancelled", "sent")
        .await;

    let delivered = notification.delivered(order);
    assert_eq!(delivered.len(), 2, "{delivered:#?}");
    assert_eq!(delivered[0].to, ["alice@example.test"]);
    assert_eq!(delivered[0].from, "orders@holdfast.example");
    assert!(
        delivered[0]
            .unwrapped()
            .contains("12.50 EUR has been charged"),
        "{}",
        delivered[0].unwrapped()
    );
    assert!(
        delivered[1].unwrapped().contains("on its way back"),
        "{}",
        delivered[1].unwrapped()
    );
    assert_eq!(notification.outcomes().await, ["accepted", "accepted"]);
    notification.stop().await;
}

#[tokio::test]
async fn late_confirmation_is_not_mailed_after_a_cancellation() {
    let notification = spawn_app().await;
    let order = OrderId::new();
    notification
        .probe
        .publish(&cancelled(order, Some("alice@example.test")))
        .await;
    notification
        .wait_for(order, "order.cancelled", "sent")
        .await;
    notification.probe.publish(&confirmed(order)).await;
    // Another order is behind the late event in the queue: once its mail is sent, the late event has been handled.
    let next = OrderId::new();
    notification.probe.publish(&confirmed(next)).await;
    notification.wait_for(next, "order.confirmed", "sent").await;
    assert_eq!(notification.mails(order).await.len(), 1);
    assert_eq!(notification.delivered(order).len(), 1);
    notification.stop().await;
}

#[tokio::test]
async fn mail_without_an_address_is_skipped() {
    let notification = spawn_app().await;
    let order = OrderId::new();
    notification.probe.publish(&cancelled(order, None)).await;
    notification
        .wait_for(order, "order.cancelled", "skipped")
        .await;
    assert!(notification.outcomes().await.is_empty());
    notification.stop().await;
}

#[tokio::test]
async fn mail_is_retried_while_the_server_is_unavailable_or_busy() {
    let notification = spawn_app().await;
    notification.line.cut();
    let (away, busy) = (OrderId::new(), OrderId::new());
    notification.probe.publish(&confirmed(away)).await;
    notification.wait_for_outcome("unknown").await;
    notification.line.restore();
    notification.wait_for(away, "order.confirmed", "sent").await;

    notification.sink.set(SmtpMode::Defer);
    notification.probe.publish(&confirmed(busy)).await;
    notification.wait_for_outcome("deferred").await;
    notification.sink.set(SmtpMode::Accept);
    notification.wait_for(busy, "order.confirmed", "sent").await;
    assert_eq!(
        (
            notification.delivered(away).len(),
            notification.delivered(busy).len()
        ),
        (1, 1)
    );
    notification.stop().await;
}

#[tokio::test]
async fn refused_mail_fails_and_an_operator_can_requeue_it() {
    let notification = spawn_app().await;
    notification.sink.set(SmtpMode::Refuse);
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    let mail = notification
        .wait_for(order, "order.confirmed", "failed")
        .await;
    assert!(
        mail["last_reply"]
            .as_str()
            .is_some_and(|reply| reply.contains("never")),
        "{mail}"
    );
    assert_eq!(notification.outcomes().await, ["refused"]);

    notification.sink.set(SmtpMode::Accept);
    let path = format!(
        "/operator/mails/{}/requeue",
        mail["id"].as_str().expect("an id")
    );
    answer(notification.app.as_operator(Method::POST, &path))
        .await
        .expect(202);
    notification
        .wait_for(order, "order.confirmed", "sent")
        .await;
    answer(notification.app.as_operator(Method::POST, &path))
        .await
        .expect_problem(404, "not-found", None);
    answer(
        notification
            .app
            .as_customer("alice", Method::GET, "/operator/mails"),
    )
    .await
    .expect_problem(403, "forbidden", None);
    notification.stop().await;
}

#[tokio::test]
async fn resent_mail_keeps_its_message_id() {
    let notification = spawn_app().await;
    notification.sink.set(SmtpMode::TakeAndHangUp);
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    eventually("the server hangs up without a reply", || async {
        let outcomes = notification.outcomes().await;
        if outcomes.first().is_some_and(|outcome| outcome == "unknown") {
            Ok(())
        } else {
            Err(format!("{outcomes:?}"))
        }
    })
    .await;
    notification.sink.set(SmtpMode::Accept);
    notification
        .wait_for(order, "order.confirmed", "sent")
        .await;
    let delivered = notification.delivered(order);
    assert!(delivered.len() >= 2);
    let ids: std::collections::HashSet<_> = delivered
        .iter()
        .map(|mail| mail.header("Message-ID"))
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    notification.stop().await;
}

/// A send that is given up while the server still has replies to give must not leave them to the next mail: read one
/// reply late, the server's "go on" would pass for its verdict, and a refused mail for a sent one.
#[tokio::test]
async fn send_given_up_half_way_leaves_no_reply_to_the_next() {
    let notification = spawn_app().await;
    // Each reply comes within the timeout of one command, but all together exceed that of the mail.
    notification.sink.set(SmtpMode::Dawdle);
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    notification.wait_for_outcome("unknown").await;
    notification.sink.set(SmtpMode::RefuseText);
    let mail = eventually("the mail is over", || async {
        let mails = notification.mails(order).await;
        let ended = mails.iter().find(|mail| mail["state"] != "queued").cloned();
        ended.ok_or_else(|| format!("{mails:?}"))
    })
    .await;
    assert_eq!(mail["state"], "failed", "{mail}");
    assert!(
        mail["last_reply"]
            .as_str()
            .is_some_and(|reply| reply.contains("not this one")),
        "{mail}"
    );
    notification.stop().await;
}
