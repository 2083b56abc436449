//! The log of attempts, and the resending of webhooks on request.

use std::collections::HashSet;

use contracts::value::OrderId;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::{answer, eventually};

use crate::{
    helpers::{Notification, confirmed, spawn_with},
    receiver::{Hook, Mode, Receiver},
    webhooks::{LOCAL, listening, text},
};

/// Makes an endpoint's webhooks so old that they are given up.
const OLD: &str =
    "update webhook set created_at = now() - interval '73 hours' where endpoint_id = $1";

fn path(endpoint: &Value, webhook: &Value, action: &str) -> String {
    let (endpoint, webhook) = (text(endpoint, "id"), text(webhook, "id"));
    format!("/webhooks/{endpoint}/messages/{webhook}{action}")
}

/// Starts a service and a receiver, and registers an endpoint of alice's there.
async fn alice_listens(settings: &[&str]) -> (Notification, Receiver, Value) {
    let notification = spawn_with(settings, None).await;
    let receiver = Receiver::start().await;
    let request = notification.as_alice(Method::POST, "/webhooks");
    let body = json!({ "url": receiver.url("/hook") });
    let endpoint = answer(request.json(&body)).await.expect(201);
    (notification, receiver, endpoint)
}

impl Notification {
    fn as_alice(&self, method: Method, path: &str) -> RequestBuilder {
        self.app.as_customer("alice", method, path)
    }

    /// Requests a resend of a webhook as an operator, and returns the response.
    async fn resend(&self, endpoint: &Value, webhook: &Value, note: &str) -> Value {
        let path = path(endpoint, webhook, "/resend");
        let request = self.app.as_operator(Method::POST, &path);
        answer(request.json(&json!({ "note": note })))
            .await
            .expect(202)
    }

    /// Returns all attempts at a webhook, oldest first, read page by page as its owner.
    async fn attempts(&self, endpoint: &Value, webhook: &Value, page: usize) -> Vec<Value> {
        let path = path(endpoint, webhook, "/attempts");
        let mut all = Vec::new();
        let mut before = String::new();
        loop {
            let query = format!("{path}?limit={page}{before}");
            let seen = answer(self.as_alice(Method::GET, &query)).await.expect(200);
            let attempts = seen["attempts"].as_array().expect("a list");
            all.extend(attempts.iter().cloned());
            let Some(next) = seen.get("next") else {
                break;
            };
            assert_eq!(attempts.len(), page, "{seen:#}");
            before = format!("&before={next}");
        }
        all.reverse();
        all
    }

    /// Returns all webhooks to an endpoint, newest first, read page by page as its owner.
    async fn list(&self, endpoint: &Value, filter: &str, page: usize) -> Vec<Value> {
        let path = format!("/webhooks/{}/messages", text(endpoint, "id"));
        let mut all = Vec::new();
        let mut before = String::new();
        loop {
            let query = format!("{path}?limit={page}{filter}{before}");
            let seen = answer(self.as_alice(Method::GET, &query)).await.expect(200);
            let webhooks = seen["webhooks"].as_array().expect("a list");
            all.extend(webhooks.iter().cloned());
            let Some(next) = seen["next"].as_str() else {
                return all;
            };
            assert_eq!(webhooks.len(), page, "{seen:#}");
            before = format!("&before={next}");
        }
    }

    async fn execute(&self, sql: &'static str) {
        let executed = sqlx::query(sql).execute(&self.app.pool).await;
        executed.expect("valid SQL");
    }
}

