//! Customers with several card payments each, their accounts' locks, and the books about both.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use contracts::value::OrderId;
use futures_util::future::try_join_all;
use holdfast::backoff::pause;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::stage::Stage;
use crate::api::{Api, insist};

/// The longest wait for a state that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Customers who pay by card, and their orders.
pub(super) struct Accounts {
    customers: Vec<String>,
    orders: Vec<(String, OrderId)>,
    /// Payment's database, by the auditor's role.
    payment: PgConnection,
    /// The card processor's, by the same role.
    company: PgConnection,
}

/// Payment's counters since its process began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// Locks that were lost while they were held.
    pub(super) lost: f64,
    /// Writes of overtaken holders that the database refused.
    pub(super) refused: f64,
    /// Writes of overtaken holders that the database took, because a drill had switched fencing off.
    pub(super) let_through: f64,
}

impl Counted {
    pub(super) async fn now(stage: &Stage) -> anyhow::Result<Self> {
        let url = &stage.api.urls().payment_url;
        let metric = async |name: &'static str| insist(|| stage.api.metric(url, name)).await;
        Ok(Self {
            lost: metric("lock_lost_total").await?,
            refused: metric("account_locks_overtaken_total").await?,
            let_through: metric("account_writes_unfenced_total").await?,
        })
    }

    pub(super) async fn since(self, stage: &Stage) -> anyhow::Result<Self> {
        let now = Self::now(stage).await?;
        Ok(Self {
            lost: now.lost - self.lost,
            refused: now.refused - self.refused,
            let_through: now.let_through - self.let_through,
        })
    }
}

impl Accounts {
    /// Connects to the databases, and names so many customers. They order nothing yet.
    pub(super) async fn open(stage: &Stage, customers: usize) -> anyhow::Result<Self> {
        let books = stage.books();
        let (payment, company) = (
            books.open(&books.payment_database_url)?,
            books.open(&books.card_processor_database_url)?,
        );
        Ok(Self {
            customers: (0..customers)
                .map(|n| format!("drill-account-{n}"))
                .collect(),
            orders: Vec::new(),
            payment: PgConnection::connect(&payment)
                .await
                .context("payment's database")?,
            company: PgConnection::connect(&company)
                .await
                .context("the card processor's database")?,
        })
    }

    /// Places so many orders by card for each customer, all at once, and returns them.
    pub(super) async fn place(
        &mut self,
        stage: &Stage,
        each: usize,
    ) -> anyhow::Result<Vec<OrderId>> {
        let skus = stage.skus();
        let all = self.customers.iter().flat_map(|customer| {
            let skus = &skus;
            (0..each).map(move |number| async move {
                let id = place(&stage.api, customer, &skus[number % skus.len()], number).await?;
                anyhow::Ok((customer.clone(), id))
            })
        });
        self.orders = try_join_all(all).await?;
        let ids: Vec<OrderId> = self.orders.iter().map(|(_, id)| *id).collect();
        for id in &ids {
            stage.accepted(*id);
        }
        Ok(ids)
    }

