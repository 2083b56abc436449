//! The orchestrator's books, and the rules that they must keep.

use std::collections::{BTreeMap, HashMap};

use sqlx::{PgPool, types::Uuid};

use super::{
    Report,
    books::{Books, Order},
};

/// The kind of saga that carries a new order to its end.
const PLACE: &str = "place_order";
/// The kind that undoes a confirmed order.
const UNDO: &str = "undo_order";

/// The fields of a saga that are compared with its order.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Saga {
    id: Uuid,
    definition: String,
    subject: String,
    phase: String,
    step: Option<String>,
    error: Option<String>,
}

/// An operator action on a saga, other than `resume`.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct OperatorAction {
    saga_id: Uuid,
    action: String,
    operator: String,
    note: String,
    at: String,
}

impl Saga {
    /// Returns true if nothing more will happen to it.
    fn is_at_its_end(&self) -> bool {
        ["completed", "compensated", "abandoned"].contains(&self.phase.as_str())
    }

    fn is(&self, definition: &str) -> bool {
        self.definition == definition
    }
}

impl std::fmt::Display for Saga {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            id,
            definition,
            subject,
            phase,
            ..
        } = self;
        write!(f, "{id} ({definition} of order {subject}) is {phase}")?;
        if let Some(step) = &self.step {
            write!(f, " at {step}")?;
        }
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        Ok(())
    }
}

/// The sagas in progress, and those that wait for an operator, each with its order.
pub(super) struct Waiting {
    pub(super) moving: Vec<String>,
    pub(super) stuck: Vec<(String, String)>,
}

/// Returns the sagas that are not at their end.
pub(super) async fn waiting(orchestrator: &PgPool) -> sqlx::Result<Waiting> {
    let moving = "select id::text from saga where phase in ('running', 'compensating') order by id";
    let stuck = "select id::text, subject from saga where phase in ('stuck', 'broken') order by id";
    Ok(Waiting {
        moving: sqlx::query_scalar(moving).fetch_all(orchestrator).await?,
        stuck: sqlx::query_as(stuck).fetch_all(orchestrator).await?,
    })
}

/// Reads all sagas, and all operator actions but `resume`.
pub(super) async fn read(orchestrator: &PgPool) -> sqlx::Result<(Vec<Saga>, Vec<OperatorAction>)> {
    let sagas = "select id, definition, subject, phase, step, error from saga order by id";
    let actions = "select saga_id, action, operator, note, to_char(at at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS') as at
                 from saga_deed where action <> 'resume' order by id";
    Ok((
        sqlx::query_as(sagas).fetch_all(orchestrator).await?,
        sqlx::query_as(actions).fetch_all(orchestrator).await?,
    ))
}

/// The numbers of sagas that a glance compares.
pub(super) struct Counts {
    /// Sagas that place an order.
    pub(super) placing: i64,
    /// Those of them that are completed.
    pub(super) placed: i64,
    /// Those of them that an operator abandoned, before the order was confirmed or after it.
    pub(super) abandoned: i64,
    /// Sagas that undo an order.
    pub(super) undoing: i64,
}

pub(super) async fn count(orchestrator: &PgPool) -> sqlx::Result<Counts> {
    let (placing, placed, abandoned, undoing) = sqlx::query_as(
        "select count(*) filter (where definition = 'place_order'),
                count(*) filter (where definition = 'place_order' and phase = 'completed'),
                count(*) filter (where definition = 'place_order' and phase = 'abandoned'),
                count(*) filter (where definition = 'undo_order')
         from saga",
    )
    .fetch_one(orchestrator)
    .await?;
    Ok(Counts {
        placing,
        placed,
        abandoned,
        undoing,
    })
}

/// Compares the orchestrator's books with those of the order service.
pub(super) fn check(books: &Books, report: &mut Report) {
    tell(books, report);
    let mut by_order: HashMap<Uuid, Vec<&Saga>> = HashMap::new();
    for saga in &books.sagas {
        if !saga.is_at_its_end() {
            report.find("every saga comes to its end", saga.to_string());
        }
        match saga.subject.parse() {
            Ok(order) if books.orders.contains_key(&order) => {
                by_order.entry(order).or_default().push(saga);
            }
            _ => report.find("each saga belongs to an order", saga.to_string()),
        }
    }
    for (id, order) in &books.orders {
        let sagas = by_order.get(id).map(Vec::as_slice).unwrap_or_default();
        one_order(*id, order, sagas, report);
    }
}

/// Compares one order with its sagas.
fn one_order(id: Uuid, order: &Order, sagas: &[&Saga], report: &mut Report) {
    if !order.is_orchestrated() {
        for saga in sagas {
            report.find("no choreographed order has a saga", saga.to_string());
        }
        return;
    }
    let of = |definition| sagas.iter().filter(move |saga| saga.is(definition));
    let (placing, undoing) = (of(PLACE).count(), of(UNDO).count());
    if placing != 1 {
        report.find(
            "each orchestrated order has one saga that places it",
            format!("{id} has {placing}"),
        );
    }
    let is_undone = order.was_confirmed && ["cancelling", "cancelled"].contains(&&*order.state);
    let confirmed = if order.was_confirmed {
        "was confirmed"
    } else {
        "was never confirmed"
    };
    if undoing != usize::from(is_undone) {
        report.find(
            "an order has one saga that undoes it if it was confirmed and then cancelled, and else none",
            format!("{id} is {}, {confirmed}, and has {undoing}", order.state),
        );
    }
    for saga in of(PLACE) {
        // The saga's pivot is the order's confirmation: after it the saga only goes forward, and before it the saga
        // cannot complete. An operator can abandon it on either side.
        let agrees = match saga.phase.as_str() {
            "completed" => order.was_confirmed,
            "compensated" => !order.was_confirmed,
            _ => true,
        };
        if !agrees {
            report.find(
                "a saga that places an order is completed if the order was confirmed, and else undone",
                format!("{saga}, and the order {confirmed}"),
            );
        }
    }
}

/// Adds the sagas' ends and the operator actions to the report's facts.
fn tell(books: &Books, report: &mut Report) {
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for Saga {
        definition, phase, ..
    } in &books.sagas
    {
        *ends.entry(format!("{definition} {phase}")).or_default() += 1;
    }
    if !ends.is_empty() {
        let ends: Vec<String> = ends
            .iter()
            .map(|(end, count)| format!("{count} {end}"))
            .collect();
        report.fact(format!("{} sagas: {}", books.sagas.len(), ends.join(", ")));
    }
    for OperatorAction {
        saga_id,
        action,
        operator,
        note,
        at,
    } in &books.actions
    {
        report.fact(format!(
            "saga {saga_id}: {operator} chose to {action} at {at} UTC: {note}"
        ));
    }
}
