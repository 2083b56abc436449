//! A refund that always fails: the saga waits for an operator, who has three ways to end it, and no other saga waits.

use contracts::{order::Saga, value::OrderId};
use load_tests::traffic::{Coordination, Ending};
use orchestrator::domain::saga_id;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{answer, eventually};

use super::{
    order_of,
    told::{self, Told},
};
use crate::system::System;

const NOTE: &str = "paid back by bank transfer";

#[tokio::test]
async fn a_refund_that_always_fails_is_ended_by_an_operator() {
    // Sagas give up after 10 s instead of 1000 s.
    let settings = [("SAGA_PACE", "1"), ("SAGA_POLL_MS", "50")];
    let system = System::start_with(&settings).await;
    system.stop("payment").await;
    system.revive("payment", &[("FAILPOINTS", "payment.cancel=return")]);
    system.ready("payment").await;

    // The orders are charged, and then out of stock.
    let mut orders = Vec::new();
    for _ in 0..3 {
        orders.push(system.place_this("alice", &order_of("SAMOVAR")).await);
    }
    for order in &orders {
        come_to(&system, *order, "compensating").await;
    }

    // Other orders come to rest meanwhile, as always.
    let mut others = Vec::new();
    for ending in [
        Ending::ConfirmedWallet,
        Ending::ConfirmedCard,
        Ending::DeclinedCard,
        Ending::DeclinedWallet,
    ] {
        let order = system.place_by(Coordination::Orchestration, ending).await;
        others.push((ending, order));
    }
    system.ended_as_expected(&others).await;
    for order in &orders {
        let told = come_to(&system, *order, "stuck").await;
        assert_eq!(told.error.as_deref(), Some("no answer to 10 attempts"));
        assert_eq!(told.asked["charge_payment/undo"], 10);
        let shown = system.api.order(*order).await.expect("order answers");
        assert_eq!(shown["at_rest"], false, "{shown}");
        assert_eq!(
            system.api.payment_state(*order).await.expect("it answers"),
            "captured"
        );
    }
    assert_eq!(told::in_phase(&system, "stuck").await.len(), 3);
    shows(&system, "sagas_stuck{service=\"orchestrator\"} 3").await;
    let still = system
        .place_by(Coordination::Orchestration, Ending::ConfirmedWallet)
        .await;
    system
        .ended_as_expected(&[(Ending::ConfirmedWallet, still)])
        .await;
    let report = system.reconcile().await;
    for order in &orders {
        let id = saga_id(*order, Saga::PlaceOrder).to_string();
        let is_found = report
            .findings
            .iter()
            .any(|finding| finding.detail.contains(&id));
        assert!(is_found, "{id} is stuck: {report}");
    }

    // Skip and abandon do the same to these sagas: only one step is left that could be settled.
    let [skipped, abandoned, resumed] = orders[..] else {
        panic!("three orders");
    };
    let operate = async |order, action| {
        told::operate(&system, saga_id(order, Saga::PlaceOrder), action, NOTE).await
    };
    assert_eq!(operate(skipped, "skip").await, 202);
    assert_eq!(operate(abandoned, "abandon").await, 202);
    let told = come_to(&system, skipped, "compensated").await;
    assert_eq!((&*told.marks, &*told.log[3]), ("uutrwwww", "skip"));
    let told = come_to(&system, abandoned, "abandoned").await;
    assert_eq!((&*told.marks, &*told.log[3]), ("uutrwwww", "abandon"));
    // The third saga resends its command, when payment can refund again.
    system.stop("payment").await;
    system.revive("payment", &[]);
    system.ready("payment").await;
    assert_eq!(operate(resumed, "resume").await, 202);
    let told = come_to(&system, resumed, "compensated").await;
    assert_eq!((&*told.marks, &*told.log[3]), ("uuurwwww", "resume"));
    for action in ["resume", "skip", "abandon"] {
        assert_eq!(operate(resumed, action).await, 409, "it is over");
    }

    // The parked refunds are handled now, when no saga needs them any more.
    let ended = async |order| told::ask(&system, order, Saga::PlaceOrder).await;
    let before = [
        ended(skipped).await,
        ended(abandoned).await,
        ended(resumed).await,
    ];
    let requeued = requeue_all(&system).await;
    assert!(requeued >= 20, "{requeued} refunds had been parked");
    let report = system.reconcile().await;
    assert!(report.is_clean(), "{report}");
    let after = [
        ended(skipped).await,
        ended(abandoned).await,
        ended(resumed).await,
    ];
    assert_eq!(before, after);
    for (order, state) in [
        (skipped, "settled"),
        (abandoned, "settled"),
        (resumed, "refunded"),
    ] {
        let shown = system.api.order(order).await.expect("order answers");
        assert_eq!(
            (&shown["state"], &shown["reason"], &shown["at_rest"]),
            (&json!("cancelled"), &json!("out_of_stock"), &json!(true))
        );
        assert_eq!(
            system.api.payment_state(order).await.expect("it answers"),
            state
        );
    }

    // The operator and the note are recorded.
    let fact = |part: &str| report.facts.iter().any(|fact| fact.contains(part));
    for (order, action) in [(skipped, "skip"), (abandoned, "abandon")] {
        let saga = saga_id(order, Saga::PlaceOrder);
        assert!(
            fact(&format!("saga {saga}: olga chose to {action} at ")),
            "{report}"
        );
        assert!(
            fact(&format!("order {order} was settled by an operator")),
            "{report}"
        );
    }
    let settled: Vec<(sqlx::types::Uuid, i64, String, String)> = sqlx::query_as(
        "select order_id, amount_minor, operator, note from settlement order by order_id",
    )
    .fetch_all(&system.databases["payment"].pool())
    .await
    .expect("the database answers");
    let mut wanted: Vec<_> = [skipped, abandoned]
        .map(|order| (order.0, 19_900, "olga".to_owned(), NOTE.to_owned()))
        .into();
    wanted.sort_unstable();
    assert_eq!(settled, wanted);
    shows(&system, "sagas_stuck{service=\"orchestrator\"} 0").await;
    system.end().await;
}

/// Waits until the order's saga is in this phase.
async fn come_to(system: &System, order: OrderId, phase: &str) -> Told {
    eventually(&format!("the saga of {order} is {phase}"), || async {
        let told = told::ask(system, order, Saga::PlaceOrder).await;
        if told.phase == phase {
            Ok(told)
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await
}

/// Waits until the orchestrator's metrics have this line.
async fn shows(system: &System, line: &str) {
    eventually(line, || async {
        let metrics = system.metrics("orchestrator").await;
        let is_there = metrics.lines().any(|shown| shown == line);
        if is_there { Ok(()) } else { Err(metrics) }
    })
    .await;
}

/// Requeues every message that payment could not handle, until none is parked. Returns how many it requeued.
async fn requeue_all(system: &System) -> usize {
    let mut requeued = 0;
    loop {
        let parked: Vec<Value> = system.parked("payment").await;
        if parked.is_empty() {
            return requeued;
        }
        for row in parked {
            assert_eq!(row["type"], "orchestrator.refund_payment.v1", "{row}");
            let id = row["id"].as_str().expect("an id");
            let path = format!("/operator/parked/{id}/requeue");
            let request = system.as_operator("payment", Method::POST, &path);
            answer(request.json(&json!({ "note": "mended" })))
                .await
                .expect(202);
            requeued += 1;
        }
    }
}