#[tokio::test]
async fn attempts_are_shown_with_answer_and_duration() {
    let (notification, receiver, endpoint) = alice_listens(&LOCAL).await;
    let order = OrderId::new();
    receiver.set(Mode::Hang);
    notification.probe.publish(&confirmed(order)).await;
    notification
        .wait_for_reply(&endpoint, "no answer in time")
        .await;
    receiver.set(Mode::status(503));
    notification.wait_for_reply(&endpoint, "answered 503").await;
    receiver.set(Mode::status(204));
    let webhook = notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;

    let attempts = notification.attempts(&endpoint, &webhook, 200).await;
    assert_eq!(webhook["attempts"], attempts.len(), "{attempts:#?}");
    for (attempt, n) in attempts.iter().zip(1..) {
        assert_eq!(attempt["attempt"], n, "{attempts:#?}");
    }
    let (first, last) = (&attempts[0], &attempts[attempts.len() - 1]);
    assert_eq!(
        (&first["outcome"], &first["reply"]),
        (&json!("retried"), &json!("no answer in time"))
    );
    // The attempt took as long as its timeout.
    assert!(first["took_ms"].as_i64() >= Some(500), "{first}");
    assert_eq!(
        (&last["outcome"], &last["reply"]),
        (&json!("delivered"), &json!("answered 204"))
    );
    assert!(last["took_ms"].as_i64() < Some(500), "{last}");
    assert!(text(first, "at") < text(last, "at"), "{attempts:#?}");
    let is_busy =
        |attempt: &Value| attempt["outcome"] == "retried" && attempt["reply"] == "answered 503";
    assert!(attempts.iter().any(is_busy), "{attempts:#?}");
    assert_eq!(
        notification.attempts(&endpoint, &webhook, 1).await,
        attempts
    );

    let query = path(&endpoint, &webhook, "/attempts?limit=0");
    answer(notification.as_alice(Method::GET, &query))
        .await
        .expect_problem(422, "invalid-field", Some("query limit"));
    notification.stop().await;
}

#[tokio::test]
async fn a_cursor_that_is_no_webhook_of_the_endpoint_is_refused() {
    let (notification, receiver, endpoint) = alice_listens(&LOCAL).await;
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    let webhook = notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    // This endpoint is registered later, so the webhook is not one of its own.
    let request = notification.as_alice(Method::POST, "/webhooks");
    let body = json!({ "url": receiver.url("/later") });
    let later = answer(request.json(&body)).await.expect(201);

    let list = async |endpoint: &Value, query: &str| {
        let path = format!("/webhooks/{}/messages?{query}", text(endpoint, "id"));
        answer(notification.as_alice(Method::GET, &path)).await
    };
    let (known, unknown) = (text(&webhook, "id"), OrderId::new().to_string());
    for (endpoint, cursor) in [(&endpoint, "1"), (&endpoint, &unknown), (&later, known)] {
        for filter in ["", "&failed=true"] {
            list(endpoint, &format!("before={cursor}{filter}"))
                .await
                .expect_problem(422, "invalid-field", Some("query before"));
        }
    }
    // The last webhook is a valid cursor, after which nothing comes.
    let page = list(&endpoint, &format!("before={known}")).await;
    assert_eq!(page.expect(200)["webhooks"], json!([]));

    let attempts = path(&endpoint, &webhook, "/attempts?before=first");
    answer(notification.as_alice(Method::GET, &attempts))
        .await
        .expect_problem(422, "invalid-field", Some("query before"));
    notification.stop().await;
}

