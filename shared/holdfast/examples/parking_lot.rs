//! Parking lot: a message that could not be handled waits for an operator, with its cause. Needs a PostgreSQL and a
//! RabbitMQ.
//!
//! ```console
//! $ cargo xtask example parking_lot        # starts private servers, or:
//! $ DATABASE_URL=postgres://… AMQP_URL=amqp://… cargo run -p holdfast --example parking_lot
//! ```
//!
//! Payment gets one good message among four bad ones. The good one is charged at once. Each of the others ends in a
//! table, with its cause, where an operator edits, requeues or drops it.

#![expect(clippy::print_stdout, reason = "an example talks")]

#[path = "support/broker.rs"]
mod broker;
#[path = "support/database.rs"]
mod database;

use std::time::Duration;

use anyhow::Context;
use holdfast::{
    backoff::pause,
    inbox,
    messaging::{
        Consumers, Error, Event, Handler, Incoming, Publisher, Received, Subscription, Undecodable,
        parking::{self, Decoders, Parked},
        retry_exchange,
    },
    outbox::{self, Config, Relay, Waker},
    transaction,
};
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection, PgPool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The operator, whose name is recorded with each action.
const OPERATOR: &str = "olivia";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let schema = database::Schema::create("parking_lot").await?;
    let told = with_queues(&schema.pool).await;
    schema.drop().await?;
    told
}

async fn with_queues(pool: &PgPool) -> anyhow::Result<()> {
    // In production 1 s, 5 s, 30 s, 2 min.
    let delays = [200, 400].map(Duration::from_millis);
    let queues = broker::Queues::create("parking_lot", &delays).await?;
    let told = tell(pool, &queues).await;
    queues.drop().await?;
    told
}

async fn tell(pool: &PgPool, queues: &broker::Queues) -> anyhow::Result<()> {
    create_tables(pool).await?;
    let service = Service::start(pool, queues);
    service.five_messages_arrive().await?;
    service.bad_ones_are_parked().await?;
    service.one_is_edited().await?;
    service.one_is_requeued().await?;
    service.two_are_dropped().await?;
    service.actions_are_listed().await?;
    service.stop().await
}

async fn create_tables(pool: &PgPool) -> anyhow::Result<()> {
    for migrator in [
        outbox::migrator(),
        inbox::migrator(),
        holdfast::messaging::migrator(),
    ] {
        migrator.run(pool).await?;
    }
    pool.execute(
        "create table account (customer text primary key, balance bigint not null);
         insert into account values ('alice', 10000)",
    )
    .await?;
    Ok(())
}

/// The service that charges customers, with its relay and its consumers.
struct Service {
    pool: PgPool,
    queue: String,
    publisher: Publisher,
    /// Wakes the relay.
    waker: Waker,
    /// The handler's decoder, which checks the edits of the operator.
    decoders: Decoders,
    shutdown: CancellationToken,
    running: [JoinHandle<()>; 2],
}

impl Service {
    fn start(pool: &PgPool, queues: &broker::Queues) -> Self {
        let publisher = Publisher::new(&queues.url, "example publisher");
        let waker = Waker::default();
        let relay = Relay::new(
            pool.clone(),
            publisher.clone(),
            waker.clone(),
            Config::default(),
        );
        let subscription = Subscription {
            retries: 2, // as many as there are delays
            ..Subscription::new(&queues.queue)
        };
        // Consumes the queue, and its dead-letter queue into the table `parked_message`.
        let consumers = Consumers::new(
            &queues.url,
            "example consumer",
            publisher.clone(),
            pool.clone(),
        )
        .consume(subscription, Payment);
        let decoders = consumers.decoders();
        let shutdown = CancellationToken::new();
        let running = [
            tokio::spawn(relay.run(shutdown.clone())),
            tokio::spawn(consumers.run(shutdown.clone())),
        ];
        Self {
            pool: pool.clone(),
            queue: queues.queue.clone(),
            publisher,
            waker,
            decoders,
            shutdown,
            running,
        }
    }

