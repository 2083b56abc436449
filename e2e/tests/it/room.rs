//! The control room on the whole system: what its page does, done through its API. Nothing that can be broken from
//! there loses an order. Orchestrated orders are in [`sagas`].

mod drills;
mod sagas;

use contracts::value::OrderId;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use testkit::{Answer, PATIENCE, answer, eventually};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::system::System;

/// Demo mode for the services as well as the room. Sweeps come too late to end what an operator should end.
const DEMO: &[(&str, &str)] = &[("DEMO_MODE", "true"), ("SWEEP_AFTER_MS", "600000")];
const ROOM: &str = "control-room";

/// A client of the room's live stream, as an open page is one.
struct Watcher {
    stream: Response,
    buffer: String,
}

impl Watcher {
    async fn watch(system: &System) -> Self {
        testkit::client(); // installs the cryptography
        let client = reqwest::Client::builder().build().expect("a client");
        let stream = client.get(format!("{}/room/live", system.url(ROOM)));
        let stream = stream.send().await.expect("the room answers");
        assert_eq!(stream.status(), 200);
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        Self {
            stream,
            buffer: String::new(),
        }
    }

    /// Returns the next event; `None` once the room has closed the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.buffer = rest;
                // A comment keeps the connection alive.
                let Some((name, data)) = event
                    .strip_prefix("event: ")
                    .and_then(|event| event.split_once("\ndata: "))
                else {
                    assert!(event.starts_with(':'), "{event:?}");
                    continue;
                };
                let data = serde_json::from_str(data).expect("JSON");
                return Some((name.to_owned(), data));
            }
            let chunk = self.stream.chunk().await.ok().flatten()?;
            self.buffer.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Waits for a wanted event, and returns its data.
    async fn until(&mut self, what: &str, wanted: impl Fn(&str, &Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut seen = Vec::new();
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let told = timeout(left, self.next()).await;
            let Ok(Some((event, data))) = told else {
                let tail = &seen[seen.len().saturating_sub(5)..];
                panic!("{what}: not within {PATIENCE:?}; last told: {tail:#?}");
            };
            if wanted(&event, &data) {
                return data;
            }
            seen.push(format!("{event}: {data}"));
        }
    }

    /// Waits until the stream reports an order as wanted.
    async fn order(&mut self, id: OrderId, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let id = id.to_string();
        self.until(what, |event, data| {
            event == "order" && data["id"] == id.as_str() && wanted(data)
        })
        .await
    }
}

/// Sends a request to the room, as its page does.
async fn ask(system: &System, method: Method, path: &str, body: Value) -> Answer {
    let client = testkit::client();
    let request = client.request(method, format!("{}{path}", system.url(ROOM)));
    let request = request
        .header("Sec-Fetch-Site", "same-origin")
        .header("Origin", system.url(ROOM));
    answer(request.json(&body)).await
}

async fn get(system: &System, path: &str) -> Value {
    let client = testkit::client();
    answer(client.get(format!("{}{path}", system.url(ROOM))))
        .await
        .expect(200)
}

async fn place(system: &System, customer: &str, payment: Value) -> OrderId {
    place_by(system, customer, &payment, "choreography").await
}

async fn place_by(system: &System, customer: &str, payment: &Value, way: &str) -> OrderId {
    let order = json!({
        "customer": customer,
        "coordination": way,
        "lines": [{ "sku": "TEA-ASSAM", "quantity": 2 }],
        "payment": payment,
        "idempotency_key": Uuid::now_v7(),
    });
    let placed = ask(system, Method::POST, "/room/orders", order)
        .await
        .expect(202);
    system.accept(
        placed["id"]
            .as_str()
            .expect("an id")
            .parse()
            .expect("a UUID"),
    )
}

fn by_card() -> Value {
    json!({ "method": "card", "token": "tok_visa" })
}

fn knobs(fail_before: f64) -> Value {
    json!({ "latency_min_ms": 0, "latency_max_ms": 0, "fail_before": fail_before, "fail_after": 0.0, "decline": 0.0 })
}

async fn open() -> System {
    open_with(&[]).await
}

/// Starts the system with additional variables for all services.
async fn open_with(extra: &[(&str, &str)]) -> System {
    let system = System::start_with(&[DEMO, extra].concat()).await;
    system.open_room().await;
    system
}

