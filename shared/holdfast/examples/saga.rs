//! Saga: a long transaction over several services that ends whatever happens. Needs a PostgreSQL.
//!
//! ```console
//! $ cargo xtask example saga        # starts a private PostgreSQL, or:
//! $ DATABASE_URL=postgres://… cargo run -p holdfast --example saga
//! ```
//!
//! An order is charged, reserved, confirmed, and the customer is notified. Payment, inventory and the others are one
//! struct, [`Participants`] in `support/participants.rs`, and the broker is a channel; the saga, its row and its outbox
//! are the real ones.

#![expect(clippy::print_stdout, reason = "an example talks")]

#[path = "support/database.rs"]
mod database;
#[path = "support/participants.rs"]
mod participants;

use std::time::Duration;

use anyhow::Context;
use holdfast::{
    outbox::{self, Message, Relay, Waker},
    saga::{Action, Applied, By, Definition, Executor, Heard, Outgoing, Retry, Start, Step, View},
    transaction::{self, Transaction},
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::{sync::mpsc, time::interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::participants::{Participants, World};

/// The data that a saga is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    cents: i64,
    sku: String,
}

/// The commands that it sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    Charge { cents: i64 },
    Refund,
    Reserve { sku: String },
    Release,
    Confirm,
    Tell,
}

/// Resent after 10 s, 20 s, then every 30 s; three attempts in all.
const PATIENT: Retry = Retry {
    timeout: Duration::from_secs(10),
    longest: Duration::from_secs(30),
    attempts: Some(3),
};
const FOR_EVER: Retry = Retry {
    attempts: None,
    ..PATIENT
};
const STEP: Step<Order, Command> = Step {
    name: "",
    action: None,
    compensation: None,
    settlement: None,
    retry: PATIENT,
    undo_retry: PATIENT,
    pivot: false,
};

/// The saga, as plain data.
static PLACE_ORDER: Definition<Order, Command> = Definition {
    name: "place_order",
    version: 1,
    steps: &[
        Step {
            name: "charge",
            action: Some(|saga: &View<'_, Order>| Command::Charge {
                cents: saga.data.cents,
            }),
            compensation: Some(|_| Command::Refund),
            ..STEP
        },
        Step {
            name: "reserve",
            action: Some(|saga: &View<'_, Order>| Command::Reserve {
                sku: saga.data.sku.clone(),
            }),
            compensation: Some(|_| Command::Release),
            ..STEP
        },
        // The point of no return: once this command is written only its reply decides, so it is resent without limit.
        Step {
            name: "confirm",
            action: Some(|_| Command::Confirm),
            retry: FOR_EVER,
            pivot: true,
            ..STEP
        },
        Step {
            name: "tell",
            action: Some(|_| Command::Tell),
            retry: FOR_EVER,
            ..STEP
        },
    ],
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let schema = database::Schema::create("saga").await?;
    let told = tell(&schema.pool).await;
    schema.drop().await?;
    told
}

async fn tell(pool: &PgPool) -> anyhow::Result<()> {
    outbox::migrator().run(pool).await?;
    holdfast::saga::migrator().run(pool).await?;
    let mut program = Program::start(pool)?;

    println!("1. Every participant does its step.");
    program.place(World::Well).await?;

    println!("\n2. Out of stock. The steps that are done are compensated, in reverse.");
    program.place(World::OutOfStock).await?;

    println!(
        "\n3. Payment charges, and its reply is lost. The command is resent under the same key, which payment knows."
    );
    program.place(World::AnswerLost).await?;

    println!(
        "\n4. The process dies while it applies a reply. Log, state and next command are one transaction: all gone."
    );
    println!("   The reply was not acknowledged, so it is delivered again.");
    program.dies_at_next_answer = true;
    let crashed = program.place(World::Well).await?;

    println!(
        "\n5. Out of stock, and the refund is refused: only an operator can help. The saga is stuck, and says so."
    );
    let stuck = program.place(World::RefundRefused).await?;
    println!("   Olivia repairs the account, and resumes it:");
    program.resume(stuck, "account reopened").await?;

    println!("\nThe log of the saga in 4. Nothing else is kept, and nothing of it in memory:");
    program.print_log(crashed).await?;
    program.stop().await
}

/// An orchestrator: applies replies, and resends commands that are overdue.
struct Program {
    pool: PgPool,
    executor: Executor<Order, Command>,
    participants: Participants,
    answers: mpsc::UnboundedReceiver<(Uuid, Heard)>,
    waker: Waker,
    shutdown: CancellationToken,
    relay: tokio::task::JoinHandle<()>,
    dies_at_next_answer: bool,
}

