//! Choreographed orders: the transitions that the other services' events cause.

use contracts::{
    inventory::{
        InventoryCommitted, InventoryNothingToUndo, InventoryRejected, InventoryReleased,
        InventoryReserved, RejectReason,
    },
    payment::{DeclineReason, PaymentDeclined, PaymentNothingToUndo, PaymentRefunded},
    value::{Currency, Money, OrderId},
};
use reqwest::Method;
use serde_json::json;
use testkit::{answer, eventually};
use uuid::Uuid;

use crate::helpers::{Orders, spawn_app, tea};

const VERSION: u32 = 1;

fn refunded(order_id: OrderId) -> PaymentRefunded {
    PaymentRefunded {
        order_id,
        order_version: VERSION,
        amount: Money::new(1380, Currency::EUR),
    }
}

/// Confirms an order, as payment and inventory would.
async fn confirm(orders: &Orders, order_id: OrderId) {
    orders
        .probe
        .publish(&InventoryReserved {
            order_id,
            order_version: VERSION,
        })
        .await;
    orders.probe.wait_for("order.confirmed.v1", order_id).await;
    orders
        .probe
        .publish(&InventoryCommitted {
            order_id,
            order_version: 2,
        })
        .await;
    orders.wait_for(order_id, "confirmed", true).await;
}

#[tokio::test]
async fn reserved_and_committed_order_is_at_rest() {
    let orders = spawn_app().await;
    let id = orders.place("alice", &tea()).await;
    let created = &orders.probe.seen(id)[0];
    assert_eq!(
        created.data["amount"],
        json!({ "amount_minor": 1380, "currency": "EUR" }),
        "at inventory's price"
    );
    assert_eq!(
        created.data["customer"],
        json!({ "id": "alice", "email": "alice@example.test" })
    );
    assert_eq!(
        created.headers["cloudEvents_idempotencykey"],
        format!("{id}/order/do")
    );

    orders
        .probe
        .publish(&InventoryReserved {
            order_id: id,
            order_version: VERSION,
        })
        .await;
    let confirmed = orders.probe.wait_for("order.confirmed.v1", id).await;
    assert_eq!(confirmed.data["order_version"], 2);
    // Confirmed, but not at rest before inventory has committed.
    orders.wait_for(id, "confirmed", false).await;
    orders
        .probe
        .publish(&InventoryCommitted {
            order_id: id,
            order_version: 2,
        })
        .await;
    let order = orders.wait_for(id, "confirmed", true).await;
    assert_eq!(
        (&order["version"], &order["reason"]),
        (&json!(2), &json!(null))
    );
    orders.stop().await;
}

#[tokio::test]
async fn declined_or_rejected_order_is_undone_by_both() {
    let orders = spawn_app().await;
    for (reason, payment_did) in [("payment_declined", false), ("out_of_stock", true)] {
        let id = orders.place("alice", &tea()).await;
        if payment_did {
            let reason = RejectReason::OutOfStock;
            let rejected = InventoryRejected {
                order_id: id,
                order_version: VERSION,
                reason,
                sku: None,
            };
            orders.probe.publish(&rejected).await;
        } else {
            let reason = DeclineReason::CardDeclined;
            orders
                .probe
                .publish(&PaymentDeclined {
                    order_id: id,
                    order_version: VERSION,
                    reason,
                })
                .await;
        }
        let cancelling = orders.probe.wait_for("order.cancelling.v1", id).await;
        assert_eq!(cancelling.data["reason"], reason);
        orders
            .probe
            .publish(&InventoryNothingToUndo {
                order_id: id,
                order_version: 2,
            })
            .await;
        // One answer is not enough.
        eventually("one answer", || async {
            let view = orders.operator_view(id).await;
            if view["inventory_answer"] == "nothing_to_undo" {
                Ok(())
            } else {
                Err(view)
            }
        })
        .await;
        assert_eq!(orders.order(id).await["state"], "cancelling");
        assert_eq!(orders.operator_view(id).await["awaits"], json!(["payment"]));
        if payment_did {
            orders.probe.publish(&refunded(id)).await;
        } else {
            orders
                .probe
                .publish(&PaymentNothingToUndo {
                    order_id: id,
                    order_version: 2,
                })
                .await;
        }
        let cancelled = orders.probe.wait_for("order.cancelled.v1", id).await;
        assert_eq!(
            (&cancelled.data["reason"], &cancelled.data["refunded"]),
            (&json!(reason), &json!(payment_did))
        );
        let order = orders.wait_for(id, "cancelled", true).await;
        assert_eq!(
            (&order["reason"], &order["version"]),
            (&json!(reason), &json!(3))
        );
    }
    orders.stop().await;
}

