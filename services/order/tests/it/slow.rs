//! Requests that arrive slowly keep no other client out.

use std::{collections::BTreeMap, time::Duration};

use chassis::identity::Role;
use reqwest::Method;
use testkit::{answer, token};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::helpers::{Orders, spawn_app_with, tea};

/// Longer than a busy machine needs for any of this.
const SOME_TIME: Duration = Duration::from_secs(300);

/// Opens a connection as `customer`, announces a body of 500 bytes, and sends one.
async fn send_slowly(orders: &Orders, customer: &str, more: &str) -> TcpStream {
    let mut stream = TcpStream::connect(orders.app.address())
        .await
        .expect("it answers");
    let token = token(customer, Role::Customer);
    let head = format!(
        "POST /orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: k\r\n\
         Content-Type: application/json\r\nContent-Length: 500\r\n{more}\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    stream
}

/// Reads the response, until the server hangs up.
async fn read_answer(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(SOME_TIME, stream.read_to_end(&mut text)).await;
    read.expect("in time").expect("an answer");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn slow_bodies_of_one_customer_block_no_other() {
    const SLOW: usize = 60;
    const ARRIVING: usize = 8;
    let orders = spawn_app_with(&[
        "--http-max-concurrent=4",
        "--http-max-arriving-per-client=8",
        "--http-body-timeout-ms=600000",
    ])
    .await;
    let mut answers = JoinSet::new();
    for _ in 0..SLOW {
        let stream = send_slowly(&orders, "mallory", "").await;
        answers.spawn(read_answer(stream));
    }
    // Requests beyond mallory's limit are rejected. Once the last of them is, the others are held.
    for _ in 0..SLOW - ARRIVING {
        let refused = answers.join_next().await.expect("one more");
        let refused = refused.expect("it does not panic");
        assert!(refused.starts_with("HTTP/1.1 408"), "{refused}");
        assert!(refused.contains("8 of your requests"), "{refused}");
        assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    }
    for _ in 0..10 {
        orders.place("alice", &tea()).await;
        answer(orders.app.as_customer("alice", Method::GET, "/orders"))
            .await
            .expect(200);
    }
    // A request of mallory's that arrives whole, and needs no slow body, is accepted.
    orders.try_place("mallory", &tea()).await.expect(202);
    assert!(answers.try_join_next().is_none(), "the others are held");
    answers.abort_all();
    assert_eq!(orders.count().await, 11);
    orders.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    const SLOW: usize = 30;
    // The body and the whole request have the same limit, of which only one runs before the body is whole.
    let orders = spawn_app_with(&[
        "--http-body-timeout-ms=500",
        "--http-request-timeout-ms=500",
    ])
    .await;
    let mut answers = JoinSet::new();
    for _ in 0..SLOW {
        answers.spawn(read_answer(send_slowly(&orders, "alice", "").await));
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(answer) = answers.join_next().await {
        let answer = answer.expect("it does not panic");
        assert!(answer.contains("did not arrive within 500 ms"), "{answer}");
        let line = answer.lines().next().unwrap_or_default().to_owned();
        *seen.entry(line).or_default() += 1;
    }
    let wanted = ("HTTP/1.1 408 Request Timeout".to_owned(), SLOW);
    assert_eq!(seen, BTreeMap::from([wanted]));
    assert_eq!(orders.count().await, 0);
    orders.stop().await;
}

#[tokio::test]
async fn a_callers_own_deadline_is_named_with_its_number() {
    let orders = spawn_app_with(&["--http-max-arriving=1"]).await;
    let own = format!("{}: 300\r\n", holdfast::deadline::HEADER);
    let late = read_answer(send_slowly(&orders, "alice", &own).await).await;
    assert!(late.starts_with("HTTP/1.1 408"), "{late}");
    assert!(
        late.contains("within the 300 ms that its caller allows"),
        "{late}"
    );

    // A whole request, which waits for prices.
    orders.prices.pause();
    let waiting = orders
        .request("alice", "k", &tea())
        .header(holdfast::deadline::HEADER, "300");
    let detail = answer(waiting)
        .await
        .expect_problem(503, "unavailable", None);
    assert!(
        detail.contains("within the 300 ms that its caller allows") || detail.contains("catalogue"),
        "{detail}"
    );
    orders.prices.restore();

    // All places for slow bodies are taken. A body that comes at once needs none.
    let held = send_slowly(&orders, "bob", "").await;
    let refused = read_answer(send_slowly(&orders, "alice", "").await).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    orders.try_place("alice", &tea()).await.expect(202);
    drop(held);
    orders.stop().await;
}
