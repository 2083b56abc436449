//! The operators' view of sagas.

use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    definition::View,
    executor::Executor,
    plan::Plan,
    saved::{self, Saved, Unreadable},
    state::{Direction, Input, State, Status},
    store::{self, EntryRow, OperatorAction, Row},
    transition::{Effect, is_to_undo, next_direction, transition},
};

/// A saga in one line.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The saga's id.
    pub id: Uuid,
    /// The name of its definition.
    pub definition: String,
    /// The version of its definition.
    pub version: i32,
    /// The subject that the saga was started with, e.g. an order's id.
    pub subject: String,
    /// One of running, compensating, stuck, broken, completed, compensated, abandoned.
    pub phase: String,
    /// The current step; `None` once the saga has ended.
    pub step: Option<String>,
    /// The direction of the current command: do, undo or settle.
    pub direction: Option<String>,
    /// The attempts of the current command so far.
    pub attempt: i32,
    /// The time at which the reply is overdue; `None` if no reply is awaited.
    pub due_at: Option<OffsetDateTime>,
    /// The reason why the saga is stuck or broken.
    pub error: Option<String>,
    /// The time since which it has been stuck or broken.
    pub stuck_since: Option<OffsetDateTime>,
    /// The time of its start.
    pub created_at: OffsetDateTime,
    /// The time of its latest change.
    pub updated_at: OffsetDateTime,
}

/// A saga with its steps, log and operator actions.
#[derive(Clone, Debug)]
pub struct History {
    /// The saga in one line.
    pub summary: Summary,
    /// The data that it was started with.
    pub data: serde_json::Value,
    /// Its steps, in order; empty if the saga cannot be read.
    pub steps: Vec<StepHistory>,
    /// The remaining steps and their directions, the current one first.
    pub remaining: Vec<(&'static str, Direction)>,
    /// The cause for which the saga turned around: the step, and the cause in words.
    pub cause: Option<(&'static str, String)>,
    /// Its log, as stored.
    pub log: Vec<Entry>,
    /// The operators' actions, in order.
    pub actions: Vec<OperatorAction>,
}

/// A step of a saga.
#[derive(Clone, Debug)]
pub struct StepHistory {
    /// The step's name.
    pub name: &'static str,
    /// The step's status.
    pub status: Status,
    /// The commands that the step was sent, in order.
    pub asks: Vec<Ask>,
}

/// A command that a step was sent, with its resends and its reply.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The command's direction.
    pub direction: Direction,
    /// The attempts so far, at least 1.
    pub attempts: u32,
    /// The time of the first attempt.
    pub first_at: OffsetDateTime,
    /// The time of the reply; `None` without one.
    pub answered_at: Option<OffsetDateTime>,
    /// The reply, in words.
    pub answer: Option<String>,
    /// The command's payload.
    pub payload: serde_json::Value,
}

/// An entry of a log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The entry's number; 1 is the first.
    pub seq: i32,
    /// The input, as stored.
    pub input: serde_json::Value,
    /// The effect of the input, in words.
    pub effect: Option<String>,
    /// The time of the entry, on the database's clock.
    pub at: OffsetDateTime,
}

/// The selection of sagas to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only sagas in these phases; `None` for any.
    pub phases: Option<Vec<String>>,
    /// Only sagas with this subject; `None` for any.
    pub subject: Option<String>,
    /// The last saga of the previous page; the list continues after it.
    pub before: Option<Uuid>,
    /// The maximum number of sagas to return.
    pub limit: i64,
}

