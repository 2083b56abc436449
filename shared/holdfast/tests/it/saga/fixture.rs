//! A program without a broker: its commands stay in the outbox, and each test makes up the replies.

use std::time::Duration;

use holdfast::{
    outbox::Message,
    saga::{
        Action, Answer, Applied, By, Definition, Direction, Error, Executor, Heard, Input, Key,
        Outcome, Outgoing, Phase, Start, State, migrator, replay,
    },
    transaction::{self, Transaction},
};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use testkit::eventually;
use time::OffsetDateTime;
use uuid::Uuid;

use super::definitions::{BOOK, Command, REFUND, Trip, start};
use crate::helpers::database;

/// A command that waits in the outbox.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) message: Uuid,
    pub(crate) saga: Uuid,
    /// Step and direction, the rest of the key: `hotel/do`.
    pub(crate) asks: String,
    pub(crate) attempt: u32,
    pub(crate) command: Command,
}

/// Writes a command as an outbox message.
pub(crate) fn dispatch(outgoing: &Outgoing<'_>, command: Command) -> Message {
    let headers = [
        ("key".to_owned(), outgoing.key()),
        ("attempt".to_owned(), outgoing.attempt.to_string()),
    ];
    Message {
        id: Uuid::now_v7(),
        exchange: "commands".to_owned(),
        routing_key: outgoing.step.to_owned(),
        headers: headers.into(),
        payload: serde_json::to_vec(&command).expect("it can be written"),
    }
}

/// A program and its database.
pub(crate) struct Program {
    pub(crate) pool: PgPool,
    pub(crate) executor: Executor<Trip, Command>,
    knows: Vec<&'static Definition<Trip, Command>>,
}

impl Program {
    /// Creates a program with a database of its own.
    pub(crate) async fn new() -> Self {
        let (_, pool) = database("saga").await;
        migrator().run(&pool).await.expect("the migrations run");
        Self::on(&pool, &[&BOOK, &REFUND])
    }

