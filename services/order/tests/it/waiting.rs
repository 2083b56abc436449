//! Deadlines, sweeps, and orders that wait for an operator.

use contracts::{
    inventory::{InventoryNothingToUndo, InventoryReserved},
    payment::{PaymentNothingToUndo, PaymentSettled},
};
use reqwest::Method;
use serde_json::json;
use testkit::{answer, eventually};

use crate::helpers::{spawn_app_with, tea};

#[tokio::test]
async fn a_pending_order_is_cancelled_at_its_deadline() {
    let orders = spawn_app_with(&["--order-deadline-seconds=1"]).await;
    let id = orders.place("alice", &tea()).await;
    let cancelling = orders.probe.wait_for("order.cancelling.v1", id).await;
    assert_eq!(cancelling.data["reason"], "deadline");
    orders
        .probe
        .publish(&PaymentNothingToUndo {
            order_id: id,
            order_version: 2,
        })
        .await;
    orders
        .probe
        .publish(&InventoryNothingToUndo {
            order_id: id,
            order_version: 2,
        })
        .await;
    assert_eq!(
        orders.wait_for(id, "cancelled", true).await["reason"],
        "deadline"
    );
    orders.stop().await;
}

#[tokio::test]
async fn a_confirmed_order_has_no_deadline() {
    let orders = spawn_app_with(&["--order-deadline-seconds=1"]).await;
    let (confirmed, given_up) = (
        orders.place("alice", &tea()).await,
        orders.place("alice", &tea()).await,
    );
    orders
        .probe
        .publish(&InventoryReserved {
            order_id: confirmed,
            order_version: 1,
        })
        .await;
    orders.probe.wait_for("order.confirmed.v1", confirmed).await;
    // When the other order is cancelled, this one would have been, too.
    orders.probe.wait_for("order.cancelling.v1", given_up).await;
    assert_eq!(orders.order(confirmed).await["state"], "confirmed");
    orders.stop().await;
}

#[tokio::test]
async fn unanswered_order_is_swept_and_then_stuck() {
    let orders = spawn_app_with(&["--sweep-after-ms=50", "--sweeps=3"]).await;
    let id = orders.place("alice", &tea()).await;
    orders.cancel("alice", id).await.expect(202);
    // Once for the cancel, and three times by sweeps.
    orders
        .probe
        .wait_for_nth("order.cancelling.v1", id, 4)
        .await;
    let view = orders.wait_until_stuck(id).await;
    assert_eq!(view["awaits"], json!(["payment", "inventory"]));
    assert_eq!(
        view["sweeps"], 3,
        "the sweep that gave up asked for nothing"
    );
    let stuck = answer(orders.app.as_operator(Method::GET, "/operator/orders"))
        .await
        .expect(200);
    assert_eq!(stuck["orders"][0]["id"], id.to_string());
    let ids: std::collections::HashSet<_> = orders
        .probe
        .seen(id)
        .into_iter()
        .filter(|event| event.kind == "order.cancelling.v1")
        .map(|event| event.id)
        .collect();
    assert_eq!(ids.len(), 4, "each is a new send with a new id");

    // After an answer the order is no longer stuck.
    orders
        .probe
        .publish(&InventoryNothingToUndo {
            order_id: id,
            order_version: 2,
        })
        .await;
    eventually("it waits again", || async {
        let view = orders.operator_view(id).await;
        if view["inventory_answer"].is_string() {
            Ok(())
        } else {
            Err(view)
        }
    })
    .await;
    let view = orders.wait_until_stuck(id).await;
    assert_eq!(view["awaits"], json!(["payment"]));

    let settle = async |note: &str, participants: &[&str]| {
        let body = json!({ "note": note, "participants": participants });
        orders.act(id, "settle", body).await
    };
    settle("n", &[])
        .await
        .expect_problem(422, "invalid-field", Some("participants"));
    settle("", &["payment"])
        .await
        .expect_problem(422, "invalid-field", Some("note"));
    // Inventory has answered, so it has nothing to settle.
    settle("n", &["inventory"])
        .await
        .expect_problem(409, "conflict", None);
    let before = orders.probe.kinds(id).len();
    orders
        .act(id, "resume", json!({ "note": "payment is mended" }))
        .await
        .expect(202);
    eventually("it is asked again", || async {
        let kinds = orders.probe.kinds(id);
        if kinds.len() > before {
            Ok(())
        } else {
            Err(format!("{kinds:?}"))
        }
    })
    .await;
    orders.wait_until_stuck(id).await;
    settle("paid by bank transfer", &["payment"])
        .await
        .expect(202);
    let settling = orders.probe.wait_for("order.settling.v1", id).await;
    assert_eq!(
        (
            &settling.data["participants"],
            &settling.data["operator"],
            &settling.data["note"]
        ),
        (
            &json!(["payment"]),
            &json!("olga"),
            &json!("paid by bank transfer")
        )
    );
    // The order ends only when payment has answered that it will not act on it any more.
    assert_eq!(orders.order(id).await["state"], "cancelling");
    orders
        .probe
        .publish(&PaymentSettled {
            order_id: id,
            order_version: 2,
        })
        .await;
    orders.wait_for(id, "cancelled", true).await;
    let view = orders.operator_view(id).await;
    assert_eq!(
        (&view["payment_answer"], &view["stuck_since"]),
        (&json!("settled"), &json!(null))
    );
    let actions: Vec<&str> = view["deeds"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|action| action["action"].as_str())
        .collect();
    assert_eq!(actions, ["resumed", "settled"]);
    orders.stop().await;
}

