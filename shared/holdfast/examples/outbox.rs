//! Transactional outbox: a state change and the message about it happen both or not at all. Needs a PostgreSQL.
//!
//! ```console
//! $ cargo xtask example outbox        # starts a private PostgreSQL, or:
//! $ DATABASE_URL=postgres://… cargo run -p holdfast --example outbox
//! ```
//!
//! The folder `outbox` has no broker, so this example has none either: [`Broker`] below is one in the memory of this
//! process. It can be switched off, it refuses messages that it cannot route, and it can die between taking a message
//! and confirming it.

#![expect(clippy::print_stdout, reason = "an example talks")]

#[path = "support/database.rs"]
mod database;

use std::{sync::Arc, time::Duration};

use holdfast::{
    backoff::{Backoff, pause},
    outbox::{self, Config, Message, Outcome, Publisher, Relay, Unavailable, Waker},
    transaction,
};
use sqlx::{Executor, PgPool};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let schema = database::Schema::create("outbox").await?;
    let told = tell(&schema.pool).await;
    schema.drop().await?;
    told
}

async fn tell(pool: &PgPool) -> anyhow::Result<()> {
    outbox::migrator().run(pool).await?;
    pool.execute("create table orders (id uuid primary key, state text not null)")
        .await?;
    let shop = Shop {
        pool: pool.clone(),
        waker: Waker::default(),
    };
    let broker = Broker::new();
    let relay = Running::start(&shop, &broker);
    order_and_message_are_one_commit(&shop, &broker).await?;
    process_dies_before_its_commit(&shop, &broker).await?;
    broker_is_unavailable(&shop, &broker).await?;
    message_cannot_be_routed(&shop, &broker, relay).await?;
    relay_dies_before_the_confirm(&shop, &broker).await?;
    two_relays_share_the_rows(&shop, &broker).await
}

async fn order_and_message_are_one_commit(shop: &Shop, broker: &Broker) -> anyhow::Result<()> {
    println!(
        "1. An order is placed. Its row and its message are committed together, then the relay publishes."
    );
    for (nth, what) in [(1, ", of which most is opening connections"), (2, "")] {
        let begun = Instant::now();
        shop.place("orders", Ending::Commit).await?;
        broker.has(nth).await;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        println!("   the broker has it after {ms:.1} ms{what}");
    }
    Ok(())
}

async fn process_dies_before_its_commit(shop: &Shop, broker: &Broker) -> anyhow::Result<()> {
    println!(
        "\n2. The process dies before it commits. There is no order, and no message about one."
    );
    shop.place("orders", Ending::Crash).await?;
    println!("   {}", shop.counts(broker).await?);
    Ok(())
}

async fn broker_is_unavailable(shop: &Shop, broker: &Broker) -> anyhow::Result<()> {
    println!(
        "\n3. The broker is unavailable. Orders are accepted all the same; their messages wait."
    );
    broker.is_up.send_replace(false);
    for _ in 0..3 {
        shop.place("orders", Ending::Commit).await?;
    }
    println!("   {}", shop.counts(broker).await?);
    broker.is_up.send_replace(true);
    broker.has(5).await;
    shop.is_published().await?;
    println!("   it is back: {}", shop.counts(broker).await?);
    Ok(())
}

async fn message_cannot_be_routed(
    shop: &Shop,
    broker: &Broker,
    relay: Running,
) -> anyhow::Result<()> {
    println!(
        "\n4. A message that the broker cannot route (no queue is bound to its exchange) is quarantined after two attempts,"
    );
    println!("   with the reason. It holds up no other.");
    shop.place("typo", Ending::Commit).await?;
    shop.place("orders", Ending::Commit).await?;
    broker.has(6).await;
    broker.refused(2).await;
    // The second refusal is stored when the relay's transaction commits; a relay that has stopped has committed.
    relay.stop().await?;
    for row in outbox::quarantined(&shop.pool, 10).await? {
        let why = row.last_error.unwrap_or_default();
        println!(
            "   quarantined after {} attempts: exchange {:?}: {why}",
            row.attempts, row.exchange
        );
        println!("   the binding is repaired, and an operator releases the message");
        broker.knows.send_replace(vec!["orders", "typo"]);
        outbox::release(&shop.pool, row.message_id).await?;
    }
    let relay = Running::start(shop, broker);
    broker.has(7).await;
    relay.stop().await?;
    println!("   {}", shop.counts(broker).await?);
    Ok(())
}

async fn relay_dies_before_the_confirm(shop: &Shop, broker: &Broker) -> anyhow::Result<()> {
    println!(
        "\n5. The relay dies after the broker took a message, and before the confirm. The claim ends with its"
    );
    println!(
        "   connection, and the next relay publishes the row again: twice, but under the same id."
    );
    let before = broker.taken.borrow().len();
    broker.answers.send_replace(false);
    let relay = Running::start(shop, broker);
    let id = shop.place("orders", Ending::Commit).await?;
    broker.has(before + 1).await;
    relay.kill().await;
    broker.answers.send_replace(true);
    let relay = Running::start(shop, broker);
    broker.has(before + 2).await;
    relay.stop().await?;
    let times = broker
        .taken
        .borrow()
        .iter()
        .filter(|taken| **taken == id)
        .count();
    println!(
        "   the broker has it {times} times. The receiver tells them apart: see the example `inbox`."
    );
    Ok(())
}

