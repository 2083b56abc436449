//! The events of an order, in any sequence and any number.

use contracts::{
    order::{OrderSettling, Participant},
    value::OrderId,
};
use holdfast::messaging::Event;
use serde_json::json;
use testkit::eventually;

use crate::helpers::{cancelling, confirmed, paid, spawn_app, start};

#[tokio::test]
async fn units_are_reserved_sold_and_restocked_after_a_cancel() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    inventory.stock("CUP", 5).await;
    let (order, probe) = (OrderId::new(), &inventory.probe);

    let paid = paid(order, &[("TEA", 3), ("CUP", 1)]);
    let cause = probe.publish(&paid).await;
    let reserved = probe.wait_for("inventory.reserved.v1", order).await;
    assert_eq!(
        reserved.headers["cloudEvents_causationid"],
        cause.to_string()
    );
    assert_eq!(
        reserved.headers["cloudEvents_idempotencykey"],
        format!("{order}/inventory/do")
    );
    assert_eq!(
        (
            inventory.shelves("TEA").await,
            inventory.shelves("CUP").await
        ),
        ((7, 3, 0, 0), (4, 1, 0, 0))
    );

    probe.publish(&confirmed(order)).await;
    probe.wait_for("inventory.committed.v1", order).await;
    assert_eq!(inventory.shelves("TEA").await, (7, 0, 3, 0));

    probe.publish(&cancelling(order)).await;
    let released = probe.wait_for("inventory.released.v1", order).await;
    assert_eq!(
        (&released.data["restocked"], &released.data["order_version"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(
        (
            inventory.shelves("TEA").await,
            inventory.shelves("CUP").await
        ),
        ((10, 0, 0, 0), (5, 0, 0, 0))
    );
    assert_eq!(inventory.reservation(order).await["state"], "released");
    inventory.stop().await;
}

#[tokio::test]
async fn repeated_event_is_answered_again_and_changes_nothing() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let (order, probe) = (OrderId::new(), &inventory.probe);
    for n in 1..=3 {
        probe.publish(&paid(order, &[("TEA", 3)])).await;
        probe.wait_for_nth("inventory.reserved.v1", order, n).await;
    }
    assert_eq!(inventory.shelves("TEA").await, (7, 3, 0, 0));
    for n in 1..=3 {
        probe.publish(&cancelling(order)).await;
        probe.wait_for_nth("inventory.released.v1", order, n).await;
    }
    assert_eq!(inventory.shelves("TEA").await, (10, 0, 0, 0));
    inventory.stop().await;
}

#[tokio::test]
async fn order_that_is_cancelled_first_is_never_reserved() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let (order, probe) = (OrderId::new(), &inventory.probe);
    probe.publish(&cancelling(order)).await;
    probe.wait_for("inventory.nothing_to_undo.v1", order).await;
    probe.publish(&paid(order, &[("TEA", 3)])).await;
    let rejected = probe.wait_for("inventory.rejected.v1", order).await;
    assert_eq!(rejected.data["reason"], "order_cancelled");
    assert_eq!(inventory.shelves("TEA").await, (10, 0, 0, 0));
    inventory.stop().await;
}

#[tokio::test]
async fn order_is_reserved_whole_or_not_at_all() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    inventory.stock("CUP", 0).await;
    let probe = &inventory.probe;
    for (ordered, reason, sku) in [
        ([("TEA", 1), ("CUP", 1)], "out_of_stock", "CUP"),
        ([("TEA", 1), ("NOPE", 1)], "unknown_sku", "NOPE"),
    ] {
        let order = OrderId::new();
        probe.publish(&paid(order, &ordered)).await;
        let rejected = probe.wait_for("inventory.rejected.v1", order).await;
        assert_eq!(
            (&rejected.data["reason"], &rejected.data["sku"]),
            (&json!(reason), &json!(sku))
        );
        // A rejection is final, even if units are delivered later.
        inventory.stock("TEA", 1).await;
        probe.publish(&cancelling(order)).await;
        probe.wait_for("inventory.nothing_to_undo.v1", order).await;
    }
    assert_eq!(inventory.shelves("TEA").await, (12, 0, 0, 0));
    inventory.stop().await;
}

