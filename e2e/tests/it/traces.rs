//! One trace holds the whole order: HTTP, outbox, broker, every service.

use std::collections::{BTreeMap, BTreeSet};

use chassis::identity::Role;
use serde_json::{Value, json};
use testkit::{answer, client, eventually, token};
use uuid::Uuid;
use xtask::wiring::SERVICES;

use crate::system::System;

/// Every span of the trace that has ended, by its id.
fn spans(system: &System, trace: &str) -> BTreeMap<String, Value> {
    SERVICES
        .iter()
        .flat_map(|service| {
            system
                .whole_log(service)
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .map(|line| line["span"].clone())
                .filter(|span| span["trace_id"] == trace)
                .collect::<Vec<_>>()
        })
        .map(|span| {
            (
                span["span_id"].as_str().unwrap_or_default().to_owned(),
                span,
            )
        })
        .collect()
}

#[tokio::test]
async fn one_trace_holds_the_whole_order() {
    let system = System::start_with(&[("OTEL_TRACES_EXPORTER", "console")]).await;
    // The customer's app has begun the trace.
    let (trace, app) = (Uuid::now_v7().simple().to_string(), "00f067aa0ba902b7");
    let order = json!({
        "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }],
        "payment": { "method": "card", "token": "tok_visa" },
    });
    let request = client()
        .post(format!("{}/orders", system.url("order")))
        .bearer_auth(token("alice", Role::Customer))
        .header("Idempotency-Key", "traced")
        .header("traceparent", format!("00-{trace}-{app}-01"))
        .json(&order);
    answer(request).await.expect(202);

    let expected = expected();
    let spans = eventually("the trace is whole", || async {
        let spans = spans(&system, &trace);
        let seen: BTreeSet<Vec<String>> = spans.values().map(|span| path(&spans, span)).collect();
        let missing: Vec<_> = expected.difference(&seen).collect();
        if missing.is_empty() {
            Ok(spans)
        } else {
            Err(format!("missing {missing:#?} in {seen:#?}"))
        }
    })
    .await;

    for span in spans.values() {
        let parent = span["parent_span_id"].as_str().expect("it has a parent");
        assert!(
            parent == app || spans.contains_key(parent),
            "an orphan: {span}"
        );
    }
    let services: BTreeSet<_> = spans
        .values()
        .filter_map(|span| span["service"].as_str())
        .collect();
    assert_eq!(services, BTreeSet::from(SERVICES));
    system.end().await;
}

/// A span's ancestors, from the first to itself: `service name what`.
fn path(spans: &BTreeMap<String, Value>, span: &Value) -> Vec<String> {
    let mut path = Vec::new();
    let mut next = Some(span);
    while let Some(span) = next {
        let attributes = &span["attributes"];
        let what = ["kind", "path"]
            .iter()
            .find_map(|name| attributes[*name].as_str())
            .unwrap_or_default();
        path.push(
            format!(
                "{} {} {what}",
                span["service"].as_str().unwrap_or_default(),
                span["name"].as_str().unwrap_or_default()
            )
            .trim_end()
            .to_owned(),
        );
        next = span["parent_span_id"]
            .as_str()
            .and_then(|parent| spans.get(parent));
    }
    path.reverse();
    path
}

/// Each step of a confirmed order by card, below what led to it.
fn expected() -> BTreeSet<Vec<String>> {
    let ordered = ["order request /orders"];
    let charged = [
        &ordered[..],
        &["payment process order.created.v1", "payment card call"],
    ]
    .concat();
    let reserved = [&charged[..], &["inventory process payment.completed.v1"]].concat();
    let confirmed = [&reserved[..], &["order process inventory.reserved.v1"]].concat();
    [
        [&ordered[..], &["order call", "inventory request /prices"]].concat(),
        [
            &charged[..],
            &["payment call", "card-processor request /charges"],
        ]
        .concat(),
        [
            &confirmed[..],
            &[
                "inventory process order.confirmed.v1",
                "order process inventory.committed.v1",
            ],
        ]
        .concat(),
        [
            &confirmed[..],
            &[
                "notification process order.confirmed.v1",
                "notification send mail",
            ],
        ]
        .concat(),
    ]
    .into_iter()
    .map(|path| path.into_iter().map(str::to_owned).collect())
    .collect()
}
