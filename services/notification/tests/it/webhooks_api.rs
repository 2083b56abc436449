//! Endpoints: registered, seen and managed by their owners, on hosts that webhooks may go to.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use contracts::value::OrderId;
use notification::{Lookup, Lookups};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::answer;

use crate::{
    helpers::{Notification, confirmed, spawn_with},
    receiver::Receiver,
    webhooks::{LOCAL, text},
};

/// The message about every host that nothing is sent to: it must not tell if the host exists, or its address.
const REFUSED: &str = "its host cannot be used: webhooks go to hosts that everybody can look up, all of whose addresses are public";

/// A resolver whose names and addresses a test sets.
#[derive(Default)]
struct Names(Mutex<HashMap<String, Vec<IpAddr>>>);

impl Names {
    fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect();
        self.0
            .lock()
            .expect("nobody panics with it")
            .insert(name.to_owned(), addresses);
    }
}

impl Lookup for Names {
    fn lookup(&self, name: &str) -> Lookups {
        let known = self.0.lock().expect("nobody panics with it");
        let answer = known
            .get(name)
            .cloned()
            .ok_or_else(|| std::io::Error::other("no such name"));
        Box::pin(std::future::ready(answer))
    }
}

fn names() -> Arc<Names> {
    let names = Arc::new(Names::default());
    names.set(
        "public.example",
        &["93.184.215.14", "2606:2800:21f:cb07::1"],
    );
    names
}

async fn register_as(notification: &Notification, customer: &str, body: &Value) -> testkit::Answer {
    let app = &notification.app;
    let request = match customer {
        "operator" => app.as_operator(Method::POST, "/webhooks"),
        customer => app.as_customer(customer, Method::POST, "/webhooks"),
    };
    answer(request.json(body)).await
}

#[tokio::test]
async fn endpoint_is_for_its_owner_and_operators_only() {
    let notification = spawn_with(&[], Some(names())).await;
    let app = &notification.app;
    let body = json!({ "url": "https://public.example/hook", "events": ["order.cancelled", "order.cancelled"] });
    let registered = register_as(&notification, "alice", &body).await;
    assert_eq!(registered.header("cache-control"), Some("no-store"));
    let location = registered.header("location").expect("a place").to_owned();
    let alices = registered.expect(201);
    assert_eq!(location, format!("/webhooks/{}", text(&alices, "id")));
    assert!(text(&alices, "secret").starts_with("whsec_"));
    assert_eq!(
        (&alices["owner"], &alices["state"], &alices["events"]),
        (
            &json!("alice"),
            &json!("enabled"),
            &json!(["order.cancelled"])
        )
    );
    let body = json!({ "url": "https://public.example/hook" });
    let operators = register_as(&notification, "operator", &body)
        .await
        .expect(201);
    assert_eq!(
        (&operators["owner"], &operators["events"]),
        (&Value::Null, &json!(["order.confirmed", "order.cancelled"]))
    );

    // An endpoint is seen by its owner and by operators; its secret is not shown again.
    let list = |request| async {
        let list = answer(request).await.expect(200);
        assert!(!list.to_string().contains("whsec_"), "{list}");
        list.as_array().map_or(0, Vec::len)
    };
    assert_eq!(list(app.as_operator(Method::GET, "/webhooks")).await, 2);
    assert_eq!(
        list(app.as_customer("alice", Method::GET, "/webhooks")).await,
        1
    );
    assert_eq!(
        list(app.as_customer("bob", Method::GET, "/webhooks")).await,
        0
    );
    let seen = answer(app.as_customer("alice", Method::GET, &location)).await;
    let seen = seen.expect(200);
    assert!(seen.get("secret").is_none(), "{seen}");
    assert_eq!(seen["webhooks"], json!([]));

    // Another owner's endpoint looks like a missing one.
    let others = format!("/webhooks/{}", text(&operators, "id"));
    for (customer, path) in [("bob", &location), ("alice", &others)] {
        for (method, action) in [
            (Method::GET, ""),
            (Method::POST, "/rotate"),
            (Method::POST, "/enable"),
            (Method::POST, "/disable"),
            (Method::DELETE, ""),
        ] {
            let path = format!("{path}{action}");
            answer(app.as_customer(customer, method, &path))
                .await
                .expect_problem(404, "not-found", None);
        }
    }
    answer(app.as_service(Method::GET, "/webhooks"))
        .await
        .expect_problem(403, "forbidden", None);
    answer(app.request(Method::GET, "/webhooks"))
        .await
        .expect_problem(401, "unauthenticated", None);

    let off = format!("{location}/disable");
    let disabled = answer(app.as_operator(Method::POST, &off))
        .await
        .expect(200);
    assert_eq!(
        (&disabled["state"], &disabled["reason"]),
        (&json!("disabled"), &json!("by olga"))
    );
    answer(app.as_customer("alice", Method::DELETE, &location))
        .await
        .expect(204);
    for method in [Method::GET, Method::DELETE] {
        answer(app.as_customer("alice", method, &location))
            .await
            .expect_problem(404, "not-found", None);
    }
    notification.stop().await;
}