    /// Creates a program with other definitions on the same database.
    pub(crate) fn knowing(&self, definitions: &[&'static Definition<Trip, Command>]) -> Self {
        Self::on(&self.pool, definitions)
    }

    fn on(pool: &PgPool, definitions: &[&'static Definition<Trip, Command>]) -> Self {
        Self {
            pool: pool.clone(),
            executor: Executor::new(definitions, 1.0).expect("valid definitions"),
            knows: definitions.to_vec(),
        }
    }

    pub(crate) async fn begin(&self) -> Transaction {
        transaction::begin(&self.pool).await.expect("a transaction")
    }

    /// Starts booking trips, and returns what was decided.
    pub(crate) async fn start(&self, ids: &[Uuid]) -> Applied {
        self.start_as(ids, "book_trip").await
    }

    pub(crate) async fn start_as(&self, ids: &[Uuid], definition: &'static str) -> Applied {
        let starts: Vec<Start<Trip>> = ids
            .iter()
            .map(|id| start(*id, definition, "Lisbon"))
            .collect();
        let mut tx = self.begin().await;
        let (new, applied) = self
            .executor
            .start(&mut tx, &starts, &mut dispatch)
            .await
            .expect("it starts");
        tx.commit().await.expect("a commit");
        assert_eq!(new.len(), ids.len());
        applied
    }

    /// Starts a saga, and has each of `steps` carried out.
    pub(crate) async fn started(&self, steps: &[&str]) -> Uuid {
        let id = Uuid::now_v7();
        self.start(&[id]).await;
        for step in steps {
            self.hears(id, does(step, Direction::Do)).await;
        }
        self.sent().await;
        id
    }

    /// Returns a saga that is stuck because its hotel refuses to cancel.
    pub(crate) async fn stuck(&self) -> Uuid {
        let id = self.started(&["hotel"]).await;
        self.hears(id, refuses("car", Direction::Do)).await;
        let applied = self.hears(id, refuses("hotel", Direction::Undo)).await;
        assert_eq!(
            applied.stuck,
            [(id, "refused: hotel.refused (whatever)".to_owned())]
        );
        self.sent().await;
        id
    }

    pub(crate) async fn hears(&self, id: Uuid, heard: Heard) -> Applied {
        self.hears_all(&[(id, heard)]).await
    }

    pub(crate) async fn hears_all(&self, inputs: &[(Uuid, Heard)]) -> Applied {
        let mut tx = self.begin().await;
        let applied = self
            .executor
            .apply(&mut tx, inputs, &mut dispatch)
            .await
            .expect("it is taken in");
        tx.commit().await.expect("a commit");
        applied
    }

    /// Sweeps as if messages had come in for `heard_for` seconds.
    pub(crate) async fn sweeps(&self, heard_for: u64) -> (usize, Applied) {
        let heard_for = Duration::from_secs(heard_for);
        let mut tx = self.begin().await;
        let swept = self
            .executor
            .sweep(&mut tx, 100, heard_for, &mut dispatch)
            .await
            .expect("it sweeps");
        tx.commit().await.expect("a commit");
        swept
    }

    /// Makes the reply that a saga awaits overdue.
    pub(crate) async fn is_late(&self, id: Uuid) {
        let late = sqlx::query("update saga set due_at = now() - interval '1 millisecond' where id = $1 and due_at is not null")
            .bind(id)
            .execute(&self.pool)
            .await
            .expect("the table is there");
        assert_eq!(late.rows_affected(), 1, "nothing is awaited");
    }

    /// Makes a saga's reply overdue, and sweeps.
    pub(crate) async fn times_out(&self, id: Uuid) -> Applied {
        self.is_late(id).await;
        let (found, applied) = self.sweeps(3600).await;
        assert_eq!(found, 1);
        applied
    }

    pub(crate) async fn operates(&self, id: Uuid, action: Action) -> Result<Applied, Error> {
        let mut tx = self.begin().await;
        let by = By {
            operator: "olivia".to_owned(),
            note: format!("{} it", action.name()),
        };
        let applied = self
            .executor
            .operate(&mut tx, id, action, &by, &mut dispatch)
            .await?;
        tx.commit().await.expect("a commit");
        Ok(applied)
    }

    /// Takes all commands out of the outbox.
    pub(crate) async fn sent(&self) -> Vec<Sent> {
        sent(&mut self.pool.acquire().await.expect("a connection")).await
    }

    /// Takes all commands out of the outbox, and returns step, direction and attempt: `hotel/do 1`.
    pub(crate) async fn asks(&self) -> Vec<String> {
        let sent = self.sent().await;
        sent.iter()
            .map(|sent| format!("{} {}", sent.asks, sent.attempt))
            .collect()
    }

    pub(crate) async fn row(&self, id: Uuid) -> SagaRow {
        sqlx::query_as("select * from saga where id = $1")
            .bind(id)
            .fetch_one(&self.pool)
            .await
            .expect("it is there")
    }

    /// Returns a saga's wait for the current reply, in milliseconds.
    pub(crate) async fn waits(&self, id: Uuid) -> i64 {
        sqlx::query_scalar("select round(wait_seconds * 1000)::int8 from saga where id = $1")
            .bind(id)
            .fetch_one(&self.pool)
            .await
            .expect("it is there")
    }

    /// Returns a saga's phase and current command: `running hotel/do 1`.
    pub(crate) async fn stands(&self, id: Uuid) -> String {
        let row = self.row(id).await;
        match (row.step, row.direction) {
            (Some(step), Some(direction)) => {
                format!("{} {step}/{direction} {}", row.phase, row.attempt)
            }
            _ => row.phase,
        }
    }

    pub(crate) async fn log(&self, id: Uuid) -> Vec<(Value, Option<String>)> {
        sqlx::query_as("select input, effect from saga_log where saga_id = $1 order by seq")
            .bind(id)
            .fetch_all(&self.pool)
            .await
            .expect("the table is there")
    }

    /// Returns the operators' actions on a saga: `olivia: resume hotel: resume it`.
    pub(crate) async fn actions(&self, id: Uuid) -> Vec<String> {
        sqlx::query_scalar(
            "select operator || ': ' || action || ' ' || step || ': ' || note from saga_deed where saga_id = $1 order by id",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .expect("the table is there")
    }

    pub(crate) async fn execute(&self, sql: &'static str, id: Uuid) {
        let done = sqlx::query(sql)
            .bind(id)
            .execute(&self.pool)
            .await
            .expect(sql);
        assert!(done.rows_affected() > 0, "{sql}: of nothing");
    }

    /// Returns the numbers of sagas, log entries, operator actions and messages.
    pub(crate) async fn rows(&self) -> [i64; 4] {
        let (sagas, logs, actions, messages) = sqlx::query_as(
            "select (select count(*) from saga), (select count(*) from saga_log), (select count(*) from saga_deed),
                    (select count(*) from outbox)",
        )
        .fetch_one(&self.pool)
        .await
        .expect("the tables are there");
        [sagas, logs, actions, messages]
    }

    /// Checks, at the end of each test, that every saga's stored state is what its log leads to, and that its columns
    /// follow from its state. Of a broken saga only the columns about that can be checked.
    pub(crate) async fn is_consistent(&self) {
        let rows: Vec<SagaRow> = sqlx::query_as("select * from saga")
            .fetch_all(&self.pool)
            .await
            .expect("sagas");
        assert!(!rows.is_empty(), "a test without a saga");
        for row in rows {
            let id = row.id;
            if row.phase == "broken" {
                // A broken saga has an error and is not due; its other columns may hold anything.
                let told = (row.error.is_some(), row.stuck_since.is_some(), row.due_at);
                assert_eq!(told, (true, true, None), "{id}: broken");
                continue;
            }
            let known = self.knows.iter().find(|definition| {
                (definition.name, i64::from(definition.version))
                    == (&*row.definition, i64::from(row.definition_version))
            });
            let plan = known
                .unwrap_or_else(|| panic!("no known definition of {row:?}"))
                .plan();
            let log = self.log(id).await.into_iter().map(|(input, _)| input);
            let log: Vec<Input> = log
                .map(|input| serde_json::from_value(input).expect("an input"))
                .collect();
            let state: State = serde_json::from_value(row.state.clone()).expect("a state");
            assert_eq!(
                replay(&plan, &log).as_ref(),
                Ok(&state),
                "{id}: the log leads elsewhere"
            );
            assert_eq!(usize::try_from(row.entries), Ok(log.len()), "{id}: entries");
            assert_eq!(row.phase, state.name(), "{id}");
            assert_eq!(
                u32::try_from(row.attempt),
                Ok(state.attempt),
                "{id}: attempts"
            );
            assert_eq!(row.error, state.error, "{id}");
            let in_hand = (!state.is_ended()).then(|| {
                (
                    plan.steps[state.step].name.to_owned(),
                    state.direction.name().to_owned(),
                )
            });
            assert_eq!(
                row.step.zip(row.direction),
                in_hand,
                "{id}: the current step"
            );
            assert_eq!(
                row.due_at.is_some(),
                state.phase == Phase::Active,
                "{id}: awaits {:?}",
                row.due_at
            );
            assert_eq!(
                row.stuck_since.is_some(),
                state.phase == Phase::Stuck,
                "{id}: since {:?}",
                row.stuck_since
            );
        }
    }
}

/// A saga's row, without the columns that never change.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct SagaRow {
    pub(crate) id: Uuid,
    pub(crate) definition: String,
    pub(crate) definition_version: i32,
    pub(crate) state: Value,
    pub(crate) phase: String,
    pub(crate) step: Option<String>,
    pub(crate) direction: Option<String>,
    pub(crate) attempt: i32,
    pub(crate) due_at: Option<OffsetDateTime>,
    pub(crate) wait_seconds: f64,
    pub(crate) error: Option<String>,
    pub(crate) stuck_since: Option<OffsetDateTime>,
    pub(crate) entries: i32,
    pub(crate) updated_at: OffsetDateTime,
}

/// Takes all commands that this connection sees out of the outbox.
pub(crate) async fn sent(conn: &mut PgConnection) -> Vec<Sent> {
    let rows: Vec<(Uuid, String, String, Vec<u8>)> = sqlx::query_as(
        "with taken as (delete from outbox returning *)
         select message_id, headers ->> 'key', headers ->> 'attempt', payload from taken order by seq",
    )
    .fetch_all(conn)
    .await
    .expect("the table is there");
    rows.into_iter()
        .map(|(message, key, attempt, payload)| {
            let Key {
                saga,
                step,
                direction,
            } = key.parse().expect("a key");
            Sent {
                message,
                saga,
                asks: format!("{step}/{}", direction.name()),
                attempt: attempt.parse().expect("a number"),
                command: serde_json::from_slice(&payload).expect("a command"),
            }
        })
        .collect()
}

fn reply(step: &str, direction: Direction, outcome: Outcome, answer: Answer) -> Heard {
    Heard::Reply {
        step: step.to_owned(),
        direction,
        outcome,
        answer,
    }
}

/// Returns a reply that the command was carried out.
pub(crate) fn does(step: &str, direction: Direction) -> Heard {
    reply(
        step,
        direction,
        Outcome::Done,
        Answer::new(format!("{step}.{}", direction.name())),
    )
}

/// Returns a refusal of the command.
pub(crate) fn refuses(step: &str, direction: Direction) -> Heard {
    let answer = Answer::new(format!("{step}.refused")).because("whatever");
    reply(step, direction, Outcome::Refused, answer)
}

/// Returns a cancel by the traveller.
pub(crate) fn cancel() -> Heard {
    Heard::Cancel {
        reason: "ill".to_owned(),
    }
}

/// Waits until a connection to the test's database waits for a lock.
pub(crate) async fn wait_for_a_lock(program: &Program) {
    eventually("a connection that waits for another", || async {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(&program.pool)
        .await
        .expect("it can be asked");
        if waiting > 0 { Ok(()) } else { Err("no connection waits") }
    })
    .await;
}
