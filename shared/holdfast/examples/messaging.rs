//! Messaging: from one service's commit to another service's commit. Needs a PostgreSQL and a RabbitMQ.
//!
//! ```console
//! $ cargo xtask example messaging        # starts private servers, or:
//! $ DATABASE_URL=postgres://… AMQP_URL=amqp://… cargo run -p holdfast --example messaging
//! ```
//!
//! A shop takes orders, payment charges them. Here both have their tables in one schema; in a project each has a
//! database of its own, and only messages go between them.

#![expect(clippy::print_stdout, reason = "an example talks")]

#[path = "support/broker.rs"]
mod broker;
#[path = "support/database.rs"]
mod database;

use std::{sync::Arc, time::Duration};

use holdfast::{
    inbox,
    messaging::{
        Consumers, Controls, Error, Event, Handler, Incoming, Publisher, Received, Subscription,
        Undecodable, retry_exchange,
    },
    outbox::{self, Config, Message, Publisher as _, Relay, Waker},
    transaction,
};
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection, PgPool};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const KIND: &str = "order.created.v1";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let schema = database::Schema::create("messaging").await?;
    let told = with_queues(&schema.pool).await;
    schema.drop().await?;
    told
}

async fn with_queues(pool: &PgPool) -> anyhow::Result<()> {
    let queues = broker::Queues::create("messaging", &[Duration::from_millis(200)]).await?;
    let told = tell(pool, &queues).await;
    queues.drop().await?;
    told
}

async fn tell(pool: &PgPool, queues: &broker::Queues) -> anyhow::Result<()> {
    create_tables(pool).await?;
    let services = Services::start(pool, queues).await;
    services.one_order().await?;
    services.paused_queue().await?;
    services.message_five_times().await?;
    services.message_without_a_queue().await;
    services.unavailable_ledger().await?;
    services.stop().await
}

async fn create_tables(pool: &PgPool) -> anyhow::Result<()> {
    for migrator in [
        outbox::migrator(),
        inbox::migrator(),
        holdfast::messaging::migrator(),
    ] {
        migrator.run(pool).await?;
    }
    // `transaction` is PostgreSQL's number of the transaction that wrote the row.
    pool.execute(
        "create table charge (
             order_id    uuid    not null,
             attempt     integer not null,
             transaction text    not null default pg_current_xact_id()::text
         )",
    )
    .await?;
    Ok(())
}

/// The shop and payment, while they run.
struct Services {
    pool: PgPool,
    shop: Shop,
    payment: Payment,
    publisher: Publisher,
    /// The switches that pause a queue.
    controls: Controls,
    shutdown: CancellationToken,
    running: [JoinHandle<()>; 2],
}

impl Services {
    async fn start(pool: &PgPool, queues: &broker::Queues) -> Self {
        // The shop: a relay publishes what it commits.
        let shop = Shop {
            pool: pool.clone(),
            waker: Waker::default(),
            queue: queues.queue.clone(),
        };
        let publisher = Publisher::new(&queues.url, "example publisher");
        let relay = Relay::new(
            pool.clone(),
            publisher.clone(),
            shop.waker.clone(),
            Config::default(),
        );
        // Payment: it consumes on a connection of its own.
        let payment = Payment {
            account: Arc::new(watch::Sender::new(true)),
            commits: Arc::default(),
        };
        let subscription = Subscription {
            retries: 1,
            ..Subscription::new(&queues.queue)
        };
        let consumers = Consumers::new(
            &queues.url,
            "example consumer",
            publisher.clone(),
            pool.clone(),
        )
        .consume(subscription, payment.clone());
        let (consuming, controls) = (consumers.link(), consumers.controls());
        let shutdown = CancellationToken::new();
        let running = [
            tokio::spawn(relay.run(shutdown.clone())),
            tokio::spawn(consumers.run(shutdown.clone())),
        ];
        consuming.up().await;
        Self {
            pool: pool.clone(),
            shop,
            payment,
            publisher,
            controls,
            shutdown,
            running,
        }
    }

    async fn one_order(&self) -> anyhow::Result<()> {
        println!(
            "1. From commit to commit: outbox, confirm, delivery, inbox and effect, acknowledgement."
        );
        let begun = Instant::now();
        self.shop.place(1).await?;
        self.payment.has_charged(&self.pool, 1).await?;
        println!(
            "   charged {:.0} ms later",
            begun.elapsed().as_secs_f64() * 1e3
        );
        Ok(())
    }

    async fn paused_queue(&self) -> anyhow::Result<()> {
        println!(
            "\n2. 300 orders wait in the queue, whose consumer an operator paused. Then it resumes, a batch at a time."
        );
        self.controls.pause(&self.shop.queue, true);
        self.shop.place(300).await?;
        self.shop.is_published().await?;
        let begun = Instant::now();
        self.controls.pause(&self.shop.queue, false);
        self.payment.has_charged(&self.pool, 301).await?;
        let (messages, transactions): (i64, i64) =
            sqlx::query_as("select count(*), count(distinct transaction) from charge")
                .fetch_one(&self.pool)
                .await?;
        println!(
            "   {} ms; {messages} messages so far, in {transactions} transactions",
            begun.elapsed().as_millis()
        );
        Ok(())
    }

