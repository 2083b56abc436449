//! Inbox: a message that arrives twice takes effect once. Needs a PostgreSQL.
//!
//! ```console
//! $ cargo xtask example inbox        # starts a private PostgreSQL, or:
//! $ DATABASE_URL=postgres://… cargo run -p holdfast --example inbox
//! ```
//!
//! A wallet is debited by messages. A broker delivers a message again if it was not told in time that the message had
//! been handled. That is what "at least once" means. So the deliveries below are calls, each of which may end in a
//! crash.

#![expect(clippy::print_stdout, reason = "an example talks")]

#[path = "support/database.rs"]
mod database;

use std::time::Duration;

use holdfast::{inbox, transaction};
use sqlx::{Executor, PgConnection, PgPool};
use uuid::Uuid;

const QUEUE: &str = "payment.choreography";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let schema = database::Schema::create("inbox").await?;
    let told = tell(&schema.pool).await;
    schema.drop().await?;
    told
}

async fn tell(pool: &PgPool) -> anyhow::Result<()> {
    inbox::migrator().run(pool).await?;
    pool.execute(
        "create table wallet (balance bigint not null check (balance >= 0));
         create table charge (order_id uuid primary key);
         insert into wallet values (10000)",
    )
    .await?;
    charged_twice_without_an_inbox(pool).await?;
    charged_once_with_one(pool).await?;
    death_before_the_commit(pool).await?;
    two_processes_at_once(pool).await?;
    batch_with_repetitions(pool).await?;
    charge_that_is_sent_again(pool).await?;
    pruning(pool).await
}

async fn charged_twice_without_an_inbox(pool: &PgPool) -> anyhow::Result<()> {
    println!(
        "1. Without an inbox: the consumer commits, dies before it acknowledges, and gets the message again."
    );
    careless(pool).await?;
    careless(pool).await?;
    println!("   the customer paid twice: {}", balance(pool).await?);
    Ok(())
}

async fn charged_once_with_one(pool: &PgPool) -> anyhow::Result<()> {
    println!("\n2. With one: the same crash, the same redelivery.");
    let charge = Charge::new();
    for delivery in ["first", "second"] {
        let new = handle(pool, &[charge], Crash::AfterCommit).await?;
        println!(
            "   {delivery} delivery: {new} new, {}",
            balance(pool).await?
        );
    }
    Ok(())
}

async fn death_before_the_commit(pool: &PgPool) -> anyhow::Result<()> {
    println!(
        "\n3. It dies before it commits. Then the id is not recorded either, and the next delivery is the first one."
    );
    let charge = Charge::new();
    handle(pool, &[charge], Crash::BeforeCommit).await?;
    println!("   died: {}", balance(pool).await?);
    let new = handle(pool, &[charge], Crash::AfterCommit).await?;
    println!("   again: {new} new, {}", balance(pool).await?);
    Ok(())
}

async fn two_processes_at_once(pool: &PgPool) -> anyhow::Result<()> {
    println!(
        "\n4. Two processes get it at the same instant (the broker took the first one for dead). One waits for the other."
    );
    let charge = Charge::new();
    let batch = std::slice::from_ref(&charge);
    let (one, other) = tokio::join!(
        handle(pool, batch, Crash::Never),
        handle(pool, batch, Crash::Never),
    );
    println!("   {} + {} new, {}", one?, other?, balance(pool).await?);
    Ok(())
}

async fn batch_with_repetitions(pool: &PgPool) -> anyhow::Result<()> {
    println!(
        "\n5. A batch is one transaction. Two of its three messages were handled before; one is in it twice."
    );
    let batch = [Charge::new(), Charge::new(), Charge::new()];
    handle(pool, &batch[..2], Crash::Never).await?;
    let again = [batch[2], batch[0], batch[1], batch[2]];
    let new = handle(pool, &again, Crash::Never).await?;
    println!("   {new} new, {}", balance(pool).await?);
    Ok(())
}

async fn charge_that_is_sent_again(pool: &PgPool) -> anyhow::Result<()> {
    println!(
        "\n6. Not covered: the same charge *sent* again, as a new message, because its sender got no reply."
    );
    let charge = Charge::new();
    let resent = Charge {
        message: Uuid::now_v7(),
        ..charge
    };
    handle(pool, &[charge], Crash::Never).await?;
    let new = handle(pool, &[resent], Crash::Never).await?;
    println!(
        "   {new} new to the inbox; the charge's own key (the order) stopped it: {}",
        balance(pool).await?
    );
    Ok(())
}

async fn pruning(pool: &PgPool) -> anyhow::Result<()> {
    println!(
        "\n7. Ids are kept for longer than the broker can hold a message, then pruned. These are too young:"
    );
    let mut conn = pool.acquire().await?;
    let week = Duration::from_secs(7 * 24 * 3600);
    println!(
        "   older than a week: {} removed",
        inbox::prune(&mut conn, week, 1000).await?
    );
    println!(
        "   older than nothing: {} removed",
        inbox::prune(&mut conn, Duration::ZERO, 1000).await?
    );
    Ok(())
}

/// A message: "charge this order".
#[derive(Clone, Copy)]
struct Charge {
    /// The id of this message, new for each send. A redelivery has the same one.
    message: Uuid,
    /// The order to charge: the same, however often it is sent.
    order: Uuid,
}

impl Charge {
    fn new() -> Self {
        Self {
            message: Uuid::now_v7(),
            order: Uuid::now_v7(),
        }
    }
}

/// The place at which the process dies.
#[derive(Clone, Copy, PartialEq)]
enum Crash {
    BeforeCommit,
    /// Before the acknowledgement: the worst place.
    AfterCommit,
    Never,
}

/// Handles a message without an inbox, as many consumers do.
async fn careless(pool: &PgPool) -> sqlx::Result<()> {
    pool.execute("update wallet set balance = balance - 100")
        .await?;
    Ok(())
}

/// Handles a batch: inbox and effect in one transaction; acknowledge only after this has returned. Returns the number
/// of new messages.
async fn handle(pool: &PgPool, batch: &[Charge], crash: Crash) -> sqlx::Result<usize> {
    let ids: Vec<Uuid> = batch.iter().map(|charge| charge.message).collect();
    let mut tx = transaction::begin(pool).await?;
    let mut new = inbox::admit(&mut tx, QUEUE, &ids).await?;
    let admitted = new.len();
    for charge in batch {
        // `remove`, because a message that is in the batch twice is new once.
        if new.remove(&charge.message) {
            debit(&mut tx, charge).await?;
        }
    }
    if crash == Crash::BeforeCommit {
        return Ok(0); // For the database, a process that dies is a connection that is closed.
    }
    tx.commit().await?;
    if crash == Crash::AfterCommit {
        return Ok(admitted); // The broker is not told, so it will deliver the whole batch again.
    }
    // The batch is acknowledged here.
    Ok(admitted)
}

/// Debits the wallet, under a key of its own: an order is charged once, whichever message demands it.
async fn debit(conn: &mut PgConnection, charge: &Charge) -> sqlx::Result<()> {
    let first = sqlx::query("insert into charge values ($1) on conflict do nothing")
        .bind(charge.order)
        .execute(&mut *conn)
        .await?;
    if first.rows_affected() == 1 {
        conn.execute("update wallet set balance = balance - 100")
            .await?;
    }
    Ok(())
}

async fn balance(pool: &PgPool) -> sqlx::Result<String> {
    let cents: i64 = sqlx::query_scalar("select balance from wallet")
        .fetch_one(pool)
        .await?;
    Ok(format!("{}.{:02} in the wallet", cents / 100, cents % 100))
}
