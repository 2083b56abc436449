//! Orders while inventory is unavailable: the prices that it last returned are used for a while, and the order shows
//! their time.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{answer, eventually};

use crate::helpers::{Orders, spawn_app_with, tea};

impl Orders {
    async fn dependency(&self) -> Value {
        let all = self.app.as_operator(Method::GET, "/operator/dependencies");
        answer(all).await.expect(200)[0].clone()
    }

    async fn switch(&self, switches: Value) -> Value {
        let path = "/operator/dependencies/inventory";
        let request = self.app.as_operator(Method::POST, path).json(&switches);
        answer(request).await.expect(200)
    }
}

#[tokio::test]
async fn order_gets_the_last_known_prices_with_their_time() {
    let orders = spawn_app_with(&["--price-timeout-ms=10000"]).await;
    let fresh = orders.try_place("alice", &tea()).await.expect(202);
    assert_eq!(fresh["prices_as_of"], Value::Null);

    orders.prices.cut();
    let degraded = orders.try_place("alice", &tea()).await.expect(202);
    assert!(degraded["prices_as_of"].is_string(), "{degraded}");
    assert_eq!(degraded["amount"], fresh["amount"]);
    // The time is stored, and not only in the first response.
    let id = degraded["id"].as_str().expect("an id");
    let id = id.parse().expect("a UUID");
    assert_eq!(
        orders.order(id).await["prices_as_of"],
        degraded["prices_as_of"]
    );

    // Nothing is known of a product whose price was never requested, not even that it does not exist.
    let unknown =
        json!({ "lines": [{ "sku": "CUP", "quantity": 1 }], "payment": { "method": "wallet" } });
    orders
        .try_place("alice", &unknown)
        .await
        .expect_problem(503, "unavailable", None);

    // Another service has inventory's address meanwhile, and refuses the request as not its own. The order is accepted
    // all the same.
    orders.prices.restore();
    orders.prices.lead_to(orders.app.address());
    let degraded = orders.try_place("alice", &tea()).await.expect(202);
    assert!(degraded["prices_as_of"].is_string(), "{degraded}");

    orders.prices.lead_to(orders.inventory.address());
    eventually("it is asked again", || async {
        let placed = orders.try_place("alice", &tea()).await.expect(202);
        if placed["prices_as_of"].is_null() {
            Ok(())
        } else {
            Err(placed)
        }
    })
    .await;
    orders.stop().await;
}

#[tokio::test]
async fn prices_too_old_or_switched_off_are_not_used() {
    let orders = spawn_app_with(&["--price-timeout-ms=10000", "--price-max-age-seconds=0"]).await;
    orders.place("alice", &tea()).await;
    orders.prices.cut();
    orders
        .try_place("alice", &tea())
        .await
        .expect_problem(503, "unavailable", None);
    orders.stop().await;

    let orders = spawn_app_with(&["--price-timeout-ms=10000"]).await;
    orders.place("alice", &tea()).await;
    orders.prices.cut();
    orders.switch(json!({ "fallback": "off" })).await;
    orders
        .try_place("alice", &tea())
        .await
        .expect_problem(503, "unavailable", None);
    orders.switch(json!({ "fallback": "on" })).await;
    orders.try_place("alice", &tea()).await.expect(202);
    orders.stop().await;
}

#[tokio::test]
async fn breaker_opens_and_closes_and_an_operator_switches_it() {
    let orders = spawn_app_with(&["--price-timeout-ms=10000", "--price-breaker-open-ms=200"]).await;
    orders.place("alice", &tea()).await;
    assert_eq!(orders.dependency().await["breaker"]["state"], "closed");
    orders.prices.cut();
    eventually("it opens", || async {
        orders.try_place("alice", &tea()).await.expect(202);
        let breaker = orders.dependency().await["breaker"].clone();
        if breaker["rejected"].as_u64() > Some(0) {
            Ok(())
        } else {
            Err(breaker)
        }
    })
    .await;
    orders.prices.restore();
    eventually("it closes", || async {
        orders.try_place("alice", &tea()).await.expect(202);
        let breaker = orders.dependency().await["breaker"].clone();
        if breaker["state"] == "closed" {
            Ok(())
        } else {
            Err(breaker)
        }
    })
    .await;

    let forced = orders.switch(json!({ "breaker": "force_open" })).await;
    assert_eq!(forced["breaker"]["state"], "forced_open");
    let placed = orders.try_place("alice", &tea()).await.expect(202);
    assert!(placed["prices_as_of"].is_string());
    let automatic = orders.switch(json!({ "breaker": "automatic" })).await;
    assert_eq!(automatic["breaker"]["state"], "closed");
    let placed = orders.try_place("alice", &tea()).await.expect(202);
    assert!(placed["prices_as_of"].is_null());
    orders.stop().await;
}

#[tokio::test]
async fn only_an_operator_switches_a_known_dependency() {
    let orders = spawn_app_with(&[]).await;
    let path = "/operator/dependencies/inventory";
    let body = json!({ "breaker": "force_open" });
    let stranger = orders.app.as_customer("alice", Method::POST, path);
    answer(stranger.json(&body))
        .await
        .expect_problem(403, "forbidden", None);
    let unknown = orders
        .app
        .as_operator(Method::POST, "/operator/dependencies/moon");
    answer(unknown.json(&body))
        .await
        .expect_problem(404, "not-found", None);
    // A switch for drills is refused, and then nothing is switched.
    let drill = json!({ "breaker": "force_open", "cut_off": "on" });
    let refused = orders.app.as_operator(Method::POST, path).json(&drill);
    answer(refused)
        .await
        .expect_problem(422, "invalid-field", Some("cut_off"));
    assert_eq!(orders.dependency().await["breaker"]["state"], "closed");
    orders.stop().await;
}
