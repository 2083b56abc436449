//! Reads a saga from its row: from the stored state, or from the log if the state is damaged.

use serde::de::DeserializeOwned;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    definition::{Definition, Known, Payload, View},
    plan::Plan,
    state::{Direction, Input, State},
    store::{self, EntryRow, Row},
    transition::{Effect, transition},
};

/// The phase of a saga that cannot be read.
pub(super) const BROKEN: &str = "broken";
/// The phases in which no input has an effect.
pub(super) const AT_REST: [&str; 4] = [BROKEN, "completed", "compensated", "abandoned"];

/// A saga that was read from its row.
#[derive(Debug)]
pub(super) struct Saved<'s, D: 'static, C: 'static> {
    pub(super) id: Uuid,
    pub(super) definition: &'static Definition<D, C>,
    pub(super) plan: &'s Plan,
    pub(super) subject: String,
    pub(super) data: D,
    pub(super) state: State,
    /// The number of entries in its log.
    pub(super) entries: i32,
    pub(super) traceparent: Option<String>,
    pub(super) tracestate: Option<String>,
    pub(super) created_at: OffsetDateTime,
    /// Set if the row is to be written.
    pub(super) changed: bool,
}

impl<D, C> Saved<'_, D, C> {
    /// Returns the input of the payload functions.
    pub(super) fn view(&self) -> View<'_, D> {
        View {
            data: &self.data,
            plan: self.plan,
            state: &self.state,
        }
    }

    /// Returns the function that makes a step's command; `None` if there is no such step or command.
    pub(super) fn payload(&self, step: usize, direction: Direction) -> Option<Payload<D, C>> {
        self.definition.steps.get(step)?.payload(direction)
    }

    /// Returns the effect in words, as it is written to the log.
    pub(super) fn describe(&self, effect: Effect) -> String {
        match effect {
            Effect::Send {
                step,
                direction,
                attempt,
            } => {
                format!(
                    "send {}/{}, attempt {attempt}",
                    self.plan.steps[step].name,
                    direction.name()
                )
            }
            Effect::Stuck => "stuck".to_owned(),
            Effect::End(end) => end.name().to_owned(),
        }
    }
}

/// The reason why a saga cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub(super) String);

/// Recovers the state from a log. Returns an error if the log cannot have been written by [`transition`].
pub fn replay(plan: &Plan, inputs: &[Input]) -> Result<State, String> {
    let mut state = State::new(plan);
    for (place, input) in inputs.iter().enumerate() {
        let decision = transition(plan, &state, input)
            .map_err(|error| format!("entry {} of the log: {error}", place + 1))?;
        if decision.state == state && decision.effect.is_none() {
            return Err(format!("entry {} of the log changes nothing", place + 1));
        }
        state = decision.state;
    }
    Ok(state)
}

/// Checks that a log has all its entries. A log without its end would lead back to an earlier state, from which the
/// saga might go on in another way.
fn whole(log: &[EntryRow], entries: i32) -> Result<(), String> {
    if log.iter().map(|entry| entry.seq).eq(1..=entries) {
        Ok(())
    } else {
        Err(format!(
            "its {} entries are not numbered 1 to {entries}",
            log.len()
        ))
    }
}

/// Decodes the inputs of a log.
pub(super) fn inputs(log: &[EntryRow], plan: &Plan) -> Result<Vec<Input>, String> {
    let in_plan = |input: &Input| match input {
        Input::Reply { step, .. } | Input::TimedOut { step, .. } => *step < plan.steps.len(),
        Input::Start | Input::Cancel { .. } | Input::Operator { .. } => true,
    };
    log.iter()
        .map(|entry| {
            let input: Input = serde_json::from_value(entry.input.clone())
                .map_err(|error| format!("entry {} of the log: {error}", entry.seq))?;
            if in_plan(&input) {
                Ok(input)
            } else {
                Err(format!(
                    "entry {} of the log names a step that does not exist",
                    entry.seq
                ))
            }
        })
        .collect()
}

/// Reads a row, under its definition among the `known` ones. A damaged state is rebuilt from the log.
pub(super) async fn read<'s, D: DeserializeOwned + 'static, C: 'static>(
    known: &'s [Known<D, C>],
    conn: &mut PgConnection,
    row: &Row,
) -> sqlx::Result<Result<Saved<'s, D, C>, Unreadable>> {
    let unreadable = |error: String| Ok(Err(Unreadable(error)));
    let known = known.iter().find(|known| {
        known.definition.name == row.definition
            && i64::from(known.definition.version) == i64::from(row.definition_version)
    });
    let Some(known) = known else {
        return unreadable(format!(
            "this program has no definition {} of version {}",
            row.definition, row.definition_version
        ));
    };
    let data: D = match serde_json::from_value(row.data.clone()) {
        Ok(data) => data,
        Err(error) => return unreadable(format!("data: {error}")),
    };
    let stored = serde_json::from_value::<State>(row.state.clone())
        .ok()
        .filter(|state| state.fits(&known.plan) && (state.attempt > 0) == (row.entries > 0));
    let state = if let Some(state) = stored {
        state
    } else {
        let log = store::log(&mut *conn, row.id).await?;
        let replayed = whole(&log, row.entries)
            .and_then(|()| inputs(&log, &known.plan))
            .and_then(|inputs| replay(&known.plan, &inputs));
        match replayed {
            Ok(state) if state.attempt > 0 => state,
            Ok(_) => {
                return unreadable("the state is damaged, and the log is empty".to_owned());
            }
            Err(error) => {
                return unreadable(format!("the state is damaged, and so is the log: {error}"));
            }
        }
    };
    Ok(Ok(Saved {
        id: row.id,
        definition: known.definition,
        plan: &known.plan,
        subject: row.subject.clone(),
        data,
        state,
        entries: row.entries,
        traceparent: row.traceparent.clone(),
        tracestate: row.tracestate.clone(),
        created_at: row.created_at,
        changed: false,
    }))
}