#[tokio::test]
async fn the_customer_cancels_before_and_after_confirmation() {
    let orders = spawn_app().await;
    for confirmed in [false, true] {
        let id = orders.place("alice", &tea()).await;
        if confirmed {
            confirm(&orders, id).await;
        }
        let answered = orders.cancel("alice", id).await.expect(202);
        assert_eq!(
            (&answered["state"], &answered["reason"]),
            (&json!("cancelling"), &json!("customer"))
        );
        assert_eq!(
            orders.cancel("alice", id).await.expect(202)["state"],
            "cancelling",
            "asked again"
        );
        orders.probe.wait_for("order.cancelling.v1", id).await;
        orders.probe.publish(&refunded(id)).await;
        orders
            .probe
            .publish(&InventoryReleased {
                order_id: id,
                order_version: 2,
                restocked: confirmed,
            })
            .await;
        orders.wait_for(id, "cancelled", true).await;
        assert_eq!(
            orders.cancel("alice", id).await.expect(202)["state"],
            "cancelled",
            "and again"
        );
        assert_eq!(
            orders
                .probe
                .kinds(id)
                .iter()
                .filter(|kind| *kind == "order.cancelling.v1")
                .count(),
            1
        );
    }
    orders.stop().await;
}

#[tokio::test]
async fn late_and_repeated_events_change_nothing() {
    let orders = spawn_app().await;
    let id = orders.place("alice", &tea()).await;
    orders.cancel("alice", id).await.expect(202);
    for _ in 0..2 {
        // Both had worked on the order when the cancel came.
        orders
            .probe
            .publish(&InventoryReserved {
                order_id: id,
                order_version: VERSION,
            })
            .await;
        orders.probe.publish(&refunded(id)).await;
        orders
            .probe
            .publish(&InventoryReleased {
                order_id: id,
                order_version: 2,
                restocked: false,
            })
            .await;
    }
    orders.wait_for(id, "cancelled", true).await;
    orders.probe.wait_for("order.cancelled.v1", id).await;
    let kinds = orders.probe.kinds(id);
    assert!(
        !kinds.contains(&"order.confirmed.v1".to_owned()),
        "{kinds:?}"
    );
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| *kind == "order.cancelled.v1")
            .count(),
        1,
        "{kinds:?}"
    );
    orders.stop().await;
}

#[tokio::test]
async fn contradicting_messages_are_parked() {
    let mut orders = spawn_app().await;
    let id = orders.place("alice", &tea()).await;
    let stranger = OrderId::new();
    // No commit was requested, and the other order does not exist.
    orders
        .probe
        .publish(&InventoryCommitted {
            order_id: id,
            order_version: 2,
        })
        .await;
    orders
        .probe
        .publish(&InventoryReserved {
            order_id: stranger,
            order_version: VERSION,
        })
        .await;
    let parked = eventually("both are parked", || async {
        let parked = answer(orders.app.as_operator(Method::GET, "/operator/parked"))
            .await
            .expect(200);
        if parked.as_array().is_some_and(|parked| parked.len() == 2) {
            Ok(parked)
        } else {
            Err(parked)
        }
    })
    .await;
    let detail = |about: OrderId| {
        let parked = parked
            .as_array()
            .expect("a list")
            .iter()
            .find(|row| row["subject"] == about.to_string());
        let row = parked.expect("it is parked");
        assert_eq!(row["cause"], "rejected");
        row["detail"].as_str().expect("text").to_owned()
    };
    assert!(
        detail(id).contains("Committed is not possible while the order is Pending"),
        "{}",
        detail(id)
    );
    assert!(
        detail(stranger).contains("there is no order"),
        "{}",
        detail(stranger)
    );
    orders.app.expect_trouble();
    orders.stop().await;
}

#[tokio::test]
async fn timeline_has_every_message() {
    let orders = spawn_app().await;
    let id = orders.place("alice", &tea()).await;
    confirm(&orders, id).await;
    // Also a type that no service knows, of another way of coordination: no service acts on it.
    let data = json!({ "order_id": id, "order_version": 9 })
        .to_string()
        .into_bytes();
    let event =
        holdfast::messaging::Event::new("saga.started.v7", "/orchestrator", id.to_string(), data);
    orders
        .probe
        .send(event.into_message("events", "orchestration.saga.started.v7".to_owned()))
        .await;

    let path = format!("/orders/{id}/timeline");
    let kinds = [
        "order.created.v1",
        "inventory.reserved.v1",
        "order.confirmed.v1",
        "inventory.committed.v1",
        "saga.started.v7",
    ];
    let timeline = eventually("five entries", || async {
        let timeline = answer(orders.app.as_customer("alice", Method::GET, &path))
            .await
            .expect(200);
        if timeline
            .as_array()
            .is_some_and(|entries| entries.len() == kinds.len())
        {
            Ok(timeline)
        } else {
            Err(timeline)
        }
    })
    .await;
    for (entry, kind) in timeline.as_array().expect("a list").iter().zip(kinds) {
        assert_eq!(entry["type"], kind);
        assert_eq!(entry["data"], json!(null), "payloads are for operators");
    }
    let confirmed_by: Uuid = timeline[2]["causation_id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("a UUID");
    assert_eq!(
        timeline[1]["message_id"],
        confirmed_by.to_string(),
        "each names its cause"
    );
    let in_full = answer(orders.app.as_operator(Method::GET, &path))
        .await
        .expect(200);
    assert_eq!(in_full[0]["data"]["customer"]["id"], "alice");
    orders.stop().await;
}
