//! Carries out what [`transition`] decides: writes log, state and commands in the transaction that handles the input.

use std::{
    collections::{BTreeMap, HashSet},
    ops::RangeInclusive,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, migrate::Migrator};
use uuid::Uuid;

use super::{
    definition::{Definition, Invalid, Known},
    interface::{Applied, Dispatch, Ended, Error, Outgoing, Start},
    saved::{self, Saved, Unreadable},
    state::{Action, By, Heard, Input, Phase, State},
    store::{self, NewEntry, NewRow, Row, Update},
    transition::{Effect, NotStuck, transition},
};
use crate::outbox;

/// Returns the migrations of the tables `saga`, `saga_log` and `saga_deed`, which keep a record of their own
/// (`_saga_migrations`).
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("src/saga/migrations");
    migrator.dangerous_set_table_name("_saga_migrations");
    migrator
}

/// The factors by which timeouts may be multiplied.
const PACES: RangeInclusive<f64> = 0.001..=100.0;

/// An executor of sagas. It keeps nothing in memory, so any number of processes can share the work.
#[derive(Debug)]
pub struct Executor<D: 'static, C: 'static> {
    pub(super) known: Vec<Known<D, C>>,
    /// A factor for every timeout.
    pace: f64,
}

impl<D: Serialize + DeserializeOwned + Send + Sync, C: Send> Executor<D, C> {
    /// Creates an executor. `definitions` must contain every version that a saga may still run under. `pace` multiplies
    /// every timeout; it is from 0.001 to 100, and 1.0 except in tests.
    pub fn new(definitions: &[&'static Definition<D, C>], pace: f64) -> Result<Self, Invalid> {
        if !PACES.contains(&pace) {
            return Err(Invalid::Pace(pace.to_string()));
        }
        let known = definitions.iter().enumerate().map(|(place, definition)| {
            definition.check()?;
            let (name, version) = (definition.name, definition.version);
            if definitions[..place]
                .iter()
                .any(|other| (other.name, other.version) == (name, version))
            {
                return Err(Invalid::SameVersion(name, version));
            }
            Ok(Known {
                definition,
                plan: definition.plan(),
            })
        });
        Ok(Self {
            known: known.collect::<Result<_, Invalid>>()?,
            pace,
        })
    }

    /// Returns the version of a definition under which new sagas begin.
    fn newest(&self, name: &str) -> Option<&Known<D, C>> {
        let of_name = self
            .known
            .iter()
            .filter(|known| known.definition.name == name);
        of_name.max_by_key(|known| known.definition.version)
    }

    /// Starts sagas, and returns the ids of the new ones with what was decided. Sagas that exist already are left as
    /// they are.
    ///
    /// On the caller's transaction, as the other functions: after an error, or if this is dropped, roll it back; wake
    /// the outbox's relay after the commit.
    pub async fn start(
        &self,
        conn: &mut PgConnection,
        starts: &[Start<D>],
        dispatch: &mut Dispatch<'_, C>,
    ) -> Result<(HashSet<Uuid>, Applied), Error> {
        let mut rows = BTreeMap::new();
        for start in starts {
            let known = self
                .newest(start.definition)
                .ok_or_else(|| Error::UnknownDefinition(start.definition.to_owned()))?;
            let row = NewRow {
                id: start.id,
                definition: known.definition.name,
                definition_version: i32::try_from(known.definition.version).unwrap_or(i32::MAX),
                subject: start.subject.clone(),
                data: serde_json::to_value(&start.data)?,
                state: serde_json::to_value(State::new(&known.plan))?,
                traceparent: start.traceparent.clone(),
                tracestate: start.tracestate.clone(),
            };
            // Of two starts of one saga in a batch the first counts, as it does in two batches.
            rows.entry(start.id).or_insert(row);
        }
        let rows: Vec<NewRow> = rows.into_values().collect();
        let new: HashSet<Uuid> = store::insert(conn, &rows).await?.into_iter().collect();
        let mut to_start = new.clone();
        let inputs: Vec<(usize, Uuid, What<'_>)> = starts
            .iter()
            .enumerate()
            .filter(|(_, start)| to_start.remove(&start.id))
            .map(|(place, start)| (place, start.id, What::Start))
            .collect();
        let applied = self.take_in(conn, &inputs, dispatch).await?;
        Ok((new, applied))
    }

    /// Applies a batch of inputs: locks the sagas in the order of their ids, folds the inputs over them in memory, and
    /// writes each saga once, together with its log entries and commands. On the caller's transaction, as
    /// [`Executor::start`].
    pub async fn apply(
        &self,
        conn: &mut PgConnection,
        inputs: &[(Uuid, Heard)],
        dispatch: &mut Dispatch<'_, C>,
    ) -> Result<Applied, Error> {
        let inputs: Vec<(usize, Uuid, What<'_>)> = inputs
            .iter()
            .enumerate()
            .map(|(place, (id, heard))| (place, *id, What::Heard(heard)))
            .collect();
        self.take_in(conn, &inputs, dispatch).await
    }

    async fn take_in(
        &self,
        conn: &mut PgConnection,
        inputs: &[(usize, Uuid, What<'_>)],
        dispatch: &mut Dispatch<'_, C>,
    ) -> Result<Applied, Error> {
        let mut ids: Vec<Uuid> = inputs.iter().map(|(_, id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut applied = Applied::default();
        let mut batch = Batch::default();
        let mut sagas = BTreeMap::new();
        for row in store::lock(conn, &ids).await? {
            let id = row.id;
            sagas.insert(id, self.open(conn, row, &mut applied).await?);
        }
        for (place, id, what) in inputs {
            let saga = match sagas.get_mut(id) {
                None => {
                    applied.unknown.push(*place);
                    continue;
                }
                Some(None) => {
                    applied.ignored += 1;
                    continue;
                }
                Some(Some(saga)) => saga,
            };
            let input = match what {
                What::Start => Some(Input::Start),
                What::Heard(heard) => heard.input(saga.plan),
            };
            match input {
                None => applied.unknown.push(*place),
                Some(input) => {
                    Self::apply_one(saga, &input, *place, &mut batch, &mut applied, dispatch)?;
                }
            }
        }
        let touched = sagas.into_values().flatten().filter(|saga| saga.changed);
        self.write(conn, touched, batch).await?;
        Ok(applied)
    }

    /// Applies the timeout of sagas whose reply is overdue, up to `limit` of them: resends the command, or gives up on
    /// the step. Returns the number of sagas found, and what was decided.
    ///
    /// `heard_for` is the time for which messages have come in without a break. A saga is skipped if its wait was
    /// longer: its reply may not have had the chance to arrive. On the caller's transaction, as [`Executor::start`].
    pub async fn sweep(
        &self,
        conn: &mut PgConnection,
        limit: i64,
        heard_for: Duration,
        dispatch: &mut Dispatch<'_, C>,
    ) -> Result<(usize, Applied), Error> {
        let rows = store::overdue(conn, limit, heard_for).await?;
        let found = rows.len();
        let mut applied = Applied::default();
        let mut batch = Batch::default();
        let mut sagas = Vec::new();
        for (place, row) in rows.into_iter().enumerate() {
            let Some(mut saga) = self.open(conn, row, &mut applied).await? else {
                continue;
            };
            let input = Input::TimedOut {
                step: saga.state.step,
                direction: saga.state.direction,
                attempt: saga.state.attempt,
            };
            Self::apply_one(&mut saga, &input, place, &mut batch, &mut applied, dispatch)?;
            // Even if the timeout was ignored the row must be written, or the next sweep would find the saga again.
            saga.changed = true;
            sagas.push(saga);
        }
        self.write(conn, sagas.into_iter(), batch).await?;
        Ok((found, applied))
    }

    /// Carries out an operator's action on a stuck saga, and records it in the audit trail. `Resume` also takes up a
    /// saga that was broken and can be read again. On the caller's transaction, as [`Executor::start`].
    pub async fn operate(
        &self,
        conn: &mut PgConnection,
        id: Uuid,
        action: Action,
        by: &By,
        dispatch: &mut Dispatch<'_, C>,
    ) -> Result<Applied, Error> {
        let row = store::lock(conn, &[id])
            .await?
            .pop()
            .ok_or(Error::NotFound(id))?;
        let was_broken = row.phase == saved::BROKEN;
        let mut saga = match saved::read(&self.known, conn, &row).await? {
            Ok(saga) => saga,
            Err(Unreadable(error)) => return Err(Error::Broken(error)),
        };
        let mut applied = Applied::default();
        let mut batch = Batch::default();
        let step = saga.plan.steps[saga.state.step].name;
        if was_broken && saga.state.phase != Phase::Stuck {
            if action != Action::Resume {
                return Err(NotStuck {
                    state: saved::BROKEN,
                }
                .into());
            }
            // Its reply is overdue from now on, so the next sweep resends the command.
            let update = self.update(&saga)?;
            let update = Update {
                wait: update.wait.map(|_| Duration::ZERO),
                ..update
            };
            store::update(conn, &[update]).await?;
        } else {
            let input = Input::Operator {
                action,
                by: by.clone(),
            };
            Self::apply_one(&mut saga, &input, 0, &mut batch, &mut applied, dispatch)?;
            self.write(conn, [saga].into_iter(), batch).await?;
        }
        store::record_action(conn, id, action.name(), Some(step), by).await?;
        Ok(applied)
    }

    /// Applies one input to one saga.
    fn apply_one(
        saga: &mut Saved<'_, D, C>,
        input: &Input,
        place: usize,
        batch: &mut Batch,
        applied: &mut Applied,
        dispatch: &mut Dispatch<'_, C>,
    ) -> Result<(), Error> {
        let decision = transition(saga.plan, &saga.state, input)?;
        if decision.state == saga.state && decision.effect.is_none() {
            applied.ignored += 1;
            return Ok(());
        }
        saga.state = decision.state;
        saga.changed = true;
        saga.entries += 1;
        applied.changed += 1;
        batch.entries.push(NewEntry {
            saga_id: saga.id,
            seq: saga.entries,
            input: serde_json::to_value(input)?,
            effect: decision.effect.map(|effect| saga.describe(effect)),
        });
        match decision.effect {
            None => {}
            Some(Effect::Send {
                step,
                direction,
                attempt,
            }) => {
                let outgoing = Outgoing {
                    saga: saga.id,
                    subject: &saga.subject,
                    step: saga.plan.steps[step].name,
                    direction,
                    attempt,
                    cause: place,
                    traceparent: saga.traceparent.as_deref(),
                    tracestate: saga.tracestate.as_deref(),
                };
                if let Some(payload) = saga.payload(step, direction) {
                    batch
                        .messages
                        .push(dispatch(&outgoing, payload(&saga.view())));
                    *applied.sent.entry((outgoing.step, direction)).or_default() += 1;
                }
            }
            Some(Effect::Stuck) => {
                let error = saga.state.error.clone().unwrap_or_default();
                applied.stuck.push((saga.id, error));
            }
            Some(Effect::End(end)) => applied.ended.push(Ended {
                saga: saga.id,
                definition: saga.definition.name,
                end,
                created_at: saga.created_at,
            }),
        }
        Ok(())
    }

    /// Reads a locked row. If it cannot be read, marks the saga broken and returns `None`; other sagas are unaffected.
    async fn open<'s>(
        &'s self,
        conn: &mut PgConnection,
        row: Row,
        applied: &mut Applied,
    ) -> Result<Option<Saved<'s, D, C>>, Error> {
        // Ended sagas stay as they are even if their definition is no longer known; broken ones wait for an operator.
        if saved::AT_REST.contains(&row.phase.as_str()) {
            return Ok(None);
        }
        match saved::read(&self.known, conn, &row).await? {
            Ok(saga) => Ok(Some(saga)),
            Err(Unreadable(error)) => {
                store::set_aside(conn, row.id, &error).await?;
                applied.broken.push((row.id, error));
                Ok(None)
            }
        }
    }

    async fn write<'s>(
        &self,
        conn: &mut PgConnection,
        sagas: impl Iterator<Item = Saved<'s, D, C>>,
        batch: Batch,
    ) -> Result<(), Error> {
        let updates: Vec<Update> = sagas
            .map(|saga| self.update(&saga))
            .collect::<Result<_, Error>>()?;
        store::update(conn, &updates).await?;
        store::append(conn, &batch.entries).await?;
        outbox::enqueue(conn, &batch.messages).await?;
        Ok(())
    }

    /// Returns the columns to write for a saga.
    fn update(&self, saga: &Saved<'_, D, C>) -> Result<Update, Error> {
        let State {
            step: index,
            direction,
            attempt,
            ..
        } = saga.state;
        let step = &saga.definition.steps[index];
        let in_hand = !saga.state.is_ended();
        Ok(Update {
            id: saga.id,
            state: serde_json::to_value(&saga.state)?,
            phase: saga.state.name(),
            step: in_hand.then_some(step.name),
            direction: in_hand.then(|| direction.name()),
            attempt: i32::try_from(attempt).unwrap_or(i32::MAX),
            wait: (saga.state.phase == Phase::Active)
                .then(|| step.patience(direction).wait(attempt).mul_f64(self.pace)),
            error: saga.state.error.clone(),
            entries: saga.entries,
        })
    }
}

/// An input of a batch.
enum What<'a> {
    Start,
    Heard(&'a Heard),
}

/// The log entries and messages that a batch leaves to be written, besides the sagas.
#[derive(Default)]
struct Batch {
    entries: Vec<NewEntry>,
    messages: Vec<outbox::Message>,
}