    async fn message_five_times(&self) -> anyhow::Result<()> {
        println!(
            "\n3. One message, published five times under one id, as by a relay that dies at the wrong moment."
        );
        let message = self.shop.message();
        let five = vec![message; 5];
        println!("   the broker: {:?}", self.publisher.publish(&five).await);
        // Messages of one publisher arrive in order: once a later one is charged, these have been handled.
        self.shop.place(1).await?;
        self.payment.has_charged(&self.pool, 303).await?;
        println!(
            "   {} charges: one more for the five, and one for the order that came after",
            self.payment.charges(&self.pool).await?
        );
        Ok(())
    }

    async fn message_without_a_queue(&self) {
        println!(
            "\n4. A message that no queue is bound to. Without `mandatory` the publisher would get a confirm."
        );
        let lost = Message {
            routing_key: "nobody".to_owned(),
            ..self.shop.message()
        };
        println!("   {:?}", self.publisher.publish(&[lost]).await);
    }

    async fn unavailable_ledger(&self) -> anyhow::Result<()> {
        println!(
            "\n5. Payment's ledger is unavailable for a while. The consumer keeps its batch and waits."
        );
        let payment = &self.payment;
        payment.account.send_replace(false);
        self.shop.place(3).await?;
        let asked = *payment.commits.borrow();
        let charged = payment.has_charged(&self.pool, 306);
        tokio::time::timeout(Duration::from_secs(1), charged)
            .await
            .expect_err("it is unavailable");
        println!(
            "   after a second: {} commits since",
            *payment.commits.borrow() - asked
        );
        payment.account.send_replace(true);
        payment.has_charged(&self.pool, 306).await?;
        let attempts: i32 = sqlx::query_scalar("select max(attempt) from charge")
            .fetch_one(&self.pool)
            .await?;
        println!(
            "   it is back, all three are charged, at attempt {attempts}: an outage costs no message an attempt"
        );
        Ok(())
    }

    /// Stops in order: batches in hand are finished and acknowledged.
    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        for task in self.running {
            task.await?;
        }
        self.publisher.close().await;
        Ok(())
    }
}

/// The service that takes orders.
struct Shop {
    pool: PgPool,
    waker: Waker,
    queue: String,
}

impl Shop {
    /// Returns the event "there is a new order", in its envelope.
    fn message(&self) -> Message {
        let order = Uuid::now_v7();
        let data = json!({ "order_id": order }).to_string().into_bytes();
        let event = Event::new(KIND, "/shop", order.to_string(), data);
        // A project has an exchange for events; this example borrows the one that leads to its queue by name.
        event.into_message(&retry_exchange(&self.queue), self.queue.clone())
    }

    /// Places orders, each in a transaction with its message. (Their rows are left out here: see the example `outbox`.)
    async fn place(&self, orders: usize) -> sqlx::Result<()> {
        for _ in 0..orders {
            let mut tx = transaction::begin(&self.pool).await?;
            outbox::enqueue(&mut tx, &[self.message()]).await?;
            tx.commit().await?;
            self.waker.wake();
        }
        Ok(())
    }

    /// Waits until the outbox is empty.
    async fn is_published(&self) -> sqlx::Result<()> {
        while outbox::backlog(&self.pool).await?.waiting > 0 {
            holdfast::backoff::pause(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// The service that charges orders.
#[derive(Clone)]
struct Payment {
    /// True while the ledger is available.
    account: Arc<watch::Sender<bool>>,
    /// The number of batches that were committed.
    commits: Arc<watch::Sender<u32>>,
}

impl Handler for Payment {
    type Command = Uuid;
    type Effect = ();

    // A message that cannot be decoded is parked at once: see the example `parking_lot`.
    fn decode(&self, event: &Incoming) -> Result<Uuid, Undecodable> {
        if event.kind != KIND {
            return Err(Undecodable::UnknownType(event.kind.clone()));
        }
        let data: Value = serde_json::from_slice(&event.data)
            .map_err(|error| Undecodable::Malformed(error.to_string()))?;
        data["order_id"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| Undecodable::Malformed("order_id is not a UUID".to_owned()))
    }

    // Runs on the transaction in which the inbox has admitted these messages. They commit together or not at all.
    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Uuid>],
    ) -> Result<(), Error> {
        if !*self.account.borrow() {
            println!(
                "   (payment: unavailable; a batch of {} waits)",
                batch.len()
            );
            return Err(Error::Unavailable("the ledger does not answer".into()));
        }
        let orders: Vec<Uuid> = batch.iter().map(|received| received.command).collect();
        let attempts: Vec<i32> = batch
            .iter()
            .map(|received| i32::try_from(received.event.attempt).unwrap_or(i32::MAX))
            .collect();
        sqlx::query(
            "insert into charge (order_id, attempt) select * from unnest($1::uuid[], $2::int4[])",
        )
        .bind(orders)
        .bind(attempts)
        .execute(conn)
        .await?;
        Ok(())
    }

    // Called after the commit, before the acknowledgement.
    fn committed(&self, _: Option<()>) {
        self.commits.send_modify(|commits| *commits += 1);
    }
}

impl Payment {
    async fn charges(&self, pool: &PgPool) -> sqlx::Result<i64> {
        sqlx::query_scalar("select count(*) from charge")
            .fetch_one(pool)
            .await
    }

    /// Waits until there are `wanted` charges.
    async fn has_charged(&self, pool: &PgPool, wanted: i64) -> sqlx::Result<()> {
        let mut commits = self.commits.subscribe();
        while self.charges(pool).await? < wanted {
            // Invariant: `self` holds the sender, so the channel is open.
            let _ = commits.changed().await;
        }
        Ok(())
    }
}
