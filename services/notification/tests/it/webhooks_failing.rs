//! Receivers that fail: their webhooks are delivered later, or given up visibly.

use std::time::Duration;

use contracts::value::OrderId;
use serde_json::{Value, json};
use testkit::{Proxy, eventually};

use crate::{
    helpers::{confirmed, spawn_with},
    receiver::{Mode, Receiver},
    webhooks::{LOCAL, listening, text},
};

#[tokio::test]
async fn redirects_errors_and_timeouts_are_tried_again() {
    let notification = spawn_with(&LOCAL, None).await;
    let receiver = Receiver::start().await;
    let line = Proxy::start(([127, 0, 0, 1], receiver.port()).into()).await;
    let url = format!("http://{}/hook", line.address());
    let endpoint = notification.register(json!({ "url": url })).await;
    let elsewhere = receiver.url("/elsewhere");
    for (mode, reply) in [
        (Mode::status(500), "answered 500"),
        (Mode::status(404), "answered 404"),
        (Mode::with(302, "location", &elsewhere), "answered 302"),
        (Mode::with(307, "location", &elsewhere), "answered 307"),
        (Mode::Hang, "no answer in time"),
    ] {
        receiver.set(mode);
        let order = OrderId::new();
        notification.probe.publish(&confirmed(order)).await;
        notification.wait_for_reply(&endpoint, reply).await;
        let failing = |seen: &Value| !seen["failing_since"].is_null();
        notification
            .wait_for_endpoint(&endpoint, "it is failing", failing)
            .await;
        receiver.set(Mode::status(200));
        let delivered = notification
            .wait_for_webhook(&endpoint, order, "delivered")
            .await;
        assert!(delivered["attempts"].as_i64() >= Some(2), "{delivered}");
        let hooks = receiver.seen("/hook");
        let same = hooks.iter().filter(|hook| hook.id() == delivered["id"]);
        let bodies: std::collections::HashSet<_> = same.clone().map(|hook| &hook.body).collect();
        assert!(same.clone().count() >= 2 && bodies.len() == 1, "{hooks:#?}");
        assert!(
            same.into_iter()
                .all(|hook| hook.is_signed_by(text(&endpoint, "secret")))
        );
        let seen = notification.endpoint(&endpoint).await;
        assert!(seen["failing_since"].is_null(), "{seen:#}");
    }
    assert!(
        receiver.seen("/elsewhere").is_empty(),
        "a redirect was followed"
    );

    line.cut();
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    notification
        .wait_for_reply(&endpoint, "cannot be reached")
        .await;
    line.restore();
    notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    notification.stop().await;
}

#[tokio::test]
async fn endless_body_does_not_keep_a_2xx_from_being_a_delivery() {
    let (notification, receiver, endpoint) = listening().await;
    receiver.set(Mode::Endless);
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    let delivered = notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    assert_eq!(delivered["attempts"], 1);
    assert_eq!(receiver.seen("/hook").len(), 1);
    notification.stop().await;
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let (notification, receiver, endpoint) = listening().await;
    receiver.set(Mode::with(429, "retry-after", 2));
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    notification
        .wait_for_reply(&endpoint, "answered 429, Retry-After 2 s")
        .await;
    receiver.set(Mode::status(204));
    notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    let hooks = receiver.seen("/hook");
    assert_eq!(hooks.len(), 2);
    let waited = hooks[1].at - hooks[0].at;
    assert!(waited >= Duration::from_millis(1900), "{waited:?}");
    notification.stop().await;
}

#[tokio::test]
async fn endpoint_that_answers_410_is_disabled_until_enabled() {
    let (notification, receiver, endpoint) = listening().await;
    receiver.set(Mode::status(500));
    let (early, late) = (OrderId::new(), OrderId::new());
    notification.probe.publish(&confirmed(early)).await;
    notification.wait_for_reply(&endpoint, "answered 500").await;
    receiver.set(Mode::status(410));
    let disabled = notification
        .wait_for_endpoint(&endpoint, "it is disabled", |seen| {
            seen["state"] == "disabled"
        })
        .await;
    assert_eq!(disabled["reason"], "it answered 410 Gone");
    notification
        .wait_for_webhook(&endpoint, early, "failed")
        .await;
    // No webhook is queued for it or sent to it.
    let sent = receiver.seen("/hook").len();
    notification.probe.publish(&confirmed(late)).await;
    notification.wait_for(late, "order.confirmed", "sent").await;
    let seen = notification.endpoint(&endpoint).await;
    assert_eq!(
        seen["webhooks"].as_array().map(Vec::len),
        Some(1),
        "{seen:#}"
    );
    assert_eq!(receiver.seen("/hook").len(), sent);

    receiver.set(Mode::status(204));
    let enabled = notification.act(&endpoint, "enable").await;
    assert_eq!(
        (&enabled["state"], &enabled["reason"]),
        (&json!("enabled"), &Value::Null)
    );
    let back = OrderId::new();
    notification.probe.publish(&confirmed(back)).await;
    notification
        .wait_for_webhook(&endpoint, back, "delivered")
        .await;
    notification.stop().await;
}

