//! Outages of servers: accepted orders come to rest, no message is parked, no order is cancelled because of one. The
//! versions that take minutes are `cargo xtask verify`.

use contracts::value::OrderId;
use load_tests::traffic::Ending;
use serde_json::json;
use testkit::{SmtpMode, answer, eventually};

use crate::system::System;

/// Every ending that can be ordered while no messages flow.
const WITHOUT_MESSAGES: [Ending; 6] = [
    Ending::ConfirmedWallet,
    Ending::ConfirmedCard,
    Ending::DeclinedCard,
    Ending::DeclinedWallet,
    Ending::OutOfStock,
    Ending::CancelledBefore,
];

async fn nothing_is_parked(system: &System) {
    for service in ["order", "payment", "inventory", "notification"] {
        let parked = system.parked(service).await;
        assert!(parked.is_empty(), "{service}: {parked:?}");
    }
}

async fn says_that_it_lacks_something(system: &System, service: &'static str) {
    eventually(&format!("{service} says that it is not ready"), || async {
        let request = system.as_operator(service, reqwest::Method::GET, "/health/ready");
        let ready = answer(request).await;
        if ready.status == 503 {
            Ok(())
        } else {
            Err(ready.body)
        }
    })
    .await;
}

/// Waits until payment has called the card processor for an order twice.
async fn was_asked_in_vain(system: &System, id: OrderId) {
    eventually("the card processor was called twice", || async {
        let attempts: Option<i32> =
            sqlx::query_scalar("select attempts from payment where order_id = $1")
                .bind(id.0)
                .fetch_optional(&system.databases["payment"].pool())
                .await
                .expect("the database answers");
        match attempts {
            Some(attempts) if attempts >= 2 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn orders_wait_for_an_unavailable_broker() {
    let system = System::start_with(&[("ORDER_DEADLINE_SECONDS", "15")]).await;
    system.broker.cut();
    for service in ["order", "payment", "inventory", "notification"] {
        says_that_it_lacks_something(&system, service).await;
    }
    let mut placed = Vec::new();
    for ending in WITHOUT_MESSAGES {
        placed.push((ending, system.place(ending).await));
    }
    // Longer than the deadline, which is longer than a service takes to reconnect: no service can have answered.
    let first = placed[0].1;
    let age = || async {
        let order = system.api.order(first).await.expect("it answers");
        assert_eq!(order["state"], "pending", "{order}");
        let age: f64 = sqlx::query_scalar(
            "select extract(epoch from now() - created_at)::float8 from orders where id = $1",
        )
        .bind(first.0)
        .fetch_one(&system.databases["order"].pool())
        .await
        .expect("the database answers");
        if age > 17.0 { Ok(()) } else { Err(age) }
    };
    eventually("the deadline would have passed", age).await;
    system.broker.restore();
    system.ended_as_expected(&placed).await;
    nothing_is_parked(&system).await;
    system.end().await;
}

#[tokio::test]
async fn orders_wait_for_each_unavailable_database() {
    let system = System::start().await;
    let order = json!({
        "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }],
        "payment": { "method": "wallet" },
    });
    // From now on the order service knows the price.
    system.place_this("alice", &order).await;
    for service in [
        "order",
        "payment",
        "inventory",
        "notification",
        "card-processor",
    ] {
        let line = &system.database_lines[service];
        line.cut();
        says_that_it_lacks_something(&system, service).await;
        if service == "inventory" {
            // The order gets the price that inventory last returned, and shows the price's time.
            let placed = system.api.place("alice", "without-inventory", &order).await;
            let placed = placed.expect("the price is known");
            assert!(placed["prices_as_of"].is_string(), "{placed}");
            let id = placed["id"].as_str().expect("an id");
            system.accept(id.parse().expect("a UUID"));
        }
        if service == "order" {
            // The order cannot be stored. The response has the time after which to retry.
            let refused = system.api.place("alice", "while-it-is-away", &order).await;
            assert!(
                matches!(refused, Err(load_tests::api::ApiError::Later(after)) if !after.is_zero()),
                "{service}: {refused:?}"
            );
        }
        let both = async { tokio::join!(system.place_all(), system.place_all()) };
        let mend = async {
            // The outage shows where it matters: in a response, or as a paused consumer.
            if matches!(service, "payment" | "notification") {
                let paused = format!(
                    "consumer_paused{{service=\"{service}\",queue=\"{service}.choreography\"}} 1"
                );
                eventually("its consumer pauses", || async {
                    // While payment is paused no order is confirmed, so notification has nothing to do.
                    let metrics = system.metrics(service).await;
                    if metrics.contains(&paused) {
                        Ok(())
                    } else {
                        Err(metrics)
                    }
                })
                .await;
            }
            line.restore();
        };
        let ((first, second), ()) = tokio::join!(both, mend);
        system.ready(service).await;
        system.ended_as_expected(&first).await;
        system.ended_as_expected(&second).await;
        nothing_is_parked(&system).await;
    }
    system.end().await;
}

#[tokio::test]
async fn mails_wait_for_an_unavailable_mail_server() {
    let system = System::start().await;
    for mode in [SmtpMode::Defer, SmtpMode::TakeAndHangUp] {
        system.smtp.set(mode);
        let placed = system.place_all().await;
        // No order waits for a mail.
        system.ended_as_expected(&placed).await;
        let outcome = match mode {
            SmtpMode::Defer => "deferred",
            _ => "unknown",
        };
        eventually("a mail could not be sent", || async {
            let metrics = system.metrics("notification").await;
            if metrics.contains(&format!("outcome=\"{outcome}\"")) {
                Ok(())
            } else {
                Err(metrics)
            }
        })
        .await;
        system.smtp.set(SmtpMode::Accept);
        for (_, id) in &placed {
            eventually("its mails are sent", || async {
                let mails = system.api.mails(*id).await.map_err(|e| e.to_string())?;
                if !mails.is_empty() && mails.iter().all(|mail| mail["state"] == "sent") {
                    Ok(())
                } else {
                    Err(format!("{mails:?}"))
                }
            })
            .await;
        }
    }
    system.end().await;
}

#[tokio::test]
async fn card_orders_wait_for_an_unavailable_card_processor() {
    let system = System::start().await;
    for pause in [false, true] {
        if pause {
            system.card.pause();
        } else {
            system.card.cut();
        }
        let mut placed = Vec::new();
        for ending in WITHOUT_MESSAGES {
            placed.push((ending, system.place(ending).await));
        }
        let by_card: Vec<_> = placed
            .iter()
            .filter(|(ending, _)| {
                matches!(
                    ending,
                    Ending::ConfirmedCard | Ending::DeclinedCard | Ending::CancelledBefore
                )
            })
            .collect();
        for (_, id) in &by_card {
            was_asked_in_vain(&system, *id).await;
            // A missing answer decides nothing: the order is neither paid nor declined.
            let order = system.api.order(*id).await.expect("it answers");
            assert!(
                ["pending", "cancelling"].contains(&order["state"].as_str().unwrap_or_default()),
                "{order}"
            );
        }
        system.card.restore();
        system.ended_as_expected(&placed).await;
        nothing_is_parked(&system).await;
    }
    system.end().await;
}

#[tokio::test]
async fn a_dead_proxy_affects_only_card_processor_calls() {
    /// No server listens there.
    const DEAD: &str = "http://127.0.0.1:9";
    let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, DEAD));
    let system = System::start_with(&proxies).await;
    // The order service must request prices that it does not know from inventory. Through the proxy that would fail
    // with 503.
    let order = json!({
        "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }],
        "payment": { "method": "wallet" },
    });
    let placed = system.api.place("alice", "by-a-dead-proxy", &order).await;
    let placed = placed.expect("inventory is called directly");
    assert!(placed["prices_as_of"].is_null(), "{placed}");
    system.accept(
        placed["id"]
            .as_str()
            .expect("an id")
            .parse()
            .expect("a UUID"),
    );
    let wallet = (
        Ending::ConfirmedWallet,
        system.place(Ending::ConfirmedWallet).await,
    );
    system.ended_as_expected(&[wallet]).await;

    // The card processor is outside, so it is called through the proxy, and the order waits for that.
    let card = (
        Ending::ConfirmedCard,
        system.place(Ending::ConfirmedCard).await,
    );
    was_asked_in_vain(&system, card.1).await;
    let order = system.api.order(card.1).await.expect("it answers");
    assert_eq!(order["state"], "pending", "{order}");

    system.stop("payment").await;
    system.revive("payment", &[("NO_PROXY", "127.0.0.1")]);
    system.ended_as_expected(&[card]).await;
    nothing_is_parked(&system).await;
    system.end().await;
}