    /// Returns the newest fence that the database has seen, by customer.
    pub(super) async fn fences(&mut self) -> sqlx::Result<BTreeMap<String, i64>> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select customer_id, fence from account_fence where customer_id = any($1)",
        )
        .bind(&self.customers)
        .fetch_all(&mut self.payment)
        .await?;
        Ok(rows.into_iter().collect())
    }

    /// Waits until each account's lock has a holder with a fence newer than in `before`, and returns the new fences.
    pub(super) async fn newer_than(
        &mut self,
        before: &BTreeMap<String, i64>,
    ) -> anyhow::Result<BTreeMap<String, i64>> {
        let until = Instant::now() + PATIENCE;
        loop {
            let now = self.fences().await?;
            let newer = now
                .iter()
                .filter(|(customer, fence)| before.get(*customer).is_none_or(|old| old < fence))
                .count();
            if newer == self.customers.len() {
                return Ok(now);
            }
            anyhow::ensure!(
                Instant::now() < until,
                "only {newer} of {} accounts were locked again",
                self.customers.len()
            );
            pause(Duration::from_millis(20)).await;
        }
    }

    /// Waits until payment has a row for every order.
    pub(super) async fn known(&mut self) -> anyhow::Result<()> {
        let ids = self.ids();
        let query = "select count(*) from payment where order_id = any($1)";
        until(&mut self.payment, query, &ids, ids.len(), "payment knows").await
    }

    /// Waits until the card processor has decided about so many of the orders.
    pub(super) async fn decided(&mut self, orders: usize) -> anyhow::Result<()> {
        let ids = self.ids();
        let query = "select count(*) from charge c join ledger l on l.charge_id = c.id
                     where c.reference = any($1::uuid[]::text[])";
        let what = "the card processor has decided about";
        until(&mut self.company, query, &ids, orders, what).await
    }

    /// Returns, by the card processor's ledger, how often it decided about two charges of one account at once, and how
    /// many orders it charged twice.
    pub(super) async fn company_says(&mut self) -> sqlx::Result<(i64, i64)> {
        let references: Vec<String> = self.orders.iter().map(|(_, id)| id.to_string()).collect();
        let customers: Vec<String> = self.orders.iter().map(|(who, _)| who.clone()).collect();
        sqlx::query_as(
            "with decision as (
                 select c.id, o.customer, o.reference, c.created_at as began, l.at as ended
                 from unnest($1::text[], $2::text[]) as o (reference, customer)
                 join charge c using (reference)
                 join ledger l on l.charge_id = c.id and l.kind = 'capture'
             )
             select
                 (select count(*) from decision a join decision b on a.customer = b.customer and a.id < b.id
                  where a.began < b.ended and b.began < a.ended),
                 (select count(*) from (select from decision group by reference having count(*) > 1) as twice)",
        )
        .bind(references)
        .bind(customers)
        .fetch_one(&mut self.company)
        .await
    }

    fn ids(&self) -> Vec<Uuid> {
        self.orders.iter().map(|(_, id)| id.0).collect()
    }
}

/// Waits until `query` counts `wanted` of these orders or more.
async fn until(
    books: &mut PgConnection,
    query: &'static str,
    orders: &[Uuid],
    wanted: usize,
    what: &str,
) -> anyhow::Result<()> {
    let patient_until = Instant::now() + PATIENCE;
    loop {
        let count: i64 = sqlx::query_scalar(query)
            .bind(orders)
            .fetch_one(&mut *books)
            .await?;
        if usize::try_from(count).is_ok_and(|count| count >= wanted) {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < patient_until,
            "{what} {count} of {wanted} orders"
        );
        pause(Duration::from_millis(20)).await;
    }
}

/// Places an order, with the same key until it is accepted.
async fn place(api: &Api, customer: &str, sku: &str, number: usize) -> anyhow::Result<OrderId> {
    let order = by_card(sku, number);
    let key = Uuid::now_v7().to_string();
    let placed: Value = insist(|| api.place(customer, &key, &order)).await?;
    let id = placed["id"].as_str().and_then(|id| id.parse().ok());
    id.map(OrderId).context("an order has an id")
}

/// Returns an order for one unit, by card; even numbers go by choreography, odd ones by orchestration.
pub(super) fn by_card(sku: &str, number: usize) -> Value {
    json!({
        "coordination": if number.is_multiple_of(2) { "choreography" } else { "orchestration" },
        "lines": [{ "sku": sku, "quantity": 1 }],
        "payment": { "method": "card", "token": "tok_visa" },
    })
}

impl Stage {
    /// Switches fencing on or off in the process of payment at `url`. With it, the database refuses the writes of
    /// overtaken holders.
    pub(super) async fn fencing(&self, url: &str, on: bool) -> anyhow::Result<()> {
        let switch = json!({ "on": on });
        insist(|| self.api.put_at(url, "/demo/switches/fencing", &switch)).await?;
        Ok(())
    }

    /// Blocks each thread of payment that has received a response of the card processor, before it uses the response;
    /// or releases them.
    pub(super) async fn hold_answers(&self, hold: bool) -> anyhow::Result<()> {
        let (url, hold) = (&self.api.urls().payment_url, json!({ "hold": hold }));
        let path = "/demo/failpoints/payment.after_card_call";
        insist(|| self.api.put_at(url, path, &hold)).await?;
        Ok(())
    }
}