    async fn five_messages_arrive(&self) -> anyhow::Result<()> {
        println!("1. Five messages:");
        let mut misspelt = order("o-2", "alice", 690);
        misspelt["customer"] = json!({ "name": "alice" });
        let (v1, v9) = ("order.created.v1", "order.created.v9");
        let messages = [
            (v1, "o-1", order("o-1", "alice", 690), "good"),
            (v1, "o-2", misspelt, "its customer is not where it belongs"),
            (
                v9,
                "o-3",
                order("o-3", "alice", 690),
                "of an unknown version",
            ),
            (
                v1,
                "o-4",
                order("o-4", "alice", -690),
                "an amount below zero",
            ),
            (
                v1,
                "o-5",
                order("o-5", "bob", 690),
                "a customer without an account",
            ),
        ];
        let mut tx = transaction::begin(&self.pool).await?;
        for (kind, order, data, what) in messages {
            println!("   {order}: {what}");
            let event = Event::new(
                kind,
                "/shop",
                order.to_owned(),
                data.to_string().into_bytes(),
            );
            let message = event.into_message(&retry_exchange(&self.queue), self.queue.clone());
            outbox::enqueue(&mut tx, &[message]).await?;
        }
        tx.commit().await?;
        self.waker.wake();
        Ok(())
    }

    async fn bad_ones_are_parked(&self) -> anyhow::Result<()> {
        println!(
            "\n2. The batch fails, is taken apart, and only the bad ones leave. o-5 might succeed later, so it is retried"
        );
        println!("   after 200 and 400 ms; the others never would.");
        until_balance(&self.pool, "alice", 9310).await?;
        println!("   o-1 is charged, alice has 93.10 left");
        until_parked(&self.pool, 4).await?;
        for parked in parking::list(&self.pool, "parked", None, 100).await? {
            let order = parked.subject.as_deref().unwrap_or("?");
            println!("   parked {order}: {:<13} {}", parked.cause, parked.detail);
        }
        Ok(())
    }

    async fn one_is_edited(&self) -> anyhow::Result<()> {
        println!("\n3. o-2: Olivia edits it. She may not change the amount:");
        let o2 = find(&self.pool, "o-2").await?;
        for (cents, note) in [(1, "a discount"), (690, "the customer was nested")] {
            let payload = order("o-2", "alice", cents).to_string();
            let mut tx = transaction::begin(&self.pool).await?;
            let edited = parking::edit(
                &mut tx,
                &self.decoders,
                o2.id,
                OPERATOR,
                note,
                "order.created.v1",
                payload.as_bytes(),
            )
            .await;
            match edited {
                Ok(()) => {
                    tx.commit().await?;
                    println!("   edited ({note})");
                }
                Err(refused) => println!("   refused ({note}): {refused}"),
            }
        }
        self.requeue(&o2, "repaired").await?;
        until_balance(&self.pool, "alice", 8620).await?;
        println!("   requeued, and charged: alice has 86.20 left");
        Ok(())
    }

    async fn one_is_requeued(&self) -> anyhow::Result<()> {
        println!(
            "\n4. o-5: bob has an account by now. The message itself is right, so it is only requeued."
        );
        self.pool
            .execute("insert into account values ('bob', 10000)")
            .await?;
        let o5 = find(&self.pool, "o-5").await?;
        self.requeue(&o5, "account opened").await?;
        until_balance(&self.pool, "bob", 9310).await?;
        println!("   requeued, and charged: bob has 93.10 left");
        Ok(())
    }

    async fn two_are_dropped(&self) -> anyhow::Result<()> {
        println!("\n5. o-3 cannot be requeued as it is, and o-4 must never be charged:");
        let o3 = find(&self.pool, "o-3").await?;
        if let Err(refused) = self.requeue(&o3, "an attempt").await {
            println!("   o-3: {refused}");
        }
        let mut tx = transaction::begin(&self.pool).await?;
        parking::discard(
            &mut tx,
            o3.id,
            OPERATOR,
            "from a test of the shop's next version",
        )
        .await?;
        let o4 = find(&self.pool, "o-4").await?;
        parking::discard(&mut tx, o4.id, OPERATOR, "a bug of the shop's, fixed").await?;
        tx.commit().await?;
        println!(
            "   both dropped; {} wait for an operator",
            parking::open(&self.pool).await?
        );
        Ok(())
    }

