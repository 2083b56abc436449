//! The rows of each service's database that are compared.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use contracts::value::PricedLine;
use sqlx::{
    PgPool,
    postgres::PgPoolOptions,
    types::{Json, Uuid},
};

use super::{
    Sources,
    quiescence::Unrest,
    sagas::{self, OperatorAction, Saga},
};

/// All books, read when nothing moves.
#[derive(Debug, Default)]
pub struct Books {
    pub(super) orders: HashMap<Uuid, Order>,
    /// Orders whose timeline has the message that they were created, or that their saga is to start.
    pub(super) heard: Vec<Uuid>,
    pub(super) payments: HashMap<Uuid, Payment>,
    /// The wallet's balance per customer and currency, in minor units.
    pub(super) balances: BTreeMap<(String, String), i64>,
    /// The sum paid in per customer and currency, in minor units.
    pub(super) deposits: BTreeMap<(String, String), i64>,
    /// The amount that an operator wrote off, per order, in minor units.
    pub(super) settled_money: HashMap<Uuid, i64>,
    pub(super) reservations: HashMap<Uuid, Reservation>,
    pub(super) stock: BTreeMap<String, Stock>,
    /// The units delivered, per product.
    pub(super) deliveries: BTreeMap<String, i64>,
    /// The card processor's ledger: its entries per reference.
    pub(super) ledger: HashMap<Uuid, Vec<LedgerEntry>>,
    /// The kind and the state of each mail, per order.
    pub(super) mails: HashMap<Uuid, Vec<(String, String)>>,
    pub(super) sagas: Vec<Saga>,
    /// Operator actions on sagas, without `resume`.
    pub(super) actions: Vec<OperatorAction>,
    /// Messages that are parked, of all services.
    pub(super) parked: Vec<Parked>,
    /// The number of parked messages that operators requeued or dropped.
    pub(super) resolved: i64,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct Order {
    pub(super) id: Uuid,
    pub(super) customer_id: String,
    coordination: String,
    pub(super) state: String,
    /// True once its saga was told that it is confirmed.
    pub(super) was_confirmed: bool,
    pub(super) reason: Option<String>,
    pub(super) committed: bool,
    pub(super) payment_answer: Option<String>,
    pub(super) inventory_answer: Option<String>,
    pub(super) amount_minor: i64,
    pub(super) currency: String,
    pub(super) method: String,
    pub(super) lines: Json<Vec<PricedLine>>,
}

impl Order {
    pub(super) fn is_orchestrated(&self) -> bool {
        self.coordination == "orchestration"
    }
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct Payment {
    order_id: Uuid,
    pub(super) state: String,
    pub(super) customer_id: Option<String>,
    pub(super) amount_minor: Option<i64>,
    pub(super) currency: Option<String>,
    pub(super) method: Option<String>,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct Reservation {
    order_id: Uuid,
    pub(super) state: String,
    pub(super) lines: Option<Json<Vec<contracts::value::OrderLine>>>,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct Stock {
    sku: String,
    pub(super) available: i64,
    pub(super) reserved: i64,
    pub(super) sold: i64,
    pub(super) written_off: i64,
    pub(super) stocked: i64,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct LedgerEntry {
    reference: String,
    pub(super) kind: String,
    pub(super) amount_minor: i64,
    pub(super) currency: String,
}

#[derive(Debug, sqlx::FromRow)]
pub(super) struct Parked {
    pub(super) queue: String,
    pub(super) kind: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) cause: String,
    pub(super) detail: String,
}

/// Reads the depths of the outboxes.
pub(crate) struct Backlogs(Reader);

impl Backlogs {
    pub(crate) fn new(sources: &Sources) -> anyhow::Result<Self> {
        Ok(Self(Reader::new(sources)?))
    }

    /// Returns the number of rows in each service's outbox.
    pub(crate) async fn read(&self) -> anyhow::Result<BTreeMap<String, i64>> {
        self.0.backlogs().await
    }
}

/// Connections to all databases, made when they are first used.
pub(super) struct Reader {
    pub(super) order: PgPool,
    pub(super) payment: PgPool,
    pub(super) inventory: PgPool,
    pub(super) notification: PgPool,
    pub(super) orchestrator: PgPool,
    pub(super) card_processor: PgPool,
}

impl Reader {
    pub(super) fn new(sources: &Sources) -> anyhow::Result<Self> {
        let pool = |url: &str| PgPoolOptions::new().max_connections(2).connect_lazy(url);
        Ok(Self {
            order: pool(&sources.open(&sources.order_database_url)?)?,
            payment: pool(&sources.open(&sources.payment_database_url)?)?,
            inventory: pool(&sources.open(&sources.inventory_database_url)?)?,
            notification: pool(&sources.open(&sources.notification_database_url)?)?,
            orchestrator: pool(&sources.open(&sources.orchestrator_database_url)?)?,
            card_processor: pool(&sources.open(&sources.card_processor_database_url)?)?,
        })
    }

    /// Returns the services with an outbox.
    pub(super) fn services(&self) -> [(&'static str, &PgPool); 5] {
        [
            ("order", &self.order),
            ("payment", &self.payment),
            ("inventory", &self.inventory),
            ("notification", &self.notification),
            ("orchestrator", &self.orchestrator),
        ]
    }

    /// Returns the number of rows in each outbox.
    pub(super) async fn backlogs(&self) -> anyhow::Result<BTreeMap<String, i64>> {
        let mut backlogs = BTreeMap::new();
        for (service, pool) in self.services() {
            let backlog = holdfast::outbox::backlog(pool)
                .await
                .with_context(|| format!("{service}'s outbox"))?;
            backlogs.insert(service.to_owned(), backlog.waiting + backlog.quarantined);
        }
        Ok(backlogs)
    }

    /// Returns all that still moves, without the queues.
    pub(super) async fn unrest(&self) -> anyhow::Result<Unrest> {
        let ids = |ids: Vec<Uuid>| ids.iter().map(Uuid::to_string).collect();
        let moving = "select id from orders
                      where not (state = 'cancelled' or (state = 'confirmed' and committed)) order by id";
        let stuck = "select id from orders where stuck_since is not null order by id";
        let sagas = sagas::waiting(&self.orchestrator).await.context("sagas")?;
        let mut unrest = Unrest {
            orders: ids(sqlx::query_scalar(moving)
                .fetch_all(&self.order)
                .await
                .context("orders")?),
            stuck: ids(sqlx::query_scalar(stuck).fetch_all(&self.order).await?),
            card_calls: sqlx::query_scalar("select count(*) from payment where due_at is not null")
                .fetch_one(&self.payment)
                .await?,
            mails: sqlx::query_scalar("select count(*) from mail where state = 'queued'")
                .fetch_one(&self.notification)
                .await?,
            sagas: sagas.moving,
            stuck_sagas: sagas.stuck,
            ..Unrest::default()
        };
        for (service, pool) in self.services() {
            let backlog = holdfast::outbox::backlog(pool)
                .await
                .with_context(|| format!("{service}'s outbox"))?;
            if backlog.waiting + backlog.quarantined > 0 {
                unrest
                    .outboxes
                    .push((service.to_owned(), backlog.waiting, backlog.quarantined));
            }
        }
        Ok(unrest)
    }

    /// Reads all books.
    pub(super) async fn read(&self) -> anyhow::Result<Books> {
        let mut books = Books::default();
        let orders: Vec<Order> = sqlx::query_as(
            "select id, customer_id, coordination, state, was_confirmed, reason, committed, payment_answer, inventory_answer, amount_minor, currency,
                    payment ->> 'method' as method, lines
             from orders",
        )
        .fetch_all(&self.order)
        .await?;
        books.orders = orders.into_iter().map(|order| (order.id, order)).collect();
        books.heard = sqlx::query_scalar(
            "select distinct order_id from timeline
             where kind = 'order.created.v1' or (kind = 'order.start_saga.v1' and data ->> 'saga' = 'place_order')",
        )
        .fetch_all(&self.order)
        .await?;

        let payments: Vec<Payment> = sqlx::query_as(
            "select order_id, state, customer_id, amount_minor, currency, method from payment",
        )
        .fetch_all(&self.payment)
        .await?;
        books.payments = payments
            .into_iter()
            .map(|payment| (payment.order_id, payment))
            .collect();
        let balances: Vec<(String, String, i64)> =
            sqlx::query_as("select customer_id, currency, balance_minor from account")
                .fetch_all(&self.payment)
                .await?;
        books.balances = balances
            .into_iter()
            .map(|(who, currency, amount)| ((who, currency), amount))
            .collect();
        let deposits: Vec<(String, String, i64)> = sqlx::query_as(
            "select customer_id, currency, sum(amount_minor)::int8 from deposit group by customer_id, currency",
        )
        .fetch_all(&self.payment)
        .await?;
        books.deposits = deposits
            .into_iter()
            .map(|(who, currency, amount)| ((who, currency), amount))
            .collect();
        let settled: Vec<(Uuid, i64)> =
            sqlx::query_as("select order_id, amount_minor from settlement")
                .fetch_all(&self.payment)
                .await?;
        books.settled_money = settled.into_iter().collect();

        let reservations: Vec<Reservation> =
            sqlx::query_as("select order_id, state, lines from reservation")
                .fetch_all(&self.inventory)
                .await?;
        books.reservations = reservations
            .into_iter()
            .map(|row| (row.order_id, row))
            .collect();
        let stock: Vec<Stock> = sqlx::query_as(
            "select sku, available, reserved, sold, written_off, stocked from stock",
        )
        .fetch_all(&self.inventory)
        .await?;
        books.stock = stock
            .into_iter()
            .map(|stock| (stock.sku.clone(), stock))
            .collect();
        let deliveries: Vec<(String, i64)> =
            sqlx::query_as("select sku, sum(quantity)::int8 from delivery group by sku")
                .fetch_all(&self.inventory)
                .await?;
        books.deliveries = deliveries.into_iter().collect();

        let ledger: Vec<LedgerEntry> = sqlx::query_as(
            "select reference, kind, ledger.amount_minor, ledger.currency
             from ledger join charge on charge.id = charge_id order by seq",
        )
        .fetch_all(&self.card_processor)
        .await?;
        for entry in ledger {
            let reference = entry
                .reference
                .parse()
                .context("the card processor's reference")?;
            books.ledger.entry(reference).or_default().push(entry);
        }

        let mails: Vec<(Uuid, String, String)> =
            sqlx::query_as("select order_id, kind, state from mail")
                .fetch_all(&self.notification)
                .await?;
        for (order, kind, state) in mails {
            books.mails.entry(order).or_default().push((kind, state));
        }
        (books.sagas, books.actions) = sagas::read(&self.orchestrator).await.context("sagas")?;
        for (service, pool) in self.services() {
            let parked: Vec<Parked> = sqlx::query_as(
                "select queue, kind, subject, cause, detail from parked_message where state = 'parked' order by parked_at",
            )
            .fetch_all(pool)
            .await
            .with_context(|| format!("{service}'s parked messages"))?;
            books.parked.extend(parked);
            let resolved: i64 =
                sqlx::query_scalar("select count(*) from parked_message where state <> 'parked'")
                    .fetch_one(pool)
                    .await?;
            books.resolved += resolved;
        }
        Ok(books)
    }
}