#[tokio::test]
async fn operator_cancels_only_pending_orders() {
    let orders = spawn_app_with(&[]).await;
    let (pending, confirmed) = (
        orders.place("alice", &tea()).await,
        orders.place("alice", &tea()).await,
    );
    orders
        .probe
        .publish(&InventoryReserved {
            order_id: confirmed,
            order_version: 1,
        })
        .await;
    orders.probe.wait_for("order.confirmed.v1", confirmed).await;
    let cancel = async |id: contracts::value::OrderId| {
        orders.act(id, "cancel", json!({ "note": "fraud" })).await
    };
    let view = cancel(pending).await.expect(202);
    assert_eq!(
        (&view["reason"], &view["deeds"][0]["note"]),
        (&json!("operator"), &json!("fraud"))
    );
    cancel(confirmed)
        .await
        .expect_problem(409, "conflict", None);
    assert_eq!(orders.order(confirmed).await["state"], "confirmed");
    assert_eq!(orders.operator_view(confirmed).await["deeds"], json!([]));
    // An order that is not stuck is not settled.
    let settle = json!({ "note": "n", "participants": ["payment"] });
    orders
        .act(pending, "settle", settle)
        .await
        .expect_problem(409, "conflict", None);
    orders.stop().await;
}

/// After an outage, whose time does not count, each order gets the whole of its own wait again.
#[tokio::test]
async fn no_sweep_comes_before_an_answer_could_have_come() {
    let orders = spawn_app_with(&["--sweep-after-ms=200", "--sweeps=30"]).await;
    let (long, short) = (
        orders.place("alice", &tea()).await,
        orders.place("alice", &tea()).await,
    );
    for id in [long, short] {
        orders.cancel("alice", id).await.expect(202);
        orders.probe.wait_for("order.cancelling.v1", id).await;
    }
    // Both waits are over by the clock. One order was swept ten times, so its wait was 102 s; but messages have come in
    // only for seconds.
    for (id, sweeps) in [(long, 10), (short, 1)] {
        sqlx::query(
            "update orders set sweeps = $2, sweep_at = now() - interval '1 s' where id = $1",
        )
        .bind(id.0)
        .bind(sweeps)
        .execute(&orders.app.pool)
        .await
        .expect("updated");
    }
    orders
        .probe
        .wait_for_nth("order.cancelling.v1", short, 3)
        .await;
    let asked = orders.probe.kinds(long);
    let asked = asked.iter().filter(|kind| *kind == "order.cancelling.v1");
    // Before the update its messages may have been resent once or twice.
    assert!(asked.count() <= 3);
    let sweeps: i32 = sqlx::query_scalar("select sweeps from orders where id = $1")
        .bind(long.0)
        .fetch_one(&orders.app.pool)
        .await
        .expect("counted");
    assert_eq!(sweeps, 10);
    orders.stop().await;
}
