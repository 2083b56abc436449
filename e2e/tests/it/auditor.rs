//! The auditor's role. `reconcile` and the control room's look at the books work with it, as every test here checks by
//! comparing the books; and it reads no secret.

use std::borrow::Cow;

use contracts::value::OrderId;
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use testkit::answer;

use crate::system::System;

/// Secrets that are in the tables, and must be in no result that the auditor reads.
const SECRETS: [&str; 3] = ["tok_visa", "@example.test", "hooks.example"];

async fn names(pool: &PgPool, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query)
        .fetch_all(pool)
        .await
        .expect("the catalogue can be read")
}

#[tokio::test]
async fn auditor_reads_views_and_no_table_and_no_secret() {
    let system = System::start_with(&[("WEBHOOK_ALLOW_PRIVATE", "true")]).await;
    // The card token and the customer's address pass through all services in both ways of coordination.
    for way in ["choreography", "orchestration"] {
        let order = json!({
            "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }],
            "payment": { "method": "card", "token": "tok_visa" },
            "coordination": way,
        });
        let order: OrderId = system.place_this("alice", &order).await;
        system
            .wait_for(order, |order| order["at_rest"] == true)
            .await;
    }
    let hook = json!({ "url": "https://127.0.0.1/hooks.example" });
    answer(
        system
            .as_operator("notification", Method::POST, "/webhooks")
            .json(&hook),
    )
    .await
    .expect(201);

    let (mut tables, mut views) = (0, 0);
    for (service, database) in &system.databases {
        let everything = database.pool();
        let url = database.url_of("auditor");
        let auditor = PgPoolOptions::new().connect(&url).await;
        let auditor = auditor.expect("it may connect");
        // A table that is created later is refused, too: nothing is granted by default.
        for table in names(
            &everything,
            "select tablename::text from pg_tables where schemaname = 'public'",
        )
        .await
        {
            let read = AssertSqlSafe(format!("select * from public.{table}"));
            let refused = sqlx::query(read).execute(&auditor).await;
            let refused = refused.expect_err(&format!("{service}.{table}"));
            let code = refused
                .as_database_error()
                .and_then(|error| error.code().map(Cow::into_owned));
            assert_eq!(
                code.as_deref(),
                Some("42501"),
                "{service}.{table}: {refused}"
            );
            tables += 1;
        }
        let mut shown = String::new();
        for view in names(
            &everything,
            "select viewname::text from pg_views where schemaname = 'audit'",
        )
        .await
        {
            // Under the table's name: the role's search_path finds the view.
            let read = AssertSqlSafe(format!(
                "select coalesce(string_agg(to_jsonb({view})::text, ' '), '') from {view}"
            ));
            let rows: String = sqlx::query_scalar(read)
                .fetch_one(&auditor)
                .await
                .expect("it may read");
            shown.push_str(&rows);
            views += 1;
        }
        for secret in SECRETS {
            assert!(!shown.contains(secret), "{service} shows {secret}: {shown}");
        }
        let changed = sqlx::query("create table audit.mine ()")
            .execute(&auditor)
            .await;
        assert!(changed.is_err(), "{service}");
    }
    assert!(tables > 30 && views > 20, "{tables} tables, {views} views");
    system.end().await;
}