impl From<&Row> for Summary {
    fn from(row: &Row) -> Self {
        let row = row.clone();
        Self {
            id: row.id,
            definition: row.definition,
            version: row.definition_version,
            subject: row.subject,
            phase: row.phase,
            step: row.step,
            direction: row.direction,
            attempt: row.attempt,
            due_at: row.due_at,
            error: row.error,
            stuck_since: row.stuck_since,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Returns the sagas that the filter selects, newest first. Cancel safe: it only reads.
pub async fn list(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<Vec<Summary>> {
    let (phases, subject) = (filter.phases.as_deref(), filter.subject.as_deref());
    let rows = store::list(conn, phases, subject, filter.before, filter.limit).await?;
    Ok(rows.iter().map(Summary::from).collect())
}

impl<D, C> Executor<D, C>
where
    D: Serialize + DeserializeOwned + Send + Sync,
    C: Serialize + Send,
{
    /// Returns a saga with its history, or `None` if it does not exist. A saga that cannot be read is returned without
    /// its steps. Cancel safe: it only reads.
    pub async fn history(
        &self,
        conn: &mut PgConnection,
        id: Uuid,
    ) -> sqlx::Result<Option<History>> {
        let Some(row) = store::find(&mut *conn, id).await? else {
            return Ok(None);
        };
        let log = store::log(&mut *conn, id).await?;
        let actions = store::actions(&mut *conn, id).await?;
        let mut history = History {
            summary: Summary::from(&row),
            data: row.data.clone(),
            steps: Vec::new(),
            remaining: Vec::new(),
            cause: None,
            actions,
            log: Vec::new(),
        };
        match saved::read(&self.known, conn, &row).await? {
            Ok(saga) => tell(&mut history, &saga, &log),
            // A damaged row is reported even before the executor has marked it broken.
            Err(Unreadable(error)) => {
                history.summary.error.get_or_insert(error);
            }
        }
        history.log = log.into_iter().map(Entry::from).collect();
        Ok(Some(history))
    }
}

impl From<EntryRow> for Entry {
    fn from(row: EntryRow) -> Self {
        Self {
            seq: row.seq,
            input: row.input,
            effect: row.effect,
            at: row.at,
        }
    }
}

/// Fills in a saga's steps by replaying its log.
fn tell<D, C: Serialize>(history: &mut History, saga: &Saved<'_, D, C>, log: &[EntryRow]) {
    let plan = saga.plan;
    history.remaining = remaining(plan, &saga.state);
    history.cause = saga
        .view()
        .cause()
        .map(|(step, cause)| (step, cause.to_string()));
    let mut asks: Vec<Vec<Ask>> = vec![Vec::new(); plan.steps.len()];
    let mut state = State::new(plan);
    // A log that cannot be decoded is shown as it is; the stored state is authoritative.
    for (input, entry) in saved::inputs(log, plan).unwrap_or_default().iter().zip(log) {
        let Ok(decision) = transition(plan, &state, input) else {
            break;
        };
        if let (Input::Reply { step, answer, .. }, true) = (input, decision.state != state)
            && let Some(ask) = asks[*step].last_mut()
        {
            ask.answered_at = Some(entry.at);
            ask.answer = Some(answer.to_string());
        }
        state = decision.state;
        if let Some(Effect::Send {
            step, direction, ..
        }) = decision.effect
        {
            match asks[step].last_mut() {
                Some(ask) if ask.direction == direction && ask.answered_at.is_none() => {
                    ask.attempts += 1;
                }
                _ => {
                    let view = View {
                        data: &saga.data,
                        plan,
                        state: &state,
                    };
                    let payload = saga.payload(step, direction).map(|payload| payload(&view));
                    asks[step].push(Ask {
                        direction,
                        attempts: 1,
                        first_at: entry.at,
                        answered_at: None,
                        answer: None,
                        payload: serde_json::to_value(payload).unwrap_or_default(),
                    });
                }
            }
        }
    }
    let statuses = saga.state.statuses.iter().cloned();
    let steps = plan.steps.iter().zip(statuses).zip(asks);
    history.steps = steps
        .map(|((shape, status), asks)| StepHistory {
            name: shape.name,
            status,
            asks,
        })
        .collect();
}

/// Returns the remaining steps, the current one first.
fn remaining(plan: &Plan, state: &State) -> Vec<(&'static str, Direction)> {
    if state.is_ended() {
        return Vec::new();
    }
    let name = |step: usize| plan.steps[step].name;
    let mut remaining = vec![(name(state.step), state.direction)];
    if state.cause.is_none() {
        let later = (state.step + 1..plan.steps.len()).filter(|step| plan.steps[*step].action);
        remaining.extend(
            later.map(|step| (name(step), next_direction(plan, state, step, Direction::Do))),
        );
    } else {
        let earlier = (0..state.step)
            .rev()
            .filter(|step| is_to_undo(plan, state, *step));
        remaining.extend(earlier.map(|step| {
            (
                name(step),
                next_direction(plan, state, step, Direction::Undo),
            )
        }));
    }
    remaining
}