/// A webhook that was given up is resent under its id, with a new timestamp and signature, and tried for as long as a
/// new one.
#[tokio::test]
async fn resent_webhook_keeps_its_id_and_is_tried_like_a_new_one() {
    let (notification, receiver, endpoint) = listening().await;
    receiver.set(Mode::status(503));
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    notification.wait_for_reply(&endpoint, "answered 503").await;
    notification.alter(OLD, &endpoint["id"]).await;
    let failed = notification
        .wait_for_webhook(&endpoint, order, "failed")
        .await;
    let before = receiver.seen("/hook");
    let signed_at = |hook: &Hook| -> i64 {
        let signed_at = hook.header("webhook-timestamp");
        signed_at.parse().expect("a number")
    };
    let last = before.last().map(signed_at).expect("it was tried");
    eventually("another second", || async {
        let now: i64 = sqlx::query_scalar("select floor(extract(epoch from now()))::int8")
            .fetch_one(&notification.app.pool)
            .await
            .expect("the time");
        if now > last { Ok(()) } else { Err(now) }
    })
    .await;

    let resent = notification
        .resend(&endpoint, &failed, "it works again, they say")
        .await;
    assert_eq!(
        (&resent["resent"], &resent["state"], &resent["id"]),
        (&json!(true), &json!("queued"), &failed["id"])
    );
    // The receiver still fails. But the webhook's time has begun anew: it waits for the next attempt.
    let is_tried_again = |seen: &Value| {
        let hook = &seen["webhooks"][0];
        hook["state"] == "queued" && hook["attempts"].as_i64() > failed["attempts"].as_i64()
    };
    notification
        .wait_for_endpoint(&endpoint, "it is tried again", is_tried_again)
        .await;
    let again = notification.resend(&endpoint, &failed, "now?").await;
    assert_eq!(
        (&again["resent"], &again["state"]),
        (&json!(false), &json!("queued"))
    );
    receiver.set(Mode::status(204));
    let delivered = notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    let hooks = receiver.seen("/hook");
    assert_eq!(delivered["attempts"], hooks.len(), "{hooks:#?}");
    let new = &hooks[before.len()..];
    assert!(new.len() >= 2, "{hooks:#?}");
    for hook in new {
        assert_eq!((hook.id(), &hook.body), (before[0].id(), &before[0].body));
        assert!(signed_at(hook) > last, "{hooks:#?}");
        assert!(hook.is_signed_by(text(&endpoint, "secret")), "{hook:?}");
    }

    // The request that changed nothing is not listed.
    let show = path(&endpoint, &failed, "");
    let seen = answer(notification.app.as_operator(Method::GET, &show)).await;
    let seen = seen.expect(200);
    assert_eq!(seen["state"], "delivered");
    let resends = seen["resends"].as_array().expect("a list");
    assert_eq!(resends.len(), 1, "{seen:#}");
    assert_eq!(
        (&resends[0]["by"], &resends[0]["note"]),
        (&json!("olga"), &json!("it works again, they say"))
    );
    notification.stop().await;
}

#[tokio::test]
async fn customer_resends_webhooks_of_own_endpoints_only() {
    let (notification, receiver, endpoint) = alice_listens(&LOCAL).await;
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    let webhook = notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    let operators = notification
        .register(json!({ "url": receiver.url("/operators") }))
        .await;
    let recover = |endpoint: &Value| format!("/webhooks/{}/recover", text(endpoint, "id"));
    let messages = |endpoint: &Value| format!("/webhooks/{}/messages", text(endpoint, "id"));
    let since = json!({ "since": "2026-01-01T00:00:00Z" });

    // Another owner's webhooks look like missing ones.
    for (customer, endpoint) in [("bob", &endpoint), ("alice", &operators)] {
        let ask = |method, path: &str| notification.app.as_customer(customer, method, path);
        for request in [
            ask(Method::GET, &messages(endpoint)),
            ask(Method::GET, &path(endpoint, &webhook, "")),
            ask(Method::GET, &path(endpoint, &webhook, "/attempts")),
            ask(Method::POST, &path(endpoint, &webhook, "/resend")).json(&json!({})),
            ask(Method::POST, &recover(endpoint)).json(&since),
        ] {
            answer(request).await.expect_problem(404, "not-found", None);
        }
    }
    let service = notification
        .app
        .as_service(Method::POST, &path(&endpoint, &webhook, "/resend"));
    answer(service.json(&json!({})))
        .await
        .expect_problem(403, "forbidden", None);
    // A webhook-id that is unknown, or not valid, is reported as missing as well.
    for nothing in [json!({ "id": OrderId::new() }), json!({ "id": "last" })] {
        let request = notification.as_alice(Method::POST, &path(&endpoint, &nothing, "/resend"));
        answer(request.json(&json!({})))
            .await
            .expect_problem(404, "not-found", None);
    }
    // Operators have to give a reason.
    for (path, body) in [
        (path(&endpoint, &webhook, "/resend"), json!({})),
        (recover(&endpoint), since),
    ] {
        let request = notification.app.as_operator(Method::POST, &path);
        answer(request.json(&body))
            .await
            .expect_problem(422, "invalid-field", Some("note"));
    }

    let resend = path(&endpoint, &webhook, "/resend");
    let resent = answer(
        notification
            .as_alice(Method::POST, &resend)
            .json(&json!({})),
    )
    .await
    .expect(202);
    assert_eq!(resent["resent"], true, "{resent}");
    let hooks = receiver.wait_for("/hook", 2).await;
    assert_eq!(hooks[1].id(), hooks[0].id());
    let delivered = notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    assert_eq!(delivered["attempts"], 2);
    let show = path(&endpoint, &webhook, "");
    let seen = answer(notification.as_alice(Method::GET, &show))
        .await
        .expect(200);
    let resend = &seen["resends"][0];
    assert_eq!(
        (&resend["by"], &resend["note"]),
        (&json!("alice"), &Value::Null)
    );
    assert_eq!(receiver.seen("/hook").len(), 2, "a refusal sent nothing");
    notification.stop().await;
}

