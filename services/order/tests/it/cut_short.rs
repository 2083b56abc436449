//! Requests that are cut short at random moments, beside work that shares their connections, undo nothing.
//!
//! `HOLDFAST_CUTS=10000 cargo xtask test -p order -- cut_short` is the long run.

use std::{sync::Mutex, time::Duration};

use contracts::value::OrderId;
use holdfast::{
    deadline::HEADER,
    messaging::Publisher,
    outbox::{Message, Outcome, Publisher as _},
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;
use testkit::{answer, eventually};
use tokio::time::timeout;
use uuid::Uuid;

use crate::helpers::{Orders, spawn_app, tea};

const CUSTOMERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// Returns the number of requests, and of messages for the parking lot.
fn cuts() -> usize {
    std::env::var("HOLDFAST_CUTS")
        .map_or(400, |cuts| cuts.parse().expect("HOLDFAST_CUTS is a number"))
}

/// The effects that a 2xx response reported.
#[derive(Default)]
struct Promised {
    placed: Mutex<Vec<(OrderId, &'static str)>>,
    cancelled: Mutex<Vec<OrderId>>,
    dropped: Mutex<Vec<Uuid>>,
}

/// Sends `request` with a deadline of its own, or hangs up after a moment. Returns the status and body of a response
/// that came in time.
async fn cut_short(request: RequestBuilder) -> Option<(StatusCode, serde_json::Value)> {
    let moment = fastrand::u64(1..60);
    let (request, patience) = match fastrand::u8(0..3) {
        0 => (request, Duration::from_millis(moment)),
        1 => (
            request.header(HEADER, moment.to_string()),
            Duration::from_secs(60),
        ),
        _ => (request, Duration::from_secs(60)),
    };
    let answered = timeout(patience, async {
        let response = request.send().await.ok()?;
        let status = response.status();
        Some((status, response.json().await.unwrap_or_default()))
    });
    answered.await.ok().flatten()
}

impl Orders {
    /// Sends one request of a customer or an operator.
    async fn one_request(&self, promised: &Promised) {
        let customer = CUSTOMERS[fastrand::usize(..CUSTOMERS.len())];
        let placed = {
            let placed = promised.placed.lock().expect("no panic");
            fastrand::choice(placed.iter()).copied()
        };
        match (fastrand::u8(0..10), placed) {
            (0..3, _) | (_, None) => {
                let key = Uuid::now_v7().to_string();
                let answered = cut_short(self.request(customer, &key, &tea())).await;
                if let Some((StatusCode::ACCEPTED, order)) = answered {
                    let id = order["id"].as_str().expect("an id").parse();
                    let id = id.expect("a UUID");
                    promised
                        .placed
                        .lock()
                        .expect("no panic")
                        .push((id, customer));
                }
            }
            (3..6, Some((id, owner))) => {
                let path = format!("/orders/{id}/cancel");
                let request = self.app.as_customer(owner, Method::POST, &path);
                if let Some((status, _)) = cut_short(request).await
                    && status.is_success()
                {
                    promised.cancelled.lock().expect("no panic").push(id);
                }
            }
            (6..8, Some(_)) => {
                let request = self.app.as_customer(customer, Method::GET, "/orders");
                cut_short(request).await;
            }
            (_, Some(_)) => self.drop_a_parked_message(promised).await,
        }
    }

    async fn drop_a_parked_message(&self, promised: &Promised) {
        let request = self.app.as_operator(Method::GET, "/operator/parked");
        let Some((StatusCode::OK, page)) = cut_short(request).await else {
            return;
        };
        let parked = page.as_array().expect("a list");
        let Some(id) = fastrand::choice(parked).and_then(|parked| parked["id"].as_str()) else {
            return;
        };
        let request = self
            .app
            .as_operator(Method::POST, &format!("/operator/parked/{id}/drop"))
            .json(&json!({ "note": "made up by a test" }));
        if let Some((status, _)) = cut_short(request).await
            && status.is_success()
        {
            let id = id.parse().expect("a UUID");
            promised.dropped.lock().expect("no panic").push(id);
        }
    }

    /// Publishes `count` messages that are not JSON straight to the dead-letter queue. Returns once all are confirmed.
    async fn fill_the_dead_letters(&self, count: usize) {
        let publisher = Publisher::new(self.vhost.url("order"), "a test");
        for start in (0..count).step_by(20) {
            let batch: Vec<Message> = (start..count.min(start + 20))
                .map(|number| Message {
                    id: Uuid::now_v7(),
                    exchange: holdfast::messaging::retry_exchange("order.timeline"),
                    routing_key: "order.timeline.dead".to_owned(),
                    headers: [].into(),
                    payload: format!("not JSON: {number}").into_bytes(),
                })
                .collect();
            let outcomes = publisher.publish(&batch).await;
            assert!(
                outcomes
                    .iter()
                    .all(|outcome| *outcome == Outcome::Confirmed),
                "{outcomes:?}"
            );
        }
        publisher.close().await;
    }
}

/// Returns the database server's log.
fn server_log() -> Vec<u8> {
    let stack = std::env::var("HOLDFAST_STACK").expect("set by `cargo xtask test`");
    let log = format!("{stack}/logs/postgres.log");
    std::fs::read(&log).unwrap_or_else(|error| panic!("{log}: {error}"))
}

/// Returns the lines about a transaction that was not where its session took it to be.
fn misplaced_transactions(log: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(log)
        .lines()
        .filter(|line| line.contains("transaction in progress"))
        .map(str::to_owned)
        .collect()
}

/// Deadlines and clients that hang up drop requests at every wait. Rows that other requests write meanwhile on the same
/// connections stay, and each success that a client got is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_requests_undo_nothing_for_others() {
    let mut orders = spawn_app().await;
    orders.app.expect_trouble();
    let (cuts, promised) = (cuts(), Promised::default());
    let logged_before = server_log().len();
    let client = async |requests: usize| {
        for _ in 0..requests {
            orders.one_request(&promised).await;
        }
    };
    tokio::join!(
        orders.fill_the_dead_letters(cuts),
        client(cuts / 4),
        client(cuts / 4),
        client(cuts / 4),
        client(cuts - 3 * (cuts / 4)),
    );

    eventually("every acknowledged message is a row", || async {
        let parked: i64 = sqlx::query_scalar("select count(*) from parked_message")
            .fetch_one(&orders.app.pool)
            .await
            .expect("counted");
        let depth = orders.vhost.depth("order.timeline.dead").await;
        match usize::try_from(parked) {
            Ok(parked) if parked == cuts => Ok(()),
            _ => Err(format!(
                "{parked} of {cuts} are rows; in the queue: {depth:?}"
            )),
        }
    })
    .await;
    let Promised {
        placed,
        cancelled,
        dropped,
    } = promised;
    let placed = placed.into_inner().expect("no panic");
    let cancelled = cancelled.into_inner().expect("no panic");
    for (id, _) in &placed {
        orders.order(*id).await;
    }
    for id in &cancelled {
        let order = orders.order(*id).await;
        let state = order["state"].as_str().expect("a state");
        assert!(["cancelling", "cancelled"].contains(&state), "{order}");
    }
    let dropped = dropped.into_inner().expect("no panic");
    for id in &dropped {
        let request = orders
            .app
            .as_operator(Method::GET, &format!("/operator/parked/{id}"));
        let parked = answer(request).await.expect(200);
        assert_eq!(parked["state"], "dropped", "{parked}");
    }
    println!(
        "{cuts} requests, {} placed, {} cancelled, {cuts} parked, {} of them dropped",
        placed.len(),
        cancelled.len(),
        dropped.len()
    );
    assert_eq!(
        misplaced_transactions(&server_log()[logged_before..]),
        Vec::<String>::new()
    );
    orders.stop().await;
}