#[tokio::test]
async fn invalid_field_is_named_with_its_limit() {
    let names = names();
    names.set("sly.example", &["93.184.215.14", "10.0.0.1"]);
    names.set("inside.example", &["fd00::1"]);
    names.set("nowhere.example", &[]);
    let notification = spawn_with(&["--webhook-max-endpoints=2"], Some(names)).await;
    let long = format!("https://public.example/{}", "a".repeat(2000));
    for (url, why) in [
        ("http://public.example/", "must begin with https://"),
        ("public.example", "not a valid URL"),
        ("https://user:pass@public.example/", "user or a password"),
        ("https://public.example/#x", "fragment"),
        (long.as_str(), "2000 bytes"),
        ("https://unknown.example/", REFUSED),
        ("https://nowhere.example/", REFUSED),
        ("https://sly.example/", REFUSED),
        ("https://inside.example/", REFUSED),
        ("https://127.0.0.1/", REFUSED),
        ("https://127.1/", REFUSED),
        ("https://0x7f000001/", REFUSED),
        ("https://2130706433/", REFUSED),
        ("https://[::1]/", REFUSED),
        ("https://[::ffff:127.0.0.1]/", REFUSED),
        ("https://[64:ff9b::a00:1]/", REFUSED),
        ("https://169.254.169.254/latest/", REFUSED),
        ("https://100.64.0.1/", REFUSED),
        ("https://0.0.0.0/", REFUSED),
    ] {
        let refused = register_as(&notification, "alice", &json!({ "url": url })).await;
        let detail = refused.expect_problem(422, "invalid-field", Some("url"));
        assert!(detail.contains(why), "{url}: {detail}");
        if why == REFUSED {
            assert_eq!(detail, format!("url: {REFUSED}"), "{url}");
        }
    }
    let url = "https://public.example/";
    for (body, field) in [
        (json!({ "url": url, "events": [] }), "events"),
        (
            json!({ "url": url, "events": ["order.created"] }),
            "events[0]",
        ),
        (json!({ "url": 7 }), "url"),
    ] {
        let refused = register_as(&notification, "alice", &body).await;
        refused.expect_problem(422, "invalid-field", Some(field));
    }
    let unknown = json!({ "url": url, "secret": "mine" });
    let refused = register_as(&notification, "alice", &unknown).await;
    assert_eq!(refused.status.as_u16(), 422, "{refused:?}");

    // The limit is for each owner, and a deleted endpoint does not count.
    let body = json!({ "url": url });
    let first = register_as(&notification, "alice", &body).await.expect(201);
    register_as(&notification, "alice", &body).await.expect(201);
    let detail = register_as(&notification, "alice", &body)
        .await
        .expect_problem(409, "conflict", None);
    assert!(detail.contains("2 webhook endpoints"), "{detail}");
    register_as(&notification, "operator", &body)
        .await
        .expect(201);
    let path = format!("/webhooks/{}", text(&first, "id"));
    answer(notification.app.as_customer("alice", Method::DELETE, &path))
        .await
        .expect(204);
    register_as(&notification, "alice", &body).await.expect(201);
    notification.stop().await;
}

#[tokio::test]
async fn addresses_from_the_operating_system_are_checked_too() {
    let notification = spawn_with(&[], None).await;
    let body = json!({ "url": "https://localhost/" });
    let refused = register_as(&notification, "alice", &body).await;
    let detail = refused.expect_problem(422, "invalid-field", Some("url"));
    assert_eq!(detail, format!("url: {REFUSED}"));
    notification.stop().await;
}

#[tokio::test]
async fn host_that_becomes_private_is_not_sent_to() {
    let names = names();
    let settings = ["--webhook-allow-http", "--webhook-backoff-cap-ms=200"];
    let notification = spawn_with(&settings, Some(names.clone())).await;
    let receiver = Receiver::start().await;
    let url = format!("http://public.example:{}/hook", receiver.port());
    let endpoint = notification.register(json!({ "url": url })).await;
    names.set("public.example", &["127.0.0.1"]);
    let order = OrderId::new();
    notification.probe.publish(&confirmed(order)).await;
    let is_refused = |seen: &Value| {
        let reply = seen["webhooks"][0]["last_reply"].as_str();
        reply.is_some_and(|reply| reply == format!("not sent: {REFUSED}"))
    };
    notification
        .wait_for_endpoint(&endpoint, "it is not sent", is_refused)
        .await;

    // An address in the URL is checked too, although the resolver never sees it.
    let literal = "update webhook_endpoint set url = regexp_replace(url, 'public.example', '127.1') where id = $1";
    notification.alter(literal, &endpoint["id"]).await;
    let next = OrderId::new();
    notification.probe.publish(&confirmed(next)).await;
    let is_refused = |seen: &Value| {
        let hook = &seen["webhooks"][0];
        let reply = hook["last_reply"].as_str();
        hook["order_id"] == next.to_string()
            && reply.is_some_and(|reply| reply == format!("not sent: {REFUSED}"))
    };
    notification
        .wait_for_endpoint(&endpoint, "it is not sent", is_refused)
        .await;
    assert!(receiver.seen("/hook").is_empty());
    notification.stop().await;

    // Where private addresses are allowed, the same URL is delivered to: the address alone was the reason.
    let notification = spawn_with(&LOCAL, Some(names)).await;
    let endpoint = notification.register(json!({ "url": url })).await;
    notification.probe.publish(&confirmed(order)).await;
    notification
        .wait_for_webhook(&endpoint, order, "delivered")
        .await;
    assert_eq!(receiver.seen("/hook").len(), 1);
    notification.stop().await;
}