#[tokio::test]
async fn an_order_is_placed_and_seen_to_come_to_rest() {
    let system = System::start_with(DEMO).await;
    // An order that ended before the room started: the room reads it from the order service.
    let before = system
        .place_this(
            "alice",
            &json!({ "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }], "payment": { "method": "wallet" } }),
        )
        .await;
    system
        .wait_for(before, |order| order["at_rest"] == true)
        .await;
    system.open_room().await;

    let config = get(&system, "/room/config").await;
    assert_eq!(config["demo"], true);
    assert!(config["products"].as_array().expect("a list").len() > 20);
    assert_eq!(
        config["services"][1]["queues"],
        json!(["payment.choreography", "payment.commands"])
    );

    let mut watcher = Watcher::watch(&system).await;
    let before_id = before.to_string();
    let snapshot = watcher
        .until("the earlier order is shown", |event, data| {
            event == "snapshot"
                && data["orders"].as_array().is_some_and(|orders| {
                    orders.iter().any(|order| order["id"] == before_id.as_str())
                })
        })
        .await;
    let shown = &snapshot["orders"][0];
    assert_eq!(
        (&shown["customer"], &shown["at_rest"]),
        (&json!("alice"), &json!(true)),
        "{shown}"
    );
    let steps = shown["steps"].as_array().expect("steps");
    assert_eq!(steps[0]["type"], "order.created.v1", "{shown}");
    assert!(
        steps
            .iter()
            .any(|step| step["type"] == "inventory.committed.v1"),
        "{shown}"
    );

    let id = place(&system, "bob", by_card()).await;
    let order = watcher
        .order(id, "it comes to rest", |order| order["at_rest"] == true)
        .await;
    assert_eq!(
        (
            &order["state"],
            &order["customer"],
            &order["payment"],
            &order["items"]
        ),
        (
            &json!("confirmed"),
            &json!("bob"),
            &json!("card"),
            &json!(2)
        )
    );
    assert_eq!(order["coordination"], "choreography");
    assert_eq!(
        order["trace_id"].as_str().map(str::len),
        Some(32),
        "{order}"
    );
    let kinds: Vec<&str> = order["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|step| step["type"].as_str())
        .collect();
    for kind in [
        "order.created.v1",
        "payment.completed.v1",
        "inventory.reserved.v1",
        "order.confirmed.v1",
        "inventory.committed.v1",
    ] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    let whole = get(&system, &format!("/room/orders/{id}")).await;
    assert_eq!(whole["order"]["state"], "confirmed");
    assert!(
        whole["timeline"].as_array().expect("a list").len() >= 5,
        "{whole}"
    );

    let cancel = format!("/room/orders/{id}/cancel");
    ask(&system, Method::POST, &cancel, json!({ "customer": "bob" }))
        .await
        .expect(202);
    watcher
        .order(id, "it is undone", |order| order["state"] == "cancelled")
        .await;

    // The books are compared while a page is open.
    let books = watcher
        .until("every rule holds", |event, data| {
            event == "invariants"
                && data["checks"]
                    .as_array()
                    .is_some_and(|checks| checks.iter().all(|check| check["verdict"] == "holds"))
        })
        .await;
    assert!(
        books["checks"].as_array().expect("a list").len() >= 8,
        "{books}"
    );

    // When the room stops, the stream ends at once.
    system.stop(ROOM).await;
    while watcher.next().await.is_some() {}
    system.end().await;
}

#[tokio::test]
async fn card_orders_wait_while_the_card_processor_fails() {
    let system = open().await;
    let mut watcher = Watcher::watch(&system).await;
    ask(&system, Method::PUT, "/room/card-processor", knobs(1.0))
        .await
        .expect(204);
    watcher
        .until("it is told", |event, data| {
            event == "health" && data["card_processor"]["fail_before"] == 1.0
        })
        .await;
    let waiting = place(&system, "carol", by_card()).await;
    let wallet = place(&system, "alice", json!({ "method": "wallet" })).await;
    watcher
        .order(wallet, "a wallet order needs no card processor", |order| {
            order["at_rest"] == true
        })
        .await;
    // The charge fails and is tried again; the order waits.
    eventually("a charge has failed", || async {
        let path = format!("/operator/payments/{waiting}");
        let payment = answer(system.as_operator("payment", Method::GET, &path)).await;
        if payment.body["last_error"].is_string() {
            Ok(())
        } else {
            Err(payment.body)
        }
    })
    .await;
    let order = &get(&system, &format!("/room/orders/{waiting}")).await["order"];
    assert_eq!(order["state"], "pending", "{order}");
    // A comparison of the books is kept for two seconds, so this one may be older than the order.
    eventually(
        "its order is seen to wait, and the books to hold",
        || async {
            let books = get(&system, "/room/invariants").await;
            let holds = |name: &str, verdict: &str| {
                let checks = books["checks"].as_array().expect("a list");
                let check = checks.iter().find(|check| check["name"] == name);
                check.expect(name)["verdict"] == verdict
            };
            if holds("every order comes to rest", "waits") && holds("wallet money is kept", "holds")
            {
                Ok(())
            } else {
                Err(books)
            }
        },
    )
    .await;

    ask(&system, Method::PUT, "/room/card-processor", knobs(0.0))
        .await
        .expect(204);
    let ended = watcher
        .order(waiting, "it ends once that is mended", |order| {
            order["at_rest"] == true
        })
        .await;
    assert_eq!(ended["state"], "confirmed");
    system.end().await;
}

#[tokio::test]
async fn a_paused_queue_waits_until_it_is_resumed() {
    let system = open().await;
    let mut watcher = Watcher::watch(&system).await;
    let queue = "/room/services/inventory/queues/inventory.choreography";
    let paused = |paused: Value| {
        move |event: &str, data: &Value| {
            event == "health" && data["services"][2]["paused"] == paused
        }
    };
    ask(&system, Method::POST, &format!("{queue}/pause"), json!({}))
        .await
        .expect(204);
    watcher
        .until("it is told", paused(json!(["inventory.choreography"])))
        .await;
    eventually("it is a metric", || async {
        let metrics = system.metrics("inventory").await;
        if metrics.contains("queue=\"inventory.choreography\"} 1")
            && metrics.contains("consumer_paused")
        {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
    let id = place(&system, "bob", json!({ "method": "wallet" })).await;
    watcher
        .order(id, "it is paid", |order| {
            order["steps"].as_array().is_some_and(|steps| {
                steps
                    .iter()
                    .any(|step| step["type"] == "payment.completed.v1")
            })
        })
        .await;
    eventually("and waits in the queue", || async {
        match system.vhost.depth("inventory.choreography").await.ready {
            0 => Err("nothing waits"),
            _ => Ok(()),
        }
    })
    .await;
    let order = &get(&system, &format!("/room/orders/{id}")).await["order"];
    assert_eq!(order["state"], "pending", "{order}");

    // A service that loses the broker stays paused.
    let client = testkit::client();
    let health = format!("{}/health/ready", system.url("inventory"));
    system.broker.cut();
    eventually("inventory lost the broker", || async {
        let answered = answer(client.get(&health)).await;
        if answered.status == 503 {
            Ok(())
        } else {
            Err(answered.body)
        }
    })
    .await;
    system.broker.restore();
    system.all_ready().await;
    assert!(system.vhost.depth("inventory.choreography").await.ready > 0);

    ask(&system, Method::POST, &format!("{queue}/resume"), json!({}))
        .await
        .expect(204);
    watcher.until("it goes on", paused(json!([]))).await;
    system.wait_for(id, |order| order["at_rest"] == true).await;
    for path in [
        "/room/services/inventory/queues/payment.choreography/pause",
        "/room/services/nobody/queues/inventory.choreography/pause",
        "/room/services/inventory/queues/..%2f..%2foperator/pause",
    ] {
        ask(&system, Method::POST, path, json!({}))
            .await
            .expect(404);
    }
    system.end().await;
}

#[tokio::test]
async fn a_service_crashes_where_it_was_told_to_and_nothing_is_lost() {
    let system = open().await;
    let mut watcher = Watcher::watch(&system).await;
    let crash = async |service: &str, failpoint: &str| {
        let path = format!("/room/services/{service}/crash");
        ask(
            &system,
            Method::POST,
            &path,
            json!({ "failpoint": failpoint }),
        )
        .await
    };
    crash("payment", "no.such").await.expect(404);
    crash("payment", "../queues").await.expect(404);
    crash("payment", "consumer.after_commit").await.expect(204);
    let id = place(&system, "erin", json!({ "method": "wallet" })).await;
    system.aborted("payment", "consumer.after_commit").await;
    watcher
        .until("it is told", |event, data| {
            let payment = &data["services"][1];
            event == "health" && payment["ready"] == false && payment["paused"].is_null()
        })
        .await;
    system.revive("payment", &[]);
    let order = watcher
        .order(id, "it ends", |order| order["at_rest"] == true)
        .await;
    assert_eq!(order["state"], "confirmed", "{order}");
    system.end().await;
}

#[tokio::test]
async fn poison_is_parked_edited_and_requeued() {
    let system = open().await;
    let mut watcher = Watcher::watch(&system).await;
    let poison = async |kind: &str| {
        ask(
            &system,
            Method::POST,
            "/room/poison",
            json!({ "kind": kind }),
        )
        .await
        .expect(202)
    };
    let malformed = poison("malformed").await;
    let id: OrderId = malformed["order_id"]
        .as_str()
        .expect("an order")
        .parse()
        .expect("a UUID");
    system.accept(id);
    let unmendable = poison("unmendable").await;
    watcher
        .until("it is told", |event, data| {
            event == "trouble" && data["parked"] == 2
        })
        .await;
    let parked = get(&system, "/room/parked").await;
    let row = |message: &Value| {
        let rows = parked.as_array().expect("a list");
        let row = rows
            .iter()
            .find(|row| row["message_id"] == message["message_id"]);
        row.unwrap_or_else(|| panic!("{message} in {parked}"))
            .clone()
    };
    let (mendable, hopeless) = (row(&malformed), row(&unmendable));
    assert_eq!(
        (&mendable["service"], &mendable["queue"], &mendable["cause"]),
        (
            &json!("payment"),
            &json!("payment.choreography"),
            &json!("malformed")
        )
    );
    let of = |row: &Value| {
        let (service, id) = (row["service"].as_str(), row["id"].as_str());
        format!(
            "/room/parked/{}/{}",
            service.expect("a name"),
            id.expect("an id")
        )
    };
    let order = &get(&system, &format!("/room/orders/{id}")).await["order"];
    assert_eq!(order["state"], "pending", "{order}");

    // The operator edits the payload that the page shows.
    let whole = get(&system, &of(&mendable)).await;
    let mut data = whole["data"].clone();
    assert_eq!(data["order_version"], "1?", "{whole}");
    let requeue = format!("{}/requeue", of(&mendable));
    ask(
        &system,
        Method::POST,
        &requeue,
        json!({ "note": "as it is" }),
    )
    .await
    .expect(422);
    data["order_version"] = json!(1);
    ask(
        &system,
        Method::PUT,
        &of(&mendable),
        json!({ "note": "a number", "data": data }),
    )
    .await
    .expect(204);
    ask(&system, Method::POST, &requeue, json!({ "note": "mended" }))
        .await
        .expect(202);
    let order = watcher
        .order(id, "it comes to rest", |order| order["at_rest"] == true)
        .await;
    assert_eq!(order["state"], "confirmed", "{order}");

    let drop = format!("{}/drop", of(&hopeless));
    ask(
        &system,
        Method::POST,
        &drop,
        json!({ "note": "never was a message" }),
    )
    .await
    .expect(204);
    watcher
        .until("nothing is parked", |event, data| {
            event == "trouble" && data["parked"] == 0
        })
        .await;
    system.end().await;
}

#[tokio::test]
async fn room_asks_for_orders_that_it_missed() {
    let system = open().await;
    let mut watcher = Watcher::watch(&system).await;
    // The services share the room's connection to the broker: all of them lose it, and go on when it is back.
    system.broker.cut();
    let id = place(&system, "frank", json!({ "method": "wallet" })).await;
    system.broker.restore();
    watcher
        .until("it is shown at rest", |event, data| {
            let at_rest = |order: &Value| order["id"] == id.to_string() && order["at_rest"] == true;
            match event {
                "snapshot" => data["orders"]
                    .as_array()
                    .is_some_and(|orders| orders.iter().any(at_rest)),
                "order" => at_rest(data),
                _ => false,
            }
        })
        .await;
    system.end().await;
}

#[tokio::test]
async fn other_sites_and_crowds_are_kept_out() {
    let system = System::start_with(DEMO).await;
    system.revive_room(&[("ROOM_WATCHERS", "2")]).await;
    let client = testkit::client();
    let url = |path: &str| format!("{}{path}", system.url(ROOM));

    let cross = client
        .post(url("/room/poison"))
        .header("Sec-Fetch-Site", "cross-site")
        .json(&json!({ "kind": "unmendable" }));
    answer(cross)
        .await
        .expect_problem(403, "foreign-site", None);
    // Every request under a foreign host name is rejected: that name may have been made to resolve to this address.
    let document = answer(client.get(url("/openapi.json"))).await.expect(200);
    let paths = document["paths"].as_object().expect("an object");
    let documented = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("an object").keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    let page = ["/", "/assets/main.js"].map(|path| ("GET".to_owned(), path.to_owned()));
    let mut asked = 0;
    for (method, path) in documented.chain(page) {
        // The chassis' own routes are left out: they reveal nothing, or need a token that a page does not have.
        let is_every_services = ["/health", "/metrics", "/demo"];
        if is_every_services.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        // Without a valid action no route takes the path.
        let action = if path.starts_with("/room/parked") {
            "drop"
        } else {
            "resume"
        };
        let asked_for = path.replace("{deed}", action).replace(['{', '}'], "");
        let rebound = client
            .request(method, url(&asked_for))
            .header("Host", "evil.example:7000")
            .header("Origin", "http://evil.example:7000")
            .header("Sec-Fetch-Site", "same-origin")
            .json(&json!({}));
        let refused = answer(rebound).await;
        let detail = refused.expect_problem(403, "foreign-site", None);
        assert!(detail.contains("ROOM_HOSTS"), "{path}: {detail}");
        asked += 1;
    }
    assert!(asked > 20, "only {asked} operations");
    let form = client
        .post(url(
            "/room/services/payment/queues/payment.choreography/pause",
        ))
        .header("Content-Type", "text/plain")
        .body("{}");
    answer(form)
        .await
        .expect_problem(415, "unsupported-media-type", None);
    let stage = answer(system.as_operator("payment", Method::GET, "/demo")).await;
    assert_eq!(stage.expect(200)["paused"], json!([]));

    let first = Watcher::watch(&system).await;
    let _second = Watcher::watch(&system).await;
    let third = answer(client.get(url("/room/live"))).await;
    assert!(third.header("retry-after").is_some());
    third.expect_problem(503, "unavailable", None);
    drop(first);
    eventually("a watcher is accepted again", || async {
        let asked = client.get(url("/room/live")).send().await;
        match asked.map(|answer| answer.status().as_u16()) {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    system.end().await;
}

#[tokio::test]
async fn without_demo_mode_nothing_can_be_broken() {
    let system = System::start().await;
    let token = std::env::temp_dir().join(format!("operator-{}.token", Uuid::now_v7()));
    let signed = testkit::token("olga", chassis::identity::Role::Operator);
    std::fs::write(&token, &signed).expect("a writable folder");
    let path = token.display().to_string();
    system
        .revive_room(&[("DEMO_MODE", "false"), ("OPERATOR_TOKEN_FILE", &path)])
        .await;
    let client = testkit::client();
    let url = |path: &str| format!("{}{path}", system.url(ROOM));
    let config = get(&system, "/room/config").await;
    assert_eq!(
        (&config["demo"], &config["products"]),
        (&json!(false), &json!([]))
    );

    // Reading needs an operator's token. The routes that place orders and break things do not exist.
    for path in [
        "/room/live",
        "/room/parked",
        "/room/stuck",
        "/room/sagas",
        "/room/invariants",
    ] {
        answer(client.get(url(path)))
            .await
            .expect_problem(401, "unauthenticated", None);
        let alice = testkit::token("alice", chassis::identity::Role::Customer);
        answer(client.get(url(path)).bearer_auth(alice))
            .await
            .expect_problem(403, "forbidden", None);
    }
    for path in [
        "/room/parked",
        "/room/stuck",
        "/room/sagas",
        "/room/invariants",
    ] {
        answer(client.get(url(path)).bearer_auth(&signed))
            .await
            .expect(200);
    }
    for path in [
        "/room/orders",
        "/room/poison",
        "/room/services/payment/crash",
        "/room/services/payment/queues/payment.choreography/pause",
    ] {
        let request = client.post(url(path)).bearer_auth(&signed).json(&json!({}));
        answer(request).await.expect_problem(404, "not-found", None);
    }
    for service in ["order", "payment", "card-processor"] {
        answer(system.as_operator(service, Method::GET, "/demo"))
            .await
            .expect_problem(404, "not-found", None);
    }
    system.end().await;
}
