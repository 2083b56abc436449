//! The operators' view and actions.

use contracts::value::OrderId;
use reqwest::Method;
use serde_json::json;
use testkit::answer;

use crate::helpers::spawn_app;

#[tokio::test]
async fn sagas_are_for_operators_only() {
    let it = spawn_app(100).await;
    let order = OrderId::new();
    for path in [
        "/operator/sagas".to_owned(),
        format!("/operator/sagas/{order}"),
    ] {
        answer(it.app.request(Method::GET, &path)).await.expect(401);
        answer(it.app.as_customer("alice", Method::GET, &path))
            .await
            .expect(403);
    }
    answer(
        it.app
            .as_operator(Method::GET, &format!("/operator/sagas/{order}")),
    )
    .await
    .expect(404);
    answer(
        it.app
            .as_operator(Method::GET, &format!("/operator/orders/{order}/sagas")),
    )
    .await
    .expect(404);
    it.stop().await;
}

#[tokio::test]
async fn bad_query_is_refused_with_its_field() {
    let it = spawn_app(100).await;
    for (query, field) in [
        ("limit=0", "query limit"),
        ("limit=201", "query limit"),
        ("phase=lost", "query phase"),
    ] {
        let asked = it
            .app
            .as_operator(Method::GET, &format!("/operator/sagas?{query}"));
        answer(asked)
            .await
            .expect_problem(422, "invalid-field", Some(field));
    }
    it.stop().await;
}

#[tokio::test]
async fn cursor_that_is_not_a_saga_is_refused() {
    let it = spawn_app(100).await;
    let order = OrderId::new();
    it.begin(order).await;
    it.asked("charge_payment", order, 1).await;
    let list = async |before: &str| {
        let path = format!("/operator/sagas?before={before}");
        answer(it.app.as_operator(Method::GET, &path)).await
    };
    for cursor in ["1", &OrderId::new().to_string()] {
        list(cursor)
            .await
            .expect_problem(422, "invalid-field", Some("query before"));
    }
    // The last saga is a valid cursor, with nothing after it.
    let saga = it.saga(order).await;
    let page = list(saga["id"].as_str().expect("an id")).await;
    assert_eq!(page.expect(200)["sagas"], json!([]));
    it.stop().await;
}

#[tokio::test]
async fn operator_action_on_a_running_saga_is_a_conflict() {
    let it = spawn_app(100).await;
    let order = OrderId::new();
    it.begin(order).await;
    it.asked("charge_payment", order, 1).await;
    let saga = it.saga(order).await;
    let id = saga["id"].as_str().expect("an id").to_owned();
    for action in ["resume", "skip", "abandon"] {
        let path = format!("/operator/sagas/{id}/{action}");
        let action = it
            .app
            .as_operator(Method::POST, &path)
            .json(&json!({ "note": "hurry" }));
        answer(action).await.expect(409);
        let nameless = it.app.as_operator(Method::POST, &path).json(&json!({}));
        answer(nameless).await.expect(422);
    }
    assert_eq!(it.saga(order).await["deeds"], json!([]));
    it.stop().await;
}

#[tokio::test]
async fn stuck_saga_is_listed_and_the_operators_action_is_kept() {
    let it = spawn_app(1).await;
    let order = OrderId::new();
    it.begin(order).await;
    it.asked("charge_payment", order, 1).await;
    // Neither the charge nor its refund gets a reply.
    it.asked("refund_payment", order, 1).await;
    let saga = it.comes_to(order, "stuck").await;
    assert_eq!(
        (&saga["step"], &saga["direction"]),
        (&json!("charge_payment"), &json!("undo"))
    );
    assert_eq!(saga["error"], "no answer to 10 attempts");
    let remaining: Vec<&str> = saga["remaining"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|left| left["step"].as_str())
        .collect();
    assert_eq!(
        remaining,
        ["charge_payment", "create_order", "tell_customer"]
    );
    let listed = answer(
        it.app
            .as_operator(Method::GET, "/operator/sagas?phase=stuck,broken"),
    )
    .await
    .expect(200);
    assert_eq!(listed["sagas"][0]["id"], saga["id"]);
    let of_order = answer(
        it.app
            .as_operator(Method::GET, &format!("/operator/orders/{order}/sagas")),
    )
    .await
    .expect(200);
    assert_eq!(of_order["sagas"][0]["order_id"], order.to_string());

    let path = format!(
        "/operator/sagas/{}/skip",
        saga["id"].as_str().expect("an id")
    );
    let action = it
        .app
        .as_operator(Method::POST, &path)
        .json(&json!({ "note": "paid back by hand" }));
    let after = answer(action).await.expect(202);
    assert_eq!(
        (&after["direction"], &after["deeds"][0]["note"]),
        (&json!("settle"), &json!("paid back by hand"))
    );
    let settle = it.asked("settle_payment", order, 1).await;
    assert_eq!(settle.data["note"], "paid back by hand");
    it.stop().await;
}
