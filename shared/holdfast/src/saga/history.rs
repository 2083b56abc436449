//! What operators see of sagas.

use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    definition::View,
    executor::Executor,
    plan::Plan,
    saved::{self, Saved, Unreadable},
    state::{Direction, Input, Mark, State},
    store::{self, Deed, EntryRow, Row},
    transition::{Effect, asked_or_written_off, is_to_undo, transition},
};

/// A saga, on one line.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its id.
    pub id: Uuid,
    /// Its definition.
    pub definition: String,
    /// Of which version.
    pub version: i32,
    /// What it is about.
    pub subject: String,
    /// running, compensating, stuck, broken, completed, compensated, abandoned.
    pub phase: String,
    /// The step in hand, and what it was asked.
    pub step: Option<String>,
    /// do, undo or settle.
    pub direction: Option<String>,
    /// How often.
    pub attempt: i32,
    /// When its answer is overdue.
    pub due_at: Option<OffsetDateTime>,
    /// Why it is stuck, or broken.
    pub error: Option<String>,
    /// Since when.
    pub stuck_since: Option<OffsetDateTime>,
    /// When it began.
    pub created_at: OffsetDateTime,
    /// When something last happened.
    pub updated_at: OffsetDateTime,
}

/// A saga, whole.
#[derive(Clone, Debug)]
pub struct History {
    /// On one line.
    pub summary: Summary,
    /// What it was started with.
    pub data: serde_json::Value,
    /// Its steps; none, if it cannot be read.
    pub steps: Vec<StepHistory>,
    /// What remains to be done, or undone: steps and what they will be asked.
    pub remaining: Vec<(&'static str, Direction)>,
    /// Why it is undone: the step, and the cause in words.
    pub cause: Option<(&'static str, String)>,
    /// Its log, as it is.
    pub log: Vec<Entry>,
    /// What operators did.
    pub deeds: Vec<Deed>,
}

/// A step of a saga.
#[derive(Clone, Debug)]
pub struct StepHistory {
    /// Its name.
    pub name: &'static str,
    /// What became of it.
    pub mark: Mark,
    /// What it was asked, in order.
    pub asks: Vec<Ask>,
}

/// Something that a step was asked, until it answered.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What.
    pub asked: Direction,
    /// How often.
    pub attempts: u32,
    /// When first.
    pub first_at: OffsetDateTime,
    /// When it answered.
    pub answered_at: Option<OffsetDateTime>,
    /// What it answered.
    pub answer: Option<String>,
    /// The command.
    pub payload: serde_json::Value,
}

/// An entry of a log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place.
    pub seq: i32,
    /// What happened.
    pub input: serde_json::Value,
    /// What followed from it.
    pub effect: Option<String>,
    /// When, on the database's clock.
    pub at: OffsetDateTime,
}

/// Which sagas to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In these phases; in any, if `None`.
    pub phases: Option<Vec<String>>,
    /// About this; about anything, if `None`.
    pub subject: Option<String>,
    /// The last one of the page before.
    pub before: Option<Uuid>,
    /// How many.
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

/// Sagas, newest first.
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
    /// A saga, whole; `None`, if there is no such one. Also one that cannot be read: then without its steps.
    pub async fn history(
        &self,
        conn: &mut PgConnection,
        id: Uuid,
    ) -> sqlx::Result<Option<History>> {
        let Some(row) = store::find(&mut *conn, id).await? else {
            return Ok(None);
        };
        let log = store::log(&mut *conn, id).await?;
        let deeds = store::deeds(&mut *conn, id).await?;
        let mut history = History {
            summary: Summary::from(&row),
            data: row.data.clone(),
            steps: Vec::new(),
            remaining: Vec::new(),
            cause: None,
            deeds,
            log: Vec::new(),
        };
        match self.read(conn, &row).await? {
            Ok(saga) => tell(&mut history, &saga, &log),
            // Said even if nobody has come across it yet.
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

/// Tells a saga's steps by going through its log once more.
fn tell<D, C: Serialize>(history: &mut History, saga: &Saved<'_, D, C>, log: &[EntryRow]) {
    let plan = saga.plan;
    history.remaining = remaining(plan, &saga.state);
    history.cause = saga
        .view()
        .cause()
        .map(|(step, cause)| (step, cause.to_string()));
    let mut asks: Vec<Vec<Ask>> = vec![Vec::new(); plan.steps.len()];
    let mut state = State::new(plan);
    // A log that cannot be read is shown as it is; the state is what counts.
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
        if let Some(Effect::Send { step, asked, .. }) = decision.effect {
            match asks[step].last_mut() {
                Some(ask) if ask.asked == asked && ask.answered_at.is_none() => ask.attempts += 1,
                _ => {
                    let view = View {
                        data: &saga.data,
                        plan,
                        state: &state,
                    };
                    let payload = saga.payload(step, asked).map(|payload| payload(&view));
                    asks[step].push(Ask {
                        asked,
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
    let marks = saga.state.marks.iter().cloned();
    let steps = plan.steps.iter().zip(marks).zip(asks);
    history.steps = steps
        .map(|((shape, mark), asks)| StepHistory {
            name: shape.name,
            mark,
            asks,
        })
        .collect();
}

/// What remains, the step in hand first.
fn remaining(plan: &Plan, state: &State) -> Vec<(&'static str, Direction)> {
    if state.is_ended() {
        return Vec::new();
    }
    let name = |step: usize| plan.steps[step].name;
    let mut remaining = vec![(name(state.at), state.asked)];
    if state.cause.is_none() {
        let later = (state.at + 1..plan.steps.len()).filter(|step| plan.steps[*step].action);
        remaining.extend(later.map(|step| {
            (
                name(step),
                asked_or_written_off(plan, state, step, Direction::Do),
            )
        }));
    } else {
        let earlier = (0..state.at)
            .rev()
            .filter(|step| is_to_undo(plan, state, *step));
        remaining.extend(earlier.map(|step| {
            (
                name(step),
                asked_or_written_off(plan, state, step, Direction::Undo),
            )
        }));
    }
    remaining
}
