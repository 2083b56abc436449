//! Bad input is answered with the field and the limit, and changes nothing.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, answer, eventually, token};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

use crate::helpers::{spawn_app, spawn_app_with, tea};

fn order(lines: Value) -> Value {
    json!({ "lines": lines, "payment": { "method": "wallet" } })
}

#[tokio::test]
async fn a_wrong_body_is_answered_with_field_and_limit() {
    let orders = spawn_app().await;
    let line = |sku: &str, quantity: Value| json!({ "sku": sku, "quantity": quantity });
    let many: Vec<Value> = (0..101)
        .map(|n| line(&format!("S-{n}"), json!(1)))
        .collect();
    let quantity = "whole number from 1 to 1000";
    let sku = "1 to 32 characters of A-Z, 0-9 and '-'";
    for (body, field, says) in [
        (order(json!([])), "lines", "1 to 100 lines, not 0"),
        (order(json!(many)), "lines", "1 to 100 lines, not 101"),
        (
            order(json!("tea")),
            "lines",
            "must be a list, not the text \"tea\"",
        ),
        (
            order(json!([line("TEA", json!(1)), line("TEA", json!(2))])),
            "lines",
            "TEA is on several",
        ),
        (
            order(json!([line("TEA", json!(0))])),
            "lines[0].quantity",
            quantity,
        ),
        (
            order(json!([line("TEA", json!(-3))])),
            "lines[0].quantity",
            quantity,
        ),
        (
            order(json!([line("TEA", json!(1001))])),
            "lines[0].quantity",
            quantity,
        ),
        (
            order(json!([line("TEA", json!(1e300))])),
            "lines[0].quantity",
            quantity,
        ),
        (
            order(json!([line("TEA", json!(1.5))])),
            "lines[0].quantity",
            quantity,
        ),
        (
            order(json!([line("TEA", json!("1"))])),
            "lines[0].quantity",
            quantity,
        ),
        (
            order(json!([line("TEA", json!(null))])),
            "lines[0].quantity",
            quantity,
        ),
        (
            order(json!([
                line("CUP", json!(1)),
                line("'; drop table orders; --", json!(1))
            ])),
            "lines[1].sku",
            sku,
        ),
        (
            order(json!([line("TEA\r\nX-Evil: 1", json!(1))])),
            "lines[0].sku",
            sku,
        ),
        (order(json!([line("TEA\0", json!(1))])), "lines[0].sku", sku),
        (
            order(json!([line(&"T".repeat(33), json!(1))])),
            "lines[0].sku",
            sku,
        ),
        (
            order(json!([{ "sku": "TEA" }])),
            "lines[0]",
            "the field quantity is missing",
        ),
        (
            order(json!([line("NOPE", json!(1))])),
            "lines[0].sku",
            "there is no product NOPE",
        ),
        (
            order(json!([line("TEA", json!(1)), line("CARD", json!(1))])),
            "lines[1].sku",
            "EUR and USD",
        ),
        (
            json!({ "payment": { "method": "wallet" } }),
            "body",
            "the field lines is missing",
        ),
        (
            json!({ "lines": [line("TEA", json!(1))] }),
            "body",
            "the field payment is missing",
        ),
        (
            json!({ "lines": [line("TEA", json!(1))], "payment": { "method": "gold" } }),
            "payment.method",
            "gold is not a valid value; valid: wallet",
        ),
        (
            json!({ "lines": [line("TEA", json!(1))], "payment": { "method": "card", "token": "4111111111111111" } }),
            "payment",
            "'tok_' and 1 to 60 characters",
        ),
        (
            json!({ "lines": [line("TEA", json!(1))], "payment": { "method": "wallet" }, "price": 1 }),
            "price",
            "price is not a known field; known: coordination, lines, payment",
        ),
        (
            json!({ "lines": [line("TEA", json!(1))], "payment": { "method": "wallet" }, "coordination": "telepathy" }),
            "coordination",
            "telepathy is not a valid value; valid: choreography or orchestration",
        ),
        (json!([]), "body", "must be an object"),
        (
            json!("order"),
            "body",
            "must be an object, not the text \"order\"",
        ),
    ] {
        let answer = orders.try_place("alice", &body).await;
        assert_eq!(answer.status.as_u16(), 422, "{body}: {}", answer.body);
        let detail = answer.expect_problem(422, "invalid-field", Some(field));
        assert!(
            detail.contains(says),
            "{body}: {detail:?} should say {says:?}"
        );
        for programmers in ["?: ", "`", " at line ", "struct"] {
            assert!(!detail.contains(programmers), "{body}: {detail:?}");
        }
    }
    assert_eq!(orders.count().await, 0);
    orders.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_json_is_a_bad_request() {
    let orders = spawn_app().await;
    let post = async |content_type: &str, body: Vec<u8>| {
        let request = orders
            .app
            .as_customer("alice", Method::POST, "/orders")
            .header("Idempotency-Key", "k");
        answer(request.header("Content-Type", content_type).body(body)).await
    };
    let good = tea().to_string().into_bytes();
    for (body, says) in [
        (b"".to_vec(), "not JSON"),
        (b"{".to_vec(), "not JSON"),
        (b"lines=TEA".to_vec(), "not JSON"),
        (
            b"{\"lines\": \xff\xfe}".to_vec(),
            "not UTF-8: wrong byte after 10",
        ),
        ([good.clone(), good.clone()].concat(), "not JSON"),
        ("[".repeat(2000).into_bytes(), "not JSON"),
    ] {
        let detail = post("application/json", body)
            .await
            .expect_problem(400, "bad-request", None);
        assert!(detail.contains(says), "{detail}");
    }
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "nonsense",
    ] {
        let detail = post(content_type, good.clone()).await.expect_problem(
            415,
            "unsupported-media-type",
            None,
        );
        assert!(detail.contains("application/json"), "{detail}");
    }
    for content_type in ["application/json; charset=utf-8", "Application/JSON"] {
        post(content_type, good.clone()).await.expect(202);
    }
    assert_eq!(orders.count().await, 1);
    let gzipped = orders
        .request("alice", "z", &tea())
        .header("Content-Encoding", "gzip");
    let gzipped = answer(gzipped).await;
    assert_eq!(gzipped.header("accept-encoding"), Some("identity"));
    let detail = gzipped.expect_problem(415, "unsupported-media-type", None);
    assert!(detail.contains("gzip"), "{detail}");
    assert_eq!(orders.count().await, 1);
    orders.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let orders = spawn_app().await;
    let request = || {
        let request = orders
            .app
            .as_customer("alice", Method::POST, "/orders")
            .header("Idempotency-Key", "k");
        request.header("Content-Type", "application/json")
    };
    let detail = answer(request().body(vec![b' '; 10 * 1024 * 1024]))
        .await
        .expect_problem(413, "too-large", None);
    assert!(detail.contains("65536 bytes"), "{detail}");

    // Also if its size is not announced: in chunks, over a connection of our own.
    let address = orders.app.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("it answers");
    let token = token("alice", chassis::identity::Role::Customer);
    let head = format!(
        "POST /orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: k\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let chunk = [b"8000\r\n".as_slice(), &[b' '].repeat(0x8000), b"\r\n"].concat();
    for _ in 0..4 {
        // The server may answer and hang up before it has read everything.
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 512];
    let read = stream.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(orders.count().await, 0);
    orders.stop().await;
}

#[tokio::test]
async fn headers_paths_and_queries_are_checked_too() {
    const KEY: &str = "header Idempotency-Key";
    let orders = spawn_app().await;
    let post = || {
        orders
            .app
            .as_customer("alice", Method::POST, "/orders")
            .json(&tea())
    };
    answer(post())
        .await
        .expect_problem(422, "invalid-field", Some(KEY));
    for key in ["", "two words", "ä", &"k".repeat(129)] {
        let detail = answer(post().header("Idempotency-Key", key))
            .await
            .expect_problem(422, "invalid-field", Some(KEY));
        assert!(
            detail.contains("1 to 128 visible ASCII characters"),
            "{detail}"
        );
    }
    let twice = post()
        .header("Idempotency-Key", "a")
        .header("Idempotency-Key", "b");
    answer(twice)
        .await
        .expect_problem(422, "invalid-field", Some(KEY));
    answer(post().header(
        "Idempotency-Key",
        "k'; drop table orders; --".replace(' ', "_"),
    ))
    .await
    .expect(202);
    assert_eq!(orders.count().await, 1);

    let get = async |path: &str| answer(orders.app.as_customer("alice", Method::GET, path)).await;
    for (path, field) in [
        ("/orders?limit=0", "query limit"),
        ("/orders?limit=201", "query limit"),
        ("/orders?limit=ten", "query limit"),
        ("/orders?limit=1&limit=2", "query limit"),
        ("/orders?before=1", "query before"),
        ("/orders?customer=a%0d%0ab", "query customer"),
        ("/orders?sort=price", "query sort"),
    ] {
        get(path)
            .await
            .expect_problem(422, "invalid-field", Some(field));
    }
    for path in [
        "/orders/17",
        "/orders/'%20or%201=1--",
        "/orders/%00",
        "/nowhere",
        "/orders/%ff%fe",
    ] {
        get(path).await.expect_problem(404, "not-found", None);
    }
    let wrong = answer(orders.app.as_customer("alice", Method::DELETE, "/orders")).await;
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    wrong.expect_problem(405, "method-not-allowed", None);
    orders.stop().await;
}

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() {
    let orders = spawn_app_with(&["--http-request-timeout-ms=120000"]).await;
    let id = orders.place("alice", &tea()).await;
    for path in [
        "/health/live",
        "/health/ready",
        "/orders",
        &format!("/orders/{id}"),
        "/orders/17",
        "/nowhere",
        "/docs/",
        "/openapi.json",
    ] {
        let ask = async |method| answer(orders.app.as_customer("alice", method, path)).await;
        let (get, head) = (ask(Method::GET).await, ask(Method::HEAD).await);
        assert_eq!(head.status, get.status, "{path}");
        let kind = |answer: &Answer| answer.header("content-type").map(str::to_owned);
        assert_eq!(kind(&head), kind(&get), "{path}");
        // The length may differ, because an order's times need not be as long the next time.
        assert!(head.header("content-length").is_some(), "{path}");
        assert_eq!(head.body, Value::Null, "{path}");
    }
    let metrics = answer(orders.app.request(Method::HEAD, "/metrics")).await;
    assert_eq!(metrics.expect(200), Value::Null);
    // A path without GET has no HEAD.
    let path = format!("/orders/{id}/cancel");
    let head = answer(orders.app.as_customer("alice", Method::HEAD, &path)).await;
    assert_eq!(head.header("allow"), Some("OPTIONS, POST"));
    head.expect(405);
    orders.stop().await;
}

#[tokio::test]
async fn options_and_405_name_what_is_allowed() {
    let orders = spawn_app().await;
    for (path, allowed) in [
        ("/orders", "GET, HEAD, OPTIONS, POST"),
        ("/orders/17/cancel", "OPTIONS, POST"),
        ("/operator/parked/17", "GET, HEAD, OPTIONS, PUT"),
        ("/health/live", "GET, HEAD, OPTIONS"),
        ("/docs/", "GET, HEAD, OPTIONS"),
    ] {
        let options = answer(orders.app.request(Method::OPTIONS, path)).await;
        assert_eq!(options.header("allow"), Some(allowed), "{path}");
        assert!(options.header("access-control-allow-origin").is_none());
        options.expect(204);
        let wrong = answer(orders.app.request(Method::PATCH, path)).await;
        assert_eq!(wrong.header("allow"), Some(allowed), "{path}");
        wrong.expect_problem(405, "method-not-allowed", None);
    }
    answer(orders.app.request(Method::OPTIONS, "/nowhere"))
        .await
        .expect_problem(404, "not-found", None);
    orders.stop().await;
}

#[tokio::test]
async fn requests_for_another_service_are_answered_503() {
    let orders = spawn_app().await;
    let meant_for = |service: &str| {
        let request = orders.request("alice", "k", &tea());
        answer(request.header(chassis::http::DESTINATION, service))
    };
    for another in ["payment", "orders", "Order", ""] {
        let refused = meant_for(another).await;
        assert_eq!(refused.header("retry-after"), Some("1"), "{another:?}");
        let detail = refused.expect_problem(503, "unavailable", None);
        assert!(detail.starts_with("this is order,"), "{detail}");
    }
    assert_eq!(orders.count().await, 0);
    // Also where there is no such path: 404 would be taken for an answer.
    let nowhere = orders.app.request(Method::GET, "/charges");
    answer(nowhere.header(chassis::http::DESTINATION, "card-processor"))
        .await
        .expect_problem(503, "unavailable", None);
    // Liveness is a question to the address, whichever service has it.
    let live = orders.app.request(Method::GET, "/health/live");
    answer(live.header(chassis::http::DESTINATION, "payment"))
        .await
        .expect(200);
    meant_for("order").await.expect(202);
    orders.stop().await;
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let orders = spawn_app().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(orders.place("alice", &tea()).await.to_string());
    }
    orders.place("bob", &tea()).await;
    ids.reverse(); // newest first
    let mut seen = Vec::new();
    let mut path = "/orders?limit=2".to_owned();
    loop {
        let page = answer(orders.app.as_customer("alice", Method::GET, &path))
            .await
            .expect(200);
        let page_ids = page["orders"].as_array().expect("a list").iter();
        seen.extend(page_ids.map(|order| order["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/orders?limit=2&before={next}");
    }
    assert_eq!(seen, ids);
    orders.stop().await;
}

#[tokio::test]
async fn a_cursor_without_its_row_is_refused() {
    let orders = spawn_app().await;
    // The list of messages, which all services share. Lists of orders go on by their ids, with or without the row.
    let path = format!("/operator/parked?after={}", Uuid::now_v7());
    answer(orders.app.as_operator(Method::GET, &path))
        .await
        .expect_problem(422, "invalid-field", Some("query after"));
    let id = orders.place("alice", &tea()).await;
    let path = format!("/orders?before={}", Uuid::now_v7());
    let page = answer(orders.app.as_customer("alice", Method::GET, &path)).await;
    assert_eq!(page.expect(200)["orders"][0]["id"], id.to_string());
    orders.stop().await;
}

#[tokio::test]
async fn requests_beyond_the_limit_are_answered_503() {
    let orders = spawn_app_with(&[
        "--http-max-concurrent=1",
        "--price-timeout-ms=30000",
        "--http-request-timeout-ms=30000",
    ])
    .await;
    // A request that waits for prices takes all the room, once it is let in.
    orders.prices.pause();
    let busy = |answer: &Answer| answer.body["detail"] == "too many requests are in progress";
    let waiting = async {
        loop {
            let answer = answer(orders.request("alice", "k", &tea())).await;
            if !busy(&answer) {
                return answer;
            }
        }
    };
    let meanwhile = async {
        let refused = eventually("no room", || async {
            let refused = answer(orders.app.as_customer("alice", Method::GET, "/orders")).await;
            if busy(&refused) {
                Ok(refused)
            } else {
                Err(refused.status)
            }
        })
        .await;
        assert_eq!(refused.header("retry-after"), Some("1"));
        refused.expect_problem(503, "unavailable", None);
        // Readiness is answered all the same.
        answer(orders.app.request(Method::GET, "/health/ready"))
            .await
            .expect(200);
        orders.prices.restore();
    };
    let (placed, ()) = tokio::join!(waiting, meanwhile);
    placed.expect(202);
    orders.stop().await;
}
