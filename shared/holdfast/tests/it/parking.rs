//! Messages that could not be handled wait for an operator.

use holdfast::{messaging::parking, outbox, transaction};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Probe, Vhost, eventually};
use uuid::Uuid;

use crate::helpers::{
    Effects, KIND, Running, consume, database, effects, raw, wait_for_effects, wait_for_empty,
};

/// Returns a service with one parked message, which lacks its label.
async fn one_parked() -> (PgPool, Vhost, Probe, Running, parking::Parked) {
    let ((_, pool), vhost) = tokio::join!(database("parking"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    let order = Uuid::now_v7();
    probe
        .send(raw(
            KIND,
            &json!({ "order_id": order, "amount_minor": 5, "do": "work" }),
        ))
        .await;
    let parked = eventually("it is parked", || async {
        let mut parked = parking::list(&pool, "parked", None, 10)
            .await
            .expect("the table is there");
        parked.pop().ok_or("nothing")
    })
    .await;
    assert_eq!(parked.subject, Some(order.to_string()));
    (pool, vhost, probe, running, parked)
}

/// Publishes the service's outbox, as its relay would.
async fn relay(pool: &PgPool, vhost: &Vhost) {
    use holdfast::{messaging::Publisher, outbox::Relay};
    let shutdown = tokio_util::sync::CancellationToken::new();
    let publisher = Publisher::new(vhost.url("payment"), "relay");
    let relay = Relay::new(
        pool.clone(),
        publisher,
        outbox::Waker::default(),
        outbox::Config::default(),
    );
    shutdown.cancel();
    relay.run(shutdown).await;
}

#[tokio::test]
async fn edited_and_requeued_message_takes_effect_once() {
    let (pool, vhost, _probe, running, parked) = one_parked().await;
    let mut tx = transaction::begin(&pool).await.expect("a transaction");
    let order = parked.subject.clone().expect("known");
    let mend = |amount: i64, label: &str| {
        json!({ "order_id": order, "amount_minor": amount, "label": label, "do": "work" })
            .to_string()
            .into_bytes()
    };

    // Without an edit the message would be parked again at once.
    let refusal = parking::requeue(&mut tx, &running.decoders, parked.id, "olga", "try")
        .await
        .expect_err("refused");
    assert!(
        refusal.to_string().contains("label or do is missing"),
        "{refusal}"
    );
    // An edit may not change amounts.
    let refusal = parking::edit(
        &mut tx,
        &running.decoders,
        parked.id,
        "olga",
        "n",
        KIND,
        &mend(6, "x"),
    )
    .await
    .expect_err("refused");
    assert!(
        refusal.to_string().contains("/amount_minor must stay 5"),
        "{refusal}"
    );

    parking::edit(
        &mut tx,
        &running.decoders,
        parked.id,
        "olga",
        "label added",
        KIND,
        &mend(5, "mended"),
    )
    .await
    .expect("edited");
    let new = parking::requeue(&mut tx, &running.decoders, parked.id, "olga", "mended")
        .await
        .expect("requeued");
    assert_ne!(new, parked.message_id, "a new send has a new id");
    tx.commit().await.expect("a commit");
    relay(&pool, &vhost).await;
    wait_for_effects(&pool, &["mended"]).await;

    let after = parking::get(&pool, parked.id).await.expect("it is kept");
    assert_eq!(
        (after.state.as_str(), after.requeued_as),
        ("requeued", Some(new))
    );
    let actions = parking::actions(&pool, parked.id).await.expect("kept");
    let told: Vec<_> = actions
        .iter()
        .map(|d| (d.action.as_str(), d.operator.as_str(), d.note.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("edited", "olga", "label added"),
            ("requeued", "olga", "mended")
        ]
    );
    assert_eq!(
        actions[0].before.as_deref(),
        Some(parked.payload.as_slice())
    );

    // Requeued and dropped are final states.
    let mut conn = pool.acquire().await.expect("a connection");
    for refusal in [
        parking::requeue(&mut conn, &running.decoders, parked.id, "olga", "again")
            .await
            .map(|_| ()),
        parking::discard(&mut conn, parked.id, "olga", "again").await,
        parking::edit(
            &mut conn,
            &running.decoders,
            parked.id,
            "olga",
            "again",
            KIND,
            &mend(5, "x"),
        )
        .await,
    ] {
        assert!(matches!(refusal, Err(parking::Error::NotParked(state)) if state == "requeued"));
    }
    assert_eq!(effects(&pool).await, ["mended"]);
    running.stop().await;
    vhost.delete().await;
}

#[tokio::test]
async fn dropped_message_stays_listed_as_dropped() {
    let (pool, vhost, _probe, running, parked) = one_parked().await;
    let mut conn = pool.acquire().await.expect("a connection");
    parking::discard(&mut conn, parked.id, "olga", "a test")
        .await
        .expect("dropped");
    assert_eq!(parking::open(&pool).await.expect("counted"), 0);
    let dropped = parking::list(&pool, "dropped", None, 10)
        .await
        .expect("listed");
    assert_eq!(dropped.len(), 1);
    assert!(
        parking::list(&pool, "dropped", Some(parked.id), 10)
            .await
            .expect("listed")
            .is_empty(),
        "after the last"
    );
    let missing = parking::discard(&mut conn, Uuid::now_v7(), "olga", "n").await;
    assert!(matches!(missing, Err(parking::Error::NotFound(_))));
    running.stop().await;
    vhost.delete().await;
}

/// A constraint of the table refuses one message. Until it is dropped, the message waits in its dead-letter queue.
#[tokio::test]
async fn message_that_cannot_be_stored_stops_no_other() {
    let ((_, pool), vhost) = tokio::join!(database("refused"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let malformed = || {
        let order = Uuid::now_v7();
        let data = json!({ "order_id": order, "amount_minor": 5, "do": "work" });
        (order.to_string(), raw(KIND, &data))
    };
    let [refused, first, second] = [malformed(), malformed(), malformed()];
    let constraint = format!(
        "alter table parked_message add constraint not_this_one check (subject <> '{}')",
        refused.0
    );
    sqlx::query(AssertSqlSafe(constraint))
        .execute(&pool)
        .await
        .expect("a constraint");
    let subjects = async |wanted: &[&String]| {
        eventually(&format!("{wanted:?} are parked"), || async {
            let parked = parking::list(&pool, "parked", None, 10)
                .await
                .expect("the table is there");
            let rows = parked.iter();
            let subjects: Vec<&String> = rows.filter_map(|row| row.subject.as_ref()).collect();
            if subjects == wanted {
                Ok(())
            } else {
                Err(format!("{subjects:?}"))
            }
        })
        .await;
    };

    let running = consume(&vhost.url("payment"), &pool, Effects::new()).await;
    probe.send(refused.1.clone()).await;
    probe.send(first.1).await;
    subjects(&[&first.0]).await;
    // The refused message has been tried by now, and goes round the queue.
    probe.send(second.1).await;
    subjects(&[&first.0, &second.0]).await;

    sqlx::query("alter table parked_message drop constraint not_this_one")
        .execute(&pool)
        .await
        .expect("no constraint");
    subjects(&[&first.0, &second.0, &refused.0]).await;
    let parked = parking::list(&pool, "parked", None, 10)
        .await
        .expect("listed");
    assert_eq!(
        (parked[2].message_id, parked[2].cause.as_str()),
        (refused.1.id, "malformed")
    );
    wait_for_empty(&vhost).await;
    running.stop().await;
    vhost.delete().await;
}
