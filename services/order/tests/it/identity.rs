//! The roles' rights, and the secrecy of other customers' orders.

use std::time::Duration;

use chassis::identity::Role;
use contracts::value::OrderId;
use reqwest::Method;
use serde_json::json;
use testkit::{answer, token, token_with};

use crate::helpers::{spawn_app, tea};

const ISSUER: &str = "https://issuer.holdfast.example";

#[tokio::test]
async fn only_a_token_signed_for_us_and_valid_now_is_accepted() {
    let orders = spawn_app().await;
    let get = async |authorization: Option<String>| {
        let mut request = orders.app.request(Method::GET, "/orders");
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        answer(request).await
    };
    let hour = Duration::from_secs(3600);
    let good = token("alice", Role::Customer);
    get(Some(format!("Bearer {good}"))).await.expect(200);

    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none","typ":"JWT","kid":"holdfast-development"} and {"alg":"HS256",…}, with alice's claims.
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIiwia2lkIjoiaG9sZGZhc3QtZGV2ZWxvcG1lbnQifQ";
    let hs256 = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImhvbGRmYXN0LWRldmVsb3BtZW50In0";
    let mut forged = good.clone();
    forged.replace_range(good.len() - 10..good.len() - 5, "AAAAA");
    let other = token("mallory", Role::Operator);
    let others_claims = other.split('.').nth(1).expect("claims");
    for (what, authorization) in [
        ("no token", None),
        ("no bearer", Some(format!("Basic {good}"))),
        ("no JWT", Some("Bearer what?".to_owned())),
        ("alg none", Some(format!("Bearer {none}.{}.", parts[1]))),
        (
            "alg none, signed",
            Some(format!("Bearer {none}.{}.{}", parts[1], parts[2])),
        ),
        (
            "alg HS256",
            Some(format!("Bearer {hs256}.{}.{}", parts[1], parts[2])),
        ),
        ("another signature", Some(format!("Bearer {forged}"))),
        (
            "another's claims",
            Some(format!("Bearer {}.{others_claims}.{}", parts[0], parts[2])),
        ),
        ("expired", Some(format!("Bearer {}", expired()))),
        (
            "foreign audience",
            Some(format!(
                "Bearer {}",
                token_with("alice", Role::Customer, ISSUER, "another", hour)
            )),
        ),
        (
            "foreign issuer",
            Some(format!(
                "Bearer {}",
                token_with("alice", Role::Customer, "https://else", "holdfast", hour)
            )),
        ),
    ] {
        let refused = get(authorization).await;
        let challenge = if ["no token", "no bearer"].contains(&what) {
            "Bearer"
        } else {
            r#"Bearer error="invalid_token""#
        };
        assert_eq!(
            refused.header("www-authenticate"),
            Some(challenge),
            "{what}"
        );
        assert_eq!(refused.status.as_u16(), 401, "{what}: {}", refused.body);
        refused.expect_problem(401, "unauthenticated", None);
    }
    let twice = orders.app.as_customer("alice", Method::GET, "/orders");
    answer(twice.header("Authorization", format!("Bearer {good}")))
        .await
        .expect_problem(400, "bad-request", None);

    // Public paths need no token.
    for path in [
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/docs/",
    ] {
        answer(orders.app.request(Method::GET, path))
            .await
            .expect(200);
    }
    orders.stop().await;
}

/// Returns an expired token, signed with the right key. No tool makes one.
fn expired() -> String {
    // The leeway for clocks is 30 s, and the signer takes its times from the clock. So this token was made by hand on
    // 2026-11-22, and was valid for one second.
    include_str!("expired.token").trim().to_owned()
}

#[tokio::test]
async fn another_customers_order_looks_missing() {
    let orders = spawn_app().await;
    let id = orders.place("alice", &tea()).await;
    let nobodys = OrderId::new();
    for (method, path) in [
        (Method::GET, ""),
        (Method::POST, "/cancel"),
        (Method::GET, "/timeline"),
    ] {
        let ask = async |id: OrderId| {
            answer(
                orders
                    .app
                    .as_customer("bob", method.clone(), &format!("/orders/{id}{path}")),
            )
            .await
        };
        let (strangers, missing) = (ask(id).await, ask(nobodys).await);
        assert_eq!(
            (strangers.status, &strangers.body),
            (missing.status, &missing.body),
            "{path}"
        );
        strangers.expect_problem(404, "not-found", None);
    }
    assert_eq!(orders.order(id).await["state"], "pending");
    let list = async |customer: &str, query: &str| {
        answer(
            orders
                .app
                .as_customer(customer, Method::GET, &format!("/orders{query}")),
        )
        .await
    };
    assert_eq!(list("bob", "").await.expect(200)["orders"], json!([]));
    assert_eq!(
        list("alice", "?customer=alice").await.expect(200)["orders"][0]["id"],
        id.to_string()
    );
    list("bob", "?customer=alice")
        .await
        .expect_problem(403, "forbidden", None);
    orders.stop().await;
}

#[tokio::test]
async fn each_role_has_its_own_rights() {
    let orders = spawn_app().await;
    let id = orders.place("alice", &tea()).await;
    let note = json!({ "note": "why" });
    for (method, path) in [
        (Method::GET, "/operator/orders".to_owned()),
        (Method::GET, format!("/operator/orders/{id}")),
        (Method::POST, format!("/operator/orders/{id}/cancel")),
        (Method::POST, format!("/operator/orders/{id}/resume")),
        (Method::POST, format!("/operator/orders/{id}/settle")),
        (Method::GET, "/operator/parked".to_owned()),
        (Method::GET, format!("/operator/parked/{id}")),
        (Method::POST, format!("/operator/parked/{id}/requeue")),
        (Method::POST, format!("/operator/parked/{id}/drop")),
        (Method::GET, "/operator/outbox".to_owned()),
        (Method::POST, format!("/operator/outbox/{id}/release")),
    ] {
        let as_customer = orders
            .app
            .as_customer("alice", method.clone(), &path)
            .json(&note);
        answer(as_customer)
            .await
            .expect_problem(403, "forbidden", None);
        let as_service = orders.app.as_service(method.clone(), &path).json(&note);
        answer(as_service)
            .await
            .expect_problem(403, "forbidden", None);
        answer(orders.app.request(method, &path).json(&note))
            .await
            .expect_problem(401, "unauthenticated", None);
    }
    // An operator sees every order, and places none.
    assert_eq!(orders.order(id).await["customer"], "alice");
    let as_operator = orders
        .app
        .as_operator(Method::POST, "/orders")
        .header("Idempotency-Key", "k")
        .json(&tea());
    answer(as_operator)
        .await
        .expect_problem(403, "forbidden", None);
    assert_eq!(orders.order(id).await["state"], "pending");
    orders.stop().await;
}
