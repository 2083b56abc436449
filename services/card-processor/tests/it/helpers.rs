//! A card processor of its own for each test.

use card_processor::{App, Config};
use clap::Parser;
use contracts::value::OrderId;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Database, TestApp, answer, arguments};

pub(crate) struct Processor(pub(crate) TestApp);

pub(crate) async fn spawn_app() -> Processor {
    let database = Database::create("card_processor").await;
    start(database).await
}

pub(crate) async fn start(database: Database) -> Processor {
    let config = Config::parse_from(arguments("card-processor", database.url()));
    let app = App::build(config).expect("it is put together");
    let address = app.address().expect("it is bound");
    let processor =
        Processor(TestApp::start(address, database, |shutdown| app.run(shutdown)).await);
    processor.turn(json!({})).await.expect(204);
    processor
}

impl Processor {
    /// Turns some knobs; the others make no faults.
    pub(crate) async fn turn(&self, knobs: Value) -> Answer {
        let mut all = json!({
            "latency_min_ms": 0, "latency_max_ms": 0, "fail_before": 0.0, "fail_after": 0.0, "decline": 0.0
        });
        for (name, value) in knobs.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        answer(self.0.as_operator(Method::PUT, "/knobs").json(&all)).await
    }

    pub(crate) async fn charge(
        &self,
        key: &str,
        reference: OrderId,
        token: &str,
        amount: i64,
    ) -> Answer {
        let body = json!({
            "reference": reference, "token": token, "amount": { "amount_minor": amount, "currency": "EUR" }
        });
        answer(
            self.0
                .as_service(Method::POST, "/charges")
                .header("Idempotency-Key", key)
                .json(&body),
        )
        .await
    }

    pub(crate) async fn refund(&self, key: &str, charge: &str) -> Answer {
        let path = format!("/charges/{charge}/refund");
        answer(
            self.0
                .as_service(Method::POST, &path)
                .header("Idempotency-Key", key),
        )
        .await
    }

    /// Returns the kind and the amount of each ledger entry about `reference`.
    pub(crate) async fn ledger(&self, reference: OrderId) -> Vec<(String, i64)> {
        let entries = answer(self.0.as_operator(Method::GET, "/ledger?limit=1000"))
            .await
            .expect(200);
        let entries = entries.as_array().expect("a list").iter();
        entries
            .filter(|entry| entry["reference"] == reference.to_string())
            .map(|entry| {
                let kind = entry["kind"].as_str().unwrap_or_default().to_owned();
                (kind, entry["amount_minor"].as_i64().unwrap_or_default())
            })
            .collect()
    }
}
