//! Whole orders, each to its end, through the real processes.

use load_tests::{
    api::ApiError,
    traffic::{Coordination, Ending, Ways, once},
};

use crate::system::System;

#[tokio::test]
async fn every_ending_is_reached() {
    let system = System::start().await;
    // The run of `cargo xtask up --once`.
    let shown = once(&system.api, Ways::Both).await;
    assert!(shown.expect("every order comes to rest"));
    let placed = system.place_all_both().await;
    system.ended_as_expected(&placed).await;
    for (ending, id) in &placed {
        let kinds = system.probe.kinds(*id);
        let charged = kinds.iter().any(|kind| kind == "payment.completed.v1");
        let refunded = kinds.iter().any(|kind| kind == "payment.refunded.v1");
        let expected = match ending {
            Ending::ConfirmedWallet | Ending::ConfirmedCard => (true, false),
            Ending::DeclinedCard | Ending::DeclinedWallet => (false, false),
            Ending::OutOfStock | Ending::CancelledAfter => (true, true),
            // The charge succeeded after the cancel, so `payment.completed` was never published.
            Ending::CancelledBefore => (false, refunded),
        };
        assert_eq!((charged, refunded), expected, "{ending:?}: {kinds:?}");
    }
    system.end().await;
}

/// `once` sends a request again that was answered 503 while a database was unavailable.
#[tokio::test]
async fn rejected_requests_are_sent_again_after_an_outage() {
    let system = System::start().await;
    let line = &system.database_lines["order"];
    line.cut();
    let mend = async {
        let refused = system
            .api
            .place(
                "alice",
                "while-it-is-away",
                &Ending::ConfirmedWallet.order(Coordination::Choreography),
            )
            .await;
        assert!(matches!(refused, Err(ApiError::Later(_))), "{refused:?}");
        line.restore();
    };
    let (shown, ()) = tokio::join!(once(&system.api, Ways::Both), mend);
    assert!(shown.expect("every order comes to rest"));
    system.end().await;
}

/// A hundred customers order the only unit at once.
#[tokio::test]
async fn one_of_a_hundred_orders_gets_the_last_unit() {
    let system = System::start().await;
    system
        .api
        .stock("LAST-ONE", "The last one", 1, "EUR", 1)
        .await
        .expect("it is in stock");
    for n in 0..100 {
        system
            .api
            .fund(&format!("racer-{n}"), 1, "EUR")
            .await
            .expect("a cent each");
    }
    let order = serde_json::json!({
        "lines": [{ "sku": "LAST-ONE", "quantity": 1 }],
        "payment": { "method": "wallet" },
    });
    let ids = futures_util::future::join_all((0..100).map(|n| {
        let (system, order) = (&system, &order);
        async move { system.place_this(&format!("racer-{n}"), order).await }
    }))
    .await;
    let mut confirmed = 0;
    for id in ids {
        let order = system.wait_for(id, |order| order["at_rest"] == true).await;
        match order["state"].as_str() {
            Some("confirmed") => confirmed += 1,
            _ => assert_eq!(order["reason"], "out_of_stock"),
        }
    }
    assert_eq!(confirmed, 1);
    system.end().await;
}