#[tokio::test]
async fn a_hundred_customers_race_for_the_last_units_on_two_servers() {
    let inventory = spawn_app().await;
    inventory.stock("CUP", 7).await;
    inventory.stock("TEA", 1000).await;
    let second = start(inventory.app.database.clone(), &inventory.vhost).await;
    let orders: Vec<OrderId> = (0..100).map(|_| OrderId::new()).collect();
    // Many orders for one product in one batch, and each twice.
    let messages: Vec<_> = orders
        .iter()
        .chain(&orders)
        .map(|order| {
            let paid = paid(*order, &[("TEA", 2), ("CUP", 1)]);
            let data = serde_json::to_vec(&paid).expect("it serializes");
            let event = Event::new("payment.completed.v1", "/payment", order.to_string(), data);
            event.into_message("events", "choreography.payment.completed.v1".to_owned())
        })
        .collect();
    inventory.probe.send_all(&messages).await;
    inventory.wait_for_shelves("CUP", (0, 7, 0, 0)).await;
    eventually("every message is answered", || async {
        let answered = orders
            .iter()
            .filter(|order| inventory.probe.seen(order).len() >= 4)
            .count();
        if answered == 100 {
            Ok(())
        } else {
            Err(answered)
        }
    })
    .await;
    let served: Vec<_> = orders
        .iter()
        .filter(|order| {
            inventory
                .probe
                .kinds(order)
                .contains(&"inventory.reserved.v1".into())
        })
        .collect();
    assert_eq!(served.len(), 7);
    for order in &orders {
        let kinds = inventory.probe.kinds(order);
        let both = kinds.contains(&"inventory.reserved.v1".into())
            && kinds.contains(&"inventory.rejected.v1".into());
        assert!(!both, "{order}: {kinds:?}");
    }
    assert_eq!(
        (
            inventory.shelves("CUP").await,
            inventory.shelves("TEA").await
        ),
        ((0, 7, 0, 0), (986, 14, 0, 0))
    );
    second.stop().await;
    inventory.stop().await;
}

#[tokio::test]
async fn two_servers_that_meet_on_a_new_order_agree() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 1000).await;
    let second = start(inventory.app.database.clone(), &inventory.vhost).await;
    // The reserve and the release of each order at once: the first one decides, and the books agree.
    let orders: Vec<OrderId> = (0..60).map(|_| OrderId::new()).collect();
    for order in &orders {
        let (reserve, release) = (paid(*order, &[("TEA", 1)]), cancelling(*order));
        tokio::join!(
            inventory.probe.publish(&reserve),
            inventory.probe.publish(&release)
        );
    }
    for order in &orders {
        eventually("both are answered", || async {
            let kinds = inventory.probe.kinds(order);
            let answers = kinds
                .iter()
                .filter(|kind| kind.starts_with("inventory."))
                .count();
            if answers >= 2 {
                Ok(())
            } else {
                Err(format!("{kinds:?}"))
            }
        })
        .await;
        let state = inventory.reservation(*order).await["state"].clone();
        assert!(state == "released" || state == "void", "{state}");
    }
    assert_eq!(inventory.shelves("TEA").await, (1000, 0, 0, 0));
    second.stop().await;
    inventory.stop().await;
}

#[tokio::test]
async fn settled_units_are_written_off_and_never_released() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let (order, probe) = (OrderId::new(), &inventory.probe);
    let settling = |participants: &[Participant]| OrderSettling {
        order_id: order,
        order_version: 2,
        participants: participants.to_vec(),
        operator: "olga".into(),
        note: "fell off a lorry".into(),
    };
    probe.publish(&paid(order, &[("TEA", 3)])).await;
    probe.wait_for("inventory.reserved.v1", order).await;

    probe.publish(&settling(&[Participant::Payment])).await; // not for inventory
    probe.publish(&settling(&[Participant::Inventory])).await;
    probe.wait_for("inventory.settled.v1", order).await;
    assert_eq!(inventory.shelves("TEA").await, (7, 0, 0, 3));
    probe.publish(&cancelling(order)).await;
    probe.wait_for_nth("inventory.settled.v1", order, 2).await;
    assert_eq!(inventory.shelves("TEA").await, (7, 0, 0, 3));
    let settled: (String, String) = sqlx::query_as("select was, note from settlement")
        .fetch_one(&inventory.app.pool)
        .await
        .expect("recorded");
    assert_eq!(settled, ("reserved".into(), "fell off a lorry".into()));
    inventory.stop().await;
}

#[tokio::test]
async fn commit_of_an_unknown_order_is_parked() {
    let mut inventory = spawn_app().await;
    inventory.stock("TEA", 10).await;
    let good = OrderId::new();
    let stranger = OrderId::new();
    // No units were reserved for it, so it cannot have been confirmed.
    inventory.probe.publish(&confirmed(stranger)).await;
    inventory.probe.publish(&paid(good, &[("TEA", 1)])).await;
    inventory
        .probe
        .wait_for("inventory.reserved.v1", good)
        .await;
    let parked = eventually("it is parked", || async {
        let parked: Option<(String, String)> =
            sqlx::query_as("select cause, detail from parked_message")
                .fetch_optional(&inventory.app.pool)
                .await
                .expect("the database answers");
        parked.ok_or("nothing")
    })
    .await;
    assert_eq!(parked.0, "rejected");
    assert!(parked.1.contains("Commit is not possible"), "{}", parked.1);
    inventory.app.expect_trouble();
    inventory.stop().await;
}