#[tokio::test]
async fn disabled_or_deleted_endpoint_gets_no_resends() {
    let (notification, receiver, endpoint) = listening().await;
    let (early, late) = (OrderId::new(), OrderId::new());
    notification.probe.publish(&confirmed(early)).await;
    let delivered = notification
        .wait_for_webhook(&endpoint, early, "delivered")
        .await;
    receiver.set(Mode::status(410));
    notification.probe.publish(&confirmed(late)).await;
    let failed = notification
        .wait_for_webhook(&endpoint, late, "failed")
        .await;
    let tried = receiver.seen("/hook").len();
    let recover = format!("/webhooks/{}/recover", text(&endpoint, "id"));
    let because = json!({ "note": "they asked", "since": "2026-01-01T00:00:00Z" });
    let note = json!({ "note": "they asked" });
    let refused = [
        (path(&endpoint, &delivered, "/resend"), &note),
        (path(&endpoint, &failed, "/resend"), &note),
        (recover, &because),
    ];
    for (path, body) in &refused {
        let request = notification.app.as_operator(Method::POST, path);
        let detail = answer(request.json(body))
            .await
            .expect_problem(409, "conflict", None);
        assert!(
            detail.contains("it answered 410 Gone") && detail.contains("enable it first"),
            "{detail}"
        );
    }
    let attempts = path(&endpoint, &failed, "/attempts");
    let attempts = answer(notification.app.as_operator(Method::GET, &attempts))
        .await
        .expect(200);
    assert_eq!(attempts["attempts"][0]["outcome"], "gone", "{attempts:#}");

    // After the endpoint is enabled, the webhooks are as before: a refusal has changed nothing.
    receiver.set(Mode::status(204));
    notification.act(&endpoint, "enable").await;
    let seen = notification.endpoint(&endpoint).await;
    let states = [&seen["webhooks"][0]["state"], &seen["webhooks"][1]["state"]];
    assert_eq!(states, ["failed", "delivered"], "{seen:#}");
    assert_eq!(receiver.seen("/hook").len(), tried);
    notification.resend(&endpoint, &failed, "they asked").await;
    notification
        .wait_for_webhook(&endpoint, late, "delivered")
        .await;

    let delete = format!("/webhooks/{}", text(&endpoint, "id"));
    answer(notification.app.as_operator(Method::DELETE, &delete))
        .await
        .expect(204);
    for (path, body) in &refused {
        let request = notification.app.as_operator(Method::POST, path);
        answer(request.json(body))
            .await
            .expect_problem(404, "not-found", None);
    }
    notification.stop().await;
}