    async fn actions_are_listed(&self) -> anyhow::Result<()> {
        println!("\n6. The operator's actions:");
        let mut conn = self.pool.acquire().await?;
        for state in ["requeued", "dropped"] {
            for parked in parking::list(&mut *conn, state, None, 100).await? {
                for action in parking::actions(&mut *conn, parked.id).await? {
                    let order = parked.subject.as_deref().unwrap_or("?");
                    println!(
                        "   {order} {} by {}: {}",
                        action.action, action.operator, action.note
                    );
                }
            }
        }
        Ok(())
    }

    /// Requeues a parked message: an outbox row and an audit row in one transaction.
    async fn requeue(&self, parked: &Parked, note: &str) -> anyhow::Result<()> {
        let mut tx = transaction::begin(&self.pool).await?;
        parking::requeue(&mut tx, &self.decoders, parked.id, OPERATOR, note).await?;
        tx.commit().await?;
        self.waker.wake();
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

/// Returns the payload of a message about a new order.
fn order(id: &str, customer: &str, cents: i64) -> Value {
    json!({ "order_id": id, "customer": customer, "amount": { "amount_minor": cents } })
}

async fn find(pool: &PgPool, order: &str) -> anyhow::Result<Parked> {
    let parked = parking::list(pool, "parked", None, 100).await?;
    parked
        .into_iter()
        .find(|parked| parked.subject.as_deref() == Some(order))
        .with_context(|| format!("{order} is not parked"))
}

/// A request to charge a customer.
struct Charge {
    customer: String,
    cents: i64,
}

/// Decodes a charge. The operator's edits are checked by it, too.
fn decode(event: &Incoming) -> Result<Charge, Undecodable> {
    if event.kind != "order.created.v1" {
        return Err(Undecodable::UnknownType(event.kind.clone()));
    }
    let malformed = |why: &str| Undecodable::Malformed(why.to_owned());
    let data: Value =
        serde_json::from_slice(&event.data).map_err(|error| malformed(&error.to_string()))?;
    Ok(Charge {
        customer: data["customer"]
            .as_str()
            .ok_or_else(|| malformed("customer is not a text"))?
            .to_owned(),
        cents: data["amount"]["amount_minor"]
            .as_i64()
            .ok_or_else(|| malformed("amount.amount_minor is not a number"))?,
    })
}

struct Payment;

impl Handler for Payment {
    type Command = Charge;
    type Effect = ();

    fn decode(&self, event: &Incoming) -> Result<Charge, Undecodable> {
        decode(event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Charge>],
    ) -> Result<(), Error> {
        for Received { command, .. } in batch {
            let Charge { customer, cents } = command;
            if *cents <= 0 {
                // No retry can succeed, so the message is parked at once.
                return Err(Error::rejected("an amount must be more than zero"));
            }
            let charged =
                sqlx::query("update account set balance = balance - $2 where customer = $1")
                    .bind(customer)
                    .bind(cents)
                    .execute(&mut *conn)
                    .await?;
            if charged.rows_affected() == 0 {
                // The account may yet be opened, so the message is retried by the schedule.
                return Err(Error::Failed(format!("{customer} has no account").into()));
            }
        }
        Ok(())
    }

    fn committed(&self, _: Option<()>) {}
}

/// Waits until `wanted` messages are parked.
async fn until_parked(pool: &PgPool, wanted: i64) -> sqlx::Result<()> {
    while parking::open(pool).await? < wanted {
        pause(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until a customer's balance is `wanted`.
async fn until_balance(pool: &PgPool, customer: &str, wanted: i64) -> sqlx::Result<()> {
    let balance = "select balance from account where customer = $1";
    while sqlx::query_scalar::<_, i64>(balance)
        .bind(customer)
        .fetch_one(pool)
        .await?
        != wanted
    {
        pause(Duration::from_millis(20)).await;
    }
    Ok(())
}