#[tokio::test]
async fn webhooks_of_a_disabled_endpoint_are_held_until_enabled() {
    let (notification, receiver, endpoint) = listening().await;
    receiver.set(Mode::status(500));
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    notification.wait_for_reply(&endpoint, "answered 500").await;
    notification.act(&endpoint, "disable").await;
    let held = notification
        .wait_for_webhook(&endpoint, order, "held")
        .await;
    assert!(held["next_attempt_at"].is_null(), "{held}");
    receiver.set(Mode::status(204));
    notification.act(&endpoint, "enable").await;
    notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    notification.stop().await;
}

#[tokio::test]
async fn old_webhook_is_given_up_and_failing_endpoint_disabled() {
    let (notification, receiver, endpoint) = listening().await;
    receiver.set(Mode::status(503));
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    notification.wait_for_reply(&endpoint, "answered 503").await;
    let old = "update webhook set created_at = now() - interval '73 hours' where endpoint_id = $1";
    notification.alter(old, &endpoint["id"]).await;
    notification
        .wait_for_webhook(&endpoint, order, "failed")
        .await;
    let seen = notification.endpoint(&endpoint).await;
    assert_eq!(
        seen["state"], "enabled",
        "three days are not five: {seen:#}"
    );

    let long =
        "update webhook_endpoint set failing_since = now() - interval '121 hours' where id = $1";
    notification.alter(long, &endpoint["id"]).await;
    notification.probe.publish(&confirmed(OrderId::new())).await;
    let disabled = notification
        .wait_for_endpoint(&endpoint, "it is disabled", |seen| {
            seen["state"] == "disabled"
        })
        .await;
    let reason = text(&disabled, "reason");
    assert!(
        reason.contains("nothing has been delivered for 120 hours") && reason.contains("503"),
        "{reason}"
    );
    notification.stop().await;
}

#[tokio::test]
async fn open_breaker_puts_webhooks_off_without_an_attempt() {
    // Failures in a row open the destination's breaker, for at least half a minute.
    let settings = [
        "--webhook-allow-http",
        "--webhook-allow-private",
        "--webhook-timeout-ms=500",
    ];
    let notification = spawn_with(&settings, None).await;
    let (down, well) = (Receiver::start().await, Receiver::start().await);
    down.set(Mode::status(500));
    let endpoint = notification
        .register(json!({ "url": down.url("/hook") }))
        .await;
    notification
        .register(json!({ "url": well.url("/hook") }))
        .await;
    for n in 1..=5 {
        notification.probe.publish(&confirmed(OrderId::new())).await;
        well.wait_for("/hook", n).await;
    }
    eventually("five attempts are recorded", || async {
        let seen = notification.endpoint(&endpoint).await;
        let hooks = seen["webhooks"].as_array().cloned().unwrap_or_default();
        let attempts = hooks.iter().filter_map(|hook| hook["attempts"].as_i64());
        // One webhook may have been tried twice before the last one was tried at all.
        if attempts.sum::<i64>() >= 5 {
            Ok(())
        } else {
            Err(format!("{seen:#}"))
        }
    })
    .await;
    let tried = down.seen("/hook").len();
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    well.wait_for("/hook", 6).await;
    eventually("it is put off", || async {
        let seconds: f64 = sqlx::query_scalar(
            "select extract(epoch from due_at - now())::float8 from webhook where order_id = $1 and state = 'queued'",
        )
        .bind(order.0)
        .fetch_one(&notification.app.pool)
        .await
        .map_err(|error| error.to_string())?;
        // Its lease alone would be 10.5 s.
        if seconds > 15.0 { Ok(()) } else { Err(format!("{seconds} s")) }
    })
    .await;
    let put_off = notification
        .wait_for_webhook(&endpoint, order, "queued")
        .await;
    assert_eq!(
        (&put_off["attempts"], &put_off["last_reply"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(down.seen("/hook").len(), tried, "it was sent nevertheless");
    notification.stop().await;
}
