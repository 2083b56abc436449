//! Sagas whose rows cannot be read. They do not delay other sagas, and go on when their rows are repaired.

use chassis::events::{COMMANDS, REPLIES};
use contracts::{order::Saga, value::OrderId};
use load_tests::traffic::Ending;
use orchestrator::domain::saga_id;
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{Interposer, Passage::Hold, eventually};

use super::{
    BINDINGS,
    cell::key,
    order_of, table,
    told::{self, Told},
};
use crate::system::System;

#[tokio::test]
async fn unreadable_rows_do_not_delay_other_sagas() {
    let system = System::start().await;
    let between = Interposer::attach(&system.vhost, &BINDINGS).await;
    let pool = system.databases["orchestrator"].pool();
    // All orders are charged, and the replies that their goods are reserved are held back.
    let mut orders = Vec::new();
    for _ in 0..5 {
        let order = system.place_this("alice", &order_of("TEA-ASSAM")).await;
        between.rule(REPLIES, &reserved(order), &[], Hold);
        between.admit(order).await;
        orders.push(order);
    }
    for order in &orders {
        between.wait_held(REPLIES, &reserved(*order)).await;
    }
    let [unknown, no_data, no_state, good, another] = orders[..] else {
        panic!("five orders");
    };
    let data: Value = sqlx::query_scalar("select data from saga where id = $1")
        .bind(saga_id(no_data, Saga::PlaceOrder))
        .fetch_one(&pool)
        .await
        .expect("the database answers");
    write(&pool, unknown, "definition_version", &json!(99)).await;
    write(&pool, no_data, "data", &json!({ "order": "gone" })).await;
    write(&pool, no_state, "state", &json!(["who", "knows"])).await;
    // An operator is shown what is wrong, even before a message or a sweep has reached the saga.
    let told = told::ask(&system, unknown, Saga::PlaceOrder).await;
    assert_eq!(told.phase, "running");
    assert!(
        told.error
            .is_some_and(|error| error.contains("place_order of version 99"))
    );
    for order in &orders {
        between.release(REPLIES, &reserved(*order)).await;
    }

    // The other sagas end, and so does the one whose state can be restored from its log.
    let ended = [good, another, no_state].map(|order| (Ending::ConfirmedWallet, order));
    system.ended_as_expected(&ended).await;
    for order in [good, another, no_state] {
        let told = is(&system, order, "completed").await;
        let usual = table::usual(Saga::PlaceOrder).iter();
        assert_eq!(told.log, usual.map(|(_, said)| *said).collect::<Vec<_>>());
        assert_eq!(told.marks, "dddddddd");
    }
    let why = "this program has no definition place_order of version 99";
    for (order, error) in [(unknown, why), (no_data, "data: missing field")] {
        let told = is(&system, order, "broken").await;
        assert!(
            told.error.as_deref().unwrap_or_default().starts_with(error),
            "{told:?}"
        );
        let id = saga_id(order, Saga::PlaceOrder);
        for action in ["resume", "skip", "abandon"] {
            let refused = told::operate(&system, id, action, "let us see").await;
            assert_eq!(refused, 409, "{action}: nothing is mended yet");
        }
        let shown = system.api.order(order).await.expect("order answers");
        assert_eq!(
            (&shown["state"], &shown["at_rest"]),
            (&json!("pending"), &json!(false))
        );
    }
    assert_eq!(told::in_phase(&system, "broken").await.len(), 2);
    eventually("a metric to alert on", || async {
        let metrics = system.metrics("orchestrator").await;
        let is_shown = metrics.contains("sagas_broken{service=\"orchestrator\"} 2");
        if is_shown { Ok(()) } else { Err(metrics) }
    })
    .await;

    // Repaired, the sagas go on where they were: the command that was answered meanwhile is sent again.
    write(&pool, unknown, "definition_version", &json!(1)).await;
    write(&pool, no_data, "data", &data).await;
    for order in [unknown, no_data] {
        let id = saga_id(order, Saga::PlaceOrder);
        let resumed = told::operate(&system, id, "resume", "the row is mended").await;
        assert_eq!(resumed, 202);
    }
    let ended = [unknown, no_data].map(|order| (Ending::ConfirmedWallet, order));
    system.ended_as_expected(&ended).await;
    for order in [unknown, no_data] {
        let told = is(&system, order, "completed").await;
        assert_eq!((&*told.marks, told.error), ("dddddddd", None));
        assert!(told.asked["reserve_inventory/do"] >= 2, "{:?}", told.asked);
        let asked = system.probe.seen_on(COMMANDS, order);
        let key = reserved(order);
        assert!(asked.iter().filter(|seen| seen.key() == Some(&key)).count() >= 2);
    }
    system.end().await;
}

/// Returns the key of the step that the sagas are at.
fn reserved(order: OrderId) -> String {
    key(order, Saga::PlaceOrder, "reserve_inventory", "do")
}

/// Overwrites a column of a saga's row.
async fn write(pool: &PgPool, order: OrderId, column: &str, value: &Value) {
    let statement = if column == "definition_version" {
        "update saga set definition_version = ($2::jsonb)::integer where id = $1".to_owned()
    } else {
        format!("update saga set {column} = $2::jsonb where id = $1")
    };
    let written = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(saga_id(order, Saga::PlaceOrder))
        .bind(value)
        .execute(pool)
        .await
        .expect("the database takes it");
    assert_eq!(written.rows_affected(), 1);
}

/// Waits until the order's saga is in this phase.
async fn is(system: &System, order: OrderId, phase: &str) -> Told {
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