/// A recovery resends webhooks that have failed since a time, 500 at once, and says if there are more.
#[tokio::test]
async fn recovery_resends_failed_webhooks_oldest_first() {
    let (notification, receiver, endpoint) = alice_listens(&LOCAL).await;
    // 501 have failed since midnight, and one before; the one of midnight was delivered.
    notification
        .execute(
            "insert into webhook (id, endpoint_id, message_id, order_id, kind, body, state, created_at)
             select gen_random_uuid(), endpoint.id, gen_random_uuid(), gen_random_uuid(), 'order.confirmed', '{}',
                    case n when 0 then 'delivered' else 'failed' end,
                    timestamptz '2026-01-01 00:00:00Z' + make_interval(mins => n)
             from webhook_endpoint as endpoint, generate_series(-1, 501) as n",
        )
        .await;
    let path = format!("/webhooks/{}/recover", text(&endpoint, "id"));
    let recover = || async {
        let since = json!({ "since": "2026-01-01T00:00:00Z" });
        let request = notification.as_alice(Method::POST, &path);
        answer(request.json(&since)).await.expect(202)
    };
    // The owner can list the failed webhooks alone: five pages and two webhooks, newest first.
    let failed = notification.list(&endpoint, "&failed=true", 100).await;
    assert_eq!(failed.len(), 502);
    assert!(failed.iter().all(|webhook| webhook["state"] == "failed"));
    assert!(failed.is_sorted_by(|a, b| text(a, "created_at") > text(b, "created_at")));
    let all = notification.list(&endpoint, "", 200).await;
    assert_eq!(all.len(), 503);
    let delivered: Vec<&Value> = all
        .iter()
        .filter(|webhook| !failed.contains(webhook))
        .collect();
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0]["created_at"], "2026-01-01T00:00:00Z");

    assert_eq!(recover().await, json!({ "resent": 500, "more": true }));
    let newest = notification.endpoint(&endpoint).await["webhooks"][0].clone();
    assert_eq!(newest["state"], "failed", "{newest}");
    assert_eq!(recover().await, json!({ "resent": 1, "more": false }));
    assert_eq!(recover().await, json!({ "resent": 0, "more": false }));

    let states = eventually("none is queued", || async {
        let states: Vec<(String, i64)> =
            sqlx::query_as("select state, count(*) from webhook group by state order by state")
                .fetch_all(&notification.app.pool)
                .await
                .expect("valid SQL");
        if states.iter().any(|(state, _)| state == "queued") {
            Err(format!("{states:?}"))
        } else {
            Ok(states)
        }
    })
    .await;
    assert_eq!(
        states,
        [("delivered".to_owned(), 502), ("failed".to_owned(), 1)]
    );
    let hooks = receiver.seen("/hook");
    let ids: HashSet<&str> = hooks.iter().map(Hook::id).collect();
    assert_eq!((hooks.len(), ids.len()), (501, 501));
    assert!(ids.contains(text(&newest, "id")));
    notification.stop().await;
}

/// A worker that claimed a webhook before it was resent logs its attempt, but does not give the webhook up. The waits
/// between attempts begin anew.
#[tokio::test]
async fn claim_from_before_a_resend_does_not_give_the_webhook_up() {
    let settings = [
        "--webhook-allow-http",
        "--webhook-allow-private",
        "--webhook-timeout-ms=60000",
    ];
    let (notification, receiver, endpoint) = alice_listens(&settings).await;
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    let webhook = notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    // A worker has claimed a webhook that is to be given up; an earlier one has just given it up.
    receiver.set(Mode::Hang);
    notification
        .execute(
            "update webhook set state = 'queued', due_at = now(), attempts = 100, created_at = now() - interval '73 hours'",
        )
        .await;
    receiver.wait_for("/hook", 2).await;
    notification
        .execute("update webhook set state = 'failed', due_at = null")
        .await;
    let resent = notification
        .resend(&endpoint, &webhook, "it had hung")
        .await;
    assert_eq!(resent["resent"], true, "{resent}");
    receiver.wait_for("/hook", 3).await;
    // The receiver hangs up on both. After a hundred attempts the wait would be up to an hour, if it did not begin
    // anew.
    receiver.set(Mode::status(204));
    notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    let attempts = notification.attempts(&endpoint, &webhook, 200).await;
    let outcomes: Vec<&str> = attempts
        .iter()
        .map(|attempt| text(attempt, "outcome"))
        .collect();
    assert_eq!(outcomes.len(), 4, "{attempts:#?}");
    let both: HashSet<&str> = outcomes[1..3].iter().copied().collect();
    assert_eq!(both, HashSet::from(["given_up", "retried"]));
    assert_eq!((outcomes[0], outcomes[3]), ("delivered", "delivered"));
    notification.stop().await;
}
