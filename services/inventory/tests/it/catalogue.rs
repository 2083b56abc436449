//! Products, prices and deliveries.

use reqwest::Method;
use serde_json::json;
use testkit::answer;

use crate::helpers::spawn_app;

#[tokio::test]
async fn the_catalogue_has_pages() {
    let inventory = spawn_app().await;
    for sku in ["C", "A", "E", "B", "D"] {
        inventory.stock(sku, 7).await;
    }
    let app = &inventory.app;
    let page = async |query: &str| {
        answer(app.as_customer("alice", Method::GET, &format!("/products{query}"))).await
    };
    let skus = |page: &serde_json::Value| -> Vec<String> {
        let products = page["products"].as_array().expect("a list").iter();
        products
            .map(|product| product["sku"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let first = page("?limit=2").await.expect(200);
    assert_eq!(
        (skus(&first), &first["next"]),
        (vec!["A".into(), "B".into()], &json!("B"))
    );
    assert_eq!(first["products"][0]["available"], 7);
    let second = page("?limit=2&after=B").await.expect(200);
    assert_eq!(
        (skus(&second), &second["next"]),
        (vec!["C".into(), "D".into()], &json!("D"))
    );
    let last = page("?limit=2&after=D").await.expect(200);
    assert_eq!(
        (skus(&last), &last["next"]),
        (vec!["E".into()], &json!(null))
    );

    page("?limit=0")
        .await
        .expect_problem(422, "invalid-field", Some("query limit"));
    page("?limit=201")
        .await
        .expect_problem(422, "invalid-field", Some("query limit"));
    page("?colour=blue")
        .await
        .expect_problem(422, "invalid-field", Some("query colour"));
    assert_eq!(
        answer(app.as_customer("alice", Method::GET, "/products/C"))
            .await
            .expect(200)["name"],
        "The C"
    );
    for path in ["/products/NOPE", "/products/a%27%20or%201=1"] {
        answer(app.as_customer("alice", Method::GET, path))
            .await
            .expect_problem(404, "not-found", None);
    }
    inventory.stop().await;
}

#[tokio::test]
async fn prices_are_for_services_and_omit_unknown_products() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 1).await;
    let app = &inventory.app;
    let ask = json!({ "skus": ["TEA", "NOPE"] });
    let prices = answer(app.as_service(Method::POST, "/prices").json(&ask))
        .await
        .expect(200);
    let price = json!([{ "sku": "TEA", "unit_price": { "amount_minor": 100, "currency": "EUR" } }]);
    assert_eq!(prices["prices"], price);
    answer(app.as_customer("alice", Method::POST, "/prices").json(&ask))
        .await
        .expect_problem(403, "forbidden", None);
    let none = app
        .as_service(Method::POST, "/prices")
        .json(&json!({ "skus": [] }));
    answer(none)
        .await
        .expect_problem(422, "invalid-field", Some("skus"));
    inventory.stop().await;
}

#[tokio::test]
async fn a_delivery_counts_once() {
    let inventory = spawn_app().await;
    inventory.stock("TEA", 5).await;
    let app = &inventory.app;
    let deliver = async |sku: &str, name: &str, quantity: i64| {
        let delivery = json!({ "delivery": name, "quantity": quantity });
        let path = format!("/operator/products/{sku}/deliveries");
        answer(app.as_operator(Method::POST, &path).json(&delivery)).await
    };
    assert_eq!(deliver("TEA", "ship 1", 10).await.expect(200)["new"], true);
    assert_eq!(deliver("TEA", "ship 1", 10).await.expect(200)["new"], false);
    assert_eq!(inventory.shelves("TEA").await, (15, 0, 0, 0));
    deliver("TEA", "ship 1", 11)
        .await
        .expect_problem(409, "conflict", None);
    deliver("NOPE", "ship 2", 1)
        .await
        .expect_problem(404, "not-found", None);
    for quantity in [0, -1, 1_000_000_001] {
        deliver("TEA", "ship 3", quantity).await.expect_problem(
            422,
            "invalid-field",
            Some("quantity"),
        );
    }
    deliver("TEA", "line\nbreak", 1)
        .await
        .expect_problem(422, "invalid-field", Some("delivery"));
    assert_eq!(inventory.shelves("TEA").await, (15, 0, 0, 0));

    for (product, field) in [
        (
            json!({ "name": "x", "price_minor": 0, "currency": "EUR" }),
            "price_minor",
        ),
        (
            json!({ "name": "x", "price_minor": 1, "currency": "euro" }),
            "currency",
        ),
        (
            json!({ "name": "", "price_minor": 1, "currency": "EUR" }),
            "name",
        ),
        (
            json!({ "name": "x", "price_minor": 1, "currency": "EUR", "color": 1 }),
            "color",
        ),
    ] {
        let put = app
            .as_operator(Method::PUT, "/operator/products/NEW")
            .json(&product);
        answer(put)
            .await
            .expect_problem(422, "invalid-field", Some(field));
    }
    inventory.stop().await;
}