impl Program {
    fn start(pool: &PgPool) -> anyhow::Result<Self> {
        let (answer, answers) = mpsc::unbounded_channel();
        let participants = Participants::new(answer);
        let waker = Waker::default();
        let relay = Relay::new(
            pool.clone(),
            participants.clone(),
            waker.clone(),
            outbox::Config::default(),
        );
        let shutdown = CancellationToken::new();
        Ok(Self {
            pool: pool.clone(),
            // A twentieth of every timeout, so that the example is short. 1.0 in production.
            executor: Executor::new(&[&PLACE_ORDER], 0.05)?,
            relay: tokio::spawn(relay.run(shutdown.clone())),
            participants,
            answers,
            waker,
            shutdown,
            dies_at_next_answer: false,
        })
    }

    /// Places an order, and runs its saga until it is at rest.
    async fn place(&mut self, world: World) -> anyhow::Result<Uuid> {
        self.participants.is_now(world);
        // In a shop the id follows from the order's: then an order starts one saga, however often it is requested.
        let id = Uuid::now_v7();
        let start = Start {
            id,
            definition: PLACE_ORDER.name,
            subject: format!("order {id}"),
            data: Order {
                cents: 690,
                sku: "TEA-EARL-GREY".to_owned(),
            },
            traceparent: None,
            tracestate: None,
        };
        let mut tx = transaction::begin(&self.pool).await?;
        self.executor
            .start(&mut tx, &[start], &mut dispatch)
            .await?;
        self.commit(tx).await?;
        self.carry_on().await?;
        Ok(id)
    }

    /// Runs until a saga ends, or is stuck.
    async fn carry_on(&mut self) -> anyhow::Result<()> {
        let mut sweep = interval(Duration::from_millis(20));
        loop {
            let applied = tokio::select! {
                answer = self.answers.recv() => self.hear(answer.context("the relay is gone")?).await?,
                _ = sweep.tick() => self.sweep().await?,
            };
            if let Some(ended) = applied.ended.first() {
                println!("   {}", ended.end.name());
                return Ok(());
            }
            if let Some((_, why)) = applied.stuck.first() {
                println!("   stuck: {why}");
                return Ok(());
            }
        }
    }

    /// Applies a reply, as a consumer does.
    async fn hear(&mut self, answer: (Uuid, Heard)) -> anyhow::Result<Applied> {
        if std::mem::take(&mut self.dies_at_next_answer) {
            let mut tx = transaction::begin(&self.pool).await?;
            self.executor
                .apply(&mut tx, std::slice::from_ref(&answer), &mut dispatch)
                .await?;
            drop(tx);
            println!("   (dies before the commit)");
        }
        let mut tx = transaction::begin(&self.pool).await?;
        let applied = self
            .executor
            .apply(&mut tx, &[answer], &mut dispatch)
            .await?;
        self.commit(tx).await?;
        Ok(applied)
    }

    /// Looks for overdue commands, as a worker does at intervals.
    async fn sweep(&self) -> anyhow::Result<Applied> {
        // The time for which replies could have arrived. Here they always could; with a broker, only while connected to
        // it.
        let heard_for = Duration::from_secs(3600);
        let mut tx = transaction::begin(&self.pool).await?;
        let (_, applied) = self
            .executor
            .sweep(&mut tx, 100, heard_for, &mut dispatch)
            .await?;
        self.commit(tx).await?;
        Ok(applied)
    }

    async fn resume(&mut self, id: Uuid, note: &str) -> anyhow::Result<()> {
        self.participants.is_now(World::OutOfStock);
        let by = By {
            operator: "olivia".to_owned(),
            note: note.to_owned(),
        };
        let mut tx = transaction::begin(&self.pool).await?;
        self.executor
            .operate(&mut tx, id, Action::Resume, &by, &mut dispatch)
            .await?;
        self.commit(tx).await?;
        self.carry_on().await
    }

    async fn commit(&self, tx: Transaction) -> sqlx::Result<()> {
        tx.commit().await?;
        self.waker.wake();
        Ok(())
    }

    async fn print_log(&self, id: Uuid) -> anyhow::Result<()> {
        let mut conn = self.pool.acquire().await?;
        let history = self.executor.history(&mut conn, id).await?;
        for entry in history.context("it was started")?.log {
            let effect = entry.effect.unwrap_or_default();
            println!("   {}. {:<28} {}", entry.seq, effect, entry.input);
        }
        Ok(())
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        Ok(self.relay.await?)
    }
}

/// Puts a command into a message: the one thing that the executor leaves to its user.
fn dispatch(outgoing: &Outgoing<'_>, command: Command) -> Message {
    Message {
        // New for each send; the key in the headers stays the same.
        id: Uuid::now_v7(),
        exchange: "commands".to_owned(),
        routing_key: outgoing.step.to_owned(),
        headers: [
            ("key".to_owned(), outgoing.key()),
            ("attempt".to_owned(), outgoing.attempt.to_string()),
        ]
        .into(),
        payload: serde_json::to_vec(&command).expect("a command is JSON"),
    }
}
