//! Sagas from message to message.

use contracts::{
    inventory::InventoryReserved,
    order::{CancelReason, CancelRequested, Saga},
    payment::{DeclineReason, PaymentCompleted, PaymentDeclined},
    value::{Currency, Money, OrderId},
};
use orchestrator::domain::saga_id;
use reqwest::Method;
use testkit::{answer, eventually};

use crate::helpers::{key, lines, spawn_app};

fn completed(order_id: OrderId) -> PaymentCompleted {
    PaymentCompleted {
        order_id,
        order_version: 1,
        amount: Money::new(1250, Currency::EUR),
        lines: lines(),
    }
}

#[tokio::test]
async fn saga_starts_once_and_its_replies_have_an_effect_once() {
    let it = spawn_app(100).await;
    let order = OrderId::new();
    it.begin(order).await;
    it.begin(order).await;
    let charge = it.asked("charge_payment", order, 1).await;
    assert_eq!(
        charge.key(),
        Some(key(order, "charge_payment", "do").as_str())
    );
    assert_eq!(
        (charge.exchange.as_str(), charge.routing_key.as_str()),
        ("commands", "payment")
    );
    for _ in 0..3 {
        it.reply(&completed(order), &key(order, "charge_payment", "do"))
            .await;
    }
    it.asked("reserve_inventory", order, 1).await;
    // The queue keeps its order: once this reply has led to a command, the earlier ones have been applied.
    let reserved = InventoryReserved {
        order_id: order,
        order_version: 1,
    };
    it.reply(&reserved, &key(order, "reserve_inventory", "do"))
        .await;
    it.asked("confirm_order", order, 1).await;
    let kinds = it.probe.kinds(order);
    for once in [
        "orchestrator.charge_payment.v1",
        "orchestrator.reserve_inventory.v1",
    ] {
        assert_eq!(
            kinds.iter().filter(|kind| *kind == once).count(),
            1,
            "{kinds:?}"
        );
    }
    let saga = it.saga(order).await;
    assert_eq!(
        (&saga["step"], &saga["phase"]),
        (&"confirm_order".into(), &"running".into())
    );
    assert_eq!(saga["log"].as_array().map(Vec::len), Some(3), "{saga}");
    it.stop().await;
}

#[tokio::test]
async fn overdue_command_is_resent_as_a_new_message_under_its_key() {
    let it = spawn_app(1).await;
    let order = OrderId::new();
    it.begin(order).await;
    let first = it.asked("charge_payment", order, 1).await;
    let second = it.asked("charge_payment", order, 2).await;
    assert_eq!(first.key(), second.key());
    assert_ne!(first.id, second.id);
    assert_eq!(first.data, second.data);
    it.stop().await;
}

#[tokio::test]
async fn cancel_before_its_saga_is_ignored() {
    let it = spawn_app(100).await;
    let order_id = OrderId::new();
    let cancel = CancelRequested {
        order_id,
        order_version: 2,
        reason: CancelReason::Customer,
    };
    it.probe
        .command(
            "orchestrator",
            &cancel,
            &format!("{order_id}/cancel_requested"),
        )
        .await;
    it.begin(order_id).await;
    it.asked("charge_payment", order_id, 1).await;
    // A cancel in time turns the saga around.
    it.probe
        .command(
            "orchestrator",
            &cancel,
            &format!("{order_id}/cancel_requested"),
        )
        .await;
    it.asked("refund_payment", order_id, 1).await;
    it.stop().await;
}

#[tokio::test]
async fn reply_to_no_command_is_parked() {
    let mut it = spawn_app(100).await;
    let (order, other) = (OrderId::new(), OrderId::new());
    it.begin(order).await;
    it.asked("charge_payment", order, 1).await;
    let declined = PaymentDeclined {
        order_id: order,
        order_version: 1,
        reason: DeclineReason::CardDeclined,
    };
    for key in [
        // a saga that does not exist
        key(other, "charge_payment", "do"),
        // a step that does not exist
        format!("{}/charge_twice/do", saga_id(order, Saga::PlaceOrder)),
        // a key of another form
        format!("{order}/payment/do"),
    ] {
        it.reply(&declined, &key).await;
    }
    it.reply(&completed(other), &key(other, "charge_payment", "do"))
        .await;
    eventually("all four are parked", || async {
        let parked = answer(it.app.as_operator(Method::GET, "/operator/parked"))
            .await
            .expect(200);
        let parked = parked.as_array().cloned().unwrap_or_default();
        if parked.len() == 4 {
            Ok(())
        } else {
            Err(format!("{parked:?}"))
        }
    })
    .await;
    assert_eq!(it.saga(order).await["step"], "charge_payment");
    it.app.expect_trouble();
    it.stop().await;
}