async fn two_relays_share_the_rows(shop: &Shop, broker: &Broker) -> anyhow::Result<()> {
    println!(
        "\n6. Two relays, 500 messages: each row is claimed by one of them (`for update skip locked`)."
    );
    let before = broker.taken.borrow().len();
    let relays = [Running::start(shop, broker), Running::start(shop, broker)];
    for _ in 0..500 {
        shop.place("orders", Ending::Commit).await?;
    }
    broker.has(before + 500).await;
    for relay in relays {
        relay.stop().await?;
    }
    println!("   {}", shop.counts(broker).await?);
    Ok(())
}

/// The end of a transaction.
#[derive(PartialEq)]
enum Ending {
    Commit,
    /// The process dies: for the database, that is a connection that is closed.
    Crash,
}

/// A service with a database.
#[derive(Clone)]
struct Shop {
    pool: PgPool,
    waker: Waker,
}

impl Shop {
    /// Places an order, and enqueues a message about it; returns the message's id.
    async fn place(&self, exchange: &str, ending: Ending) -> sqlx::Result<Uuid> {
        let order = Uuid::now_v7();
        let mut tx = transaction::begin(&self.pool).await?;
        sqlx::query("insert into orders values ($1, 'pending')")
            .bind(order)
            .execute(&mut *tx)
            .await?;
        let message = Message {
            id: Uuid::now_v7(),
            exchange: exchange.to_owned(),
            routing_key: "order.created".to_owned(),
            headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
            payload: format!(r#"{{"order_id":"{order}"}}"#).into_bytes(),
        };
        let id = message.id;
        // Written in the transaction of the change: this line is the pattern.
        outbox::enqueue(&mut tx, &[message]).await?;
        if ending == Ending::Crash {
            return Ok(id);
        }
        tx.commit().await?;
        // After the commit, because the relay cannot see the row before. If it is forgotten, it costs one polling
        // interval.
        self.waker.wake();
        Ok(id)
    }

    /// Waits until the outbox is empty.
    async fn is_published(&self) -> sqlx::Result<()> {
        while outbox::backlog(&self.pool).await?.waiting > 0 {
            pause(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn counts(&self, broker: &Broker) -> sqlx::Result<String> {
        let orders: i64 = sqlx::query_scalar("select count(*) from orders")
            .fetch_one(&self.pool)
            .await?;
        let rows = outbox::backlog(&self.pool).await?.waiting;
        let taken = broker.taken.borrow().len();
        Ok(format!(
            "{orders} orders; {rows} messages wait in the outbox, the broker has taken {taken}"
        ))
    }
}

/// A broker in the memory of this process.
#[derive(Clone)]
struct Broker {
    is_up: Arc<watch::Sender<bool>>,
    /// The exchanges that a queue is bound to.
    knows: Arc<watch::Sender<Vec<&'static str>>>,
    /// True while it confirms what it has taken.
    answers: Arc<watch::Sender<bool>>,
    /// The ids of the messages that it has taken, in order.
    taken: Arc<watch::Sender<Vec<Uuid>>>,
    refused: Arc<watch::Sender<usize>>,
}

impl Publisher for Broker {
    async fn ready(&self) -> Result<(), Unavailable> {
        if *self.is_up.borrow() {
            Ok(())
        } else {
            Err(Unavailable("connection refused".to_owned()))
        }
    }

    async fn publish(&self, batch: &[Message]) -> Vec<Outcome> {
        let outcome = |message: &Message| {
            if self.knows.borrow().contains(&message.exchange.as_str()) {
                self.taken.send_modify(|taken| taken.push(message.id));
                Outcome::Confirmed
            } else {
                self.refused.send_modify(|refused| *refused += 1);
                Outcome::Refused("no queue is bound to it".to_owned())
            }
        };
        let outcomes = batch.iter().map(outcome).collect();
        // Without a reply the relay waits, as it would for a broker that hangs. A real publisher bounds this wait.
        let _ = self.answers.subscribe().wait_for(|answers| *answers).await;
        outcomes
    }
}

impl Broker {
    fn new() -> Self {
        Self {
            is_up: Arc::new(watch::Sender::new(true)),
            knows: Arc::new(watch::Sender::new(vec!["orders"])),
            answers: Arc::new(watch::Sender::new(true)),
            taken: Arc::default(),
            refused: Arc::default(),
        }
    }

    /// Waits until the broker has taken `wanted` messages.
    async fn has(&self, wanted: usize) {
        let _ = self
            .taken
            .subscribe()
            .wait_for(|taken| taken.len() >= wanted)
            .await;
    }

    /// Waits until the broker has refused `wanted` messages.
    async fn refused(&self, wanted: usize) {
        let _ = self
            .refused
            .subscribe()
            .wait_for(|refused| *refused >= wanted)
            .await;
    }
}

/// A relay in a task of its own.
struct Running {
    task: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Running {
    fn start(shop: &Shop, broker: &Broker) -> Self {
        let config = Config {
            max_attempts: 2,
            // The wait of a refused row. Short, for the example.
            backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(20))
                .expect("10 is less than 20"),
            ..Config::default()
        };
        let relay = Relay::new(
            shop.pool.clone(),
            broker.clone(),
            shop.waker.clone(),
            config,
        );
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(relay.run(shutdown.clone()));
        Self { task, shutdown }
    }

    /// Stops in order: the relay finishes its round, and publishes what is committed.
    async fn stop(self) -> Result<(), tokio::task::JoinError> {
        self.shutdown.cancel();
        self.task.await
    }

    /// Stops like a crash: the connection is closed, with whatever transaction is open on it.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}
