//! The use cases, each on the caller's transaction.

use std::time::Duration;

use chassis::{events::Publishing, tally::Tally, trace::OrderFacts};
use contracts::{
    order::{Saga, StartSaga},
    value::OrderId,
};
use holdfast::{
    failpoint,
    messaging::Received,
    outbox,
    saga::{Action, Applied, By, End, Executor, Heard, Outgoing, Start},
    telemetry::{self, TraceContext},
};
use metrics::{counter, histogram};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::{error, field::Empty, info, info_span};
use uuid::Uuid;

use crate::{
    domain::{Command, Data, definition, saga_id},
    error::Error,
};

const PUBLISHING: Publishing<'static> = Publishing {
    service: "orchestrator",
    cause: None,
};

/// The executor of this service's sagas.
pub(crate) type Sagas = Executor<Data, Command>;

/// A request of the order service.
#[derive(Debug)]
pub(crate) enum Request {
    Start(Box<StartSaga>),
    Cancel { order: OrderId, reason: String },
}

/// Applies a batch of requests. Starts come first, so that a cancel in the same batch finds its saga. Returns what to
/// count after the commit.
pub(crate) async fn apply_requests(
    conn: &mut PgConnection,
    sagas: &Sagas,
    messages: &[&Received<Request>],
) -> Result<Tally, Error> {
    let (starting, cancelling): (Vec<_>, Vec<_>) = messages
        .iter()
        .copied()
        .partition(|message| matches!(message.command, Request::Start(_)));
    let mut tally = start(conn, sagas, &starting).await?;
    tally.extend(cancel(conn, sagas, &cancelling).await?);
    Ok(tally)
}

/// Starts sagas. Those that exist already are left as they are.
async fn start(
    conn: &mut PgConnection,
    sagas: &Sagas,
    messages: &[&Received<Request>],
) -> Result<Tally, Error> {
    let starts = messages.iter().filter_map(|message| {
        let Request::Start(data) = &message.command else {
            return None;
        };
        facts(data).describe(&message.span);
        let trace = telemetry::trace_context_of(&message.span);
        Some(Start {
            id: saga_id(data.order_id, data.saga),
            definition: definition(data.saga).name,
            subject: data.order_id.to_string(),
            data: (**data).clone(),
            traceparent: trace.as_ref().map(TraceContext::traceparent),
            tracestate: trace.and_then(|trace| trace.tracestate().map(str::to_owned)),
        })
    });
    let starts: Vec<Start<Data>> = starts.collect();
    let (new, applied) = sagas
        .start(conn, &starts, &mut |outgoing, command| {
            message(messages, outgoing, &command)
        })
        .await?;
    failpoint!("orchestrator.mid_batch");
    let mut tally = tally(&applied);
    for start in starts.iter().filter(|start| new.contains(&start.id)) {
        tally.add(
            counter!("sagas_started_total", "definition" => start.definition),
            1,
        );
    }
    Ok(tally)
}

/// Cancels sagas. A cancel of a saga that does not exist (yet) is ignored, because the order's row will reject the
/// confirmation.
async fn cancel(
    conn: &mut PgConnection,
    sagas: &Sagas,
    messages: &[&Received<Request>],
) -> Result<Tally, Error> {
    let inputs = messages.iter().filter_map(|message| {
        let Request::Cancel { order, reason } = &message.command else {
            return None;
        };
        let reason = reason.clone();
        Some((saga_id(*order, Saga::PlaceOrder), Heard::Cancel { reason }))
    });
    let inputs: Vec<(Uuid, Heard)> = inputs.collect();
    let applied = apply(conn, sagas, &inputs, messages).await?;
    Ok(tally(&applied))
}

/// A participant's reply, addressed to its saga.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) saga: Uuid,
    pub(crate) heard: Heard,
}

/// Applies a batch of replies. A reply to a saga or step that does not exist is an error. Returns what to count after
/// the commit.
pub(crate) async fn apply_replies(
    conn: &mut PgConnection,
    sagas: &Sagas,
    messages: &[&Received<Reply>],
) -> Result<Tally, Error> {
    let inputs: Vec<(Uuid, Heard)> = messages
        .iter()
        .map(|message| (message.command.saga, message.command.heard.clone()))
        .collect();
    let applied = apply(conn, sagas, &inputs, messages).await?;
    match applied.unknown.first() {
        Some(place) => Err(Error::NobodyAsked(messages[*place].command.saga)),
        None => Ok(tally(&applied)),
    }
}

/// Applies inputs, each of which is in the message of the same place.
async fn apply<C: Sync>(
    conn: &mut PgConnection,
    sagas: &Sagas,
    inputs: &[(Uuid, Heard)],
    messages: &[&Received<C>],
) -> Result<Applied, Error> {
    let applied = sagas
        .apply(conn, inputs, &mut |outgoing, command| {
            message(messages, outgoing, &command)
        })
        .await?;
    failpoint!("orchestrator.mid_batch");
    Ok(applied)
}

/// Applies the timeout of sagas whose reply is overdue, up to `limit` of them, and returns their number. `heard_for` is
/// the time for which messages have come in without a break: a saga with a longer wait is left out.
pub(crate) async fn sweep(
    conn: &mut PgConnection,
    sagas: &Sagas,
    limit: u16,
    heard_for: Duration,
) -> Result<(usize, Tally), Error> {
    let (found, applied) = sagas
        .sweep(conn, limit.into(), heard_for, &mut |outgoing, command| {
            unasked(outgoing, &command)
        })
        .await?;
    if found > 0 {
        failpoint!("orchestrator.mid_sweep");
    }
    Ok((found, tally(&applied)))
}

/// Carries out an operator's action.
pub(crate) async fn operate(
    conn: &mut PgConnection,
    sagas: &Sagas,
    id: Uuid,
    action: Action,
    by: &By,
) -> Result<Tally, Error> {
    let applied = sagas
        .operate(conn, id, action, by, &mut |outgoing, command| {
            unasked(outgoing, &command)
        })
        .await?;
    info!(saga.id = %id, action = action.name(), operator = by.operator, "an operator acted on a saga");
    Ok(tally(&applied))
}

/// Returns the outbox row for a command that a message led to.
fn message<C>(
    causes: &[&Received<C>],
    outgoing: &Outgoing<'_>,
    command: &Command,
) -> outbox::Message {
    let Received { event, span, .. } = causes[outgoing.cause];
    telemetry::attribute(span, "saga.step", outgoing.step);
    span.in_scope(|| row(&PUBLISHING.because_of(event), outgoing, command))
}

/// Returns the outbox row for a command that no message led to. It continues the trace in which the saga began.
fn unasked(outgoing: &Outgoing<'_>, command: &Command) -> outbox::Message {
    let span = info_span!(parent: None, "unasked", order.id = outgoing.subject, trace_id = Empty);
    let trace = outgoing
        .traceparent
        .and_then(|parent| TraceContext::parse(parent, outgoing.tracestate));
    telemetry::adopt(&span, trace.as_ref());
    telemetry::rename(&span, || format!("ask {} again", outgoing.step));
    telemetry::attribute(&span, "holdfast.attempt", i64::from(outgoing.attempt));
    span.in_scope(|| {
        info!(saga.id = %outgoing.saga, step = outgoing.step, asked = outgoing.direction.name(), attempt = outgoing.attempt, "sent a command");
        row(&PUBLISHING, outgoing, command)
    })
}

fn row(publishing: &Publishing<'_>, outgoing: &Outgoing<'_>, command: &Command) -> outbox::Message {
    let key = outgoing.key();
    match command {
        Command::ChargePayment(command) => publishing.command(command, "payment", key),
        Command::RefundPayment(command) => publishing.command(command, "payment", key),
        Command::SettlePayment(command) => publishing.command(command, "payment", key),
        Command::ReserveInventory(command) => publishing.command(command, "inventory", key),
        Command::CommitInventory(command) => publishing.command(command, "inventory", key),
        Command::ReleaseInventory(command) => publishing.command(command, "inventory", key),
        Command::SettleInventory(command) => publishing.command(command, "inventory", key),
        Command::ConfirmOrder(command) => publishing.command(command, "order", key),
        Command::CompleteOrder(command) => publishing.command(command, "order", key),
        Command::CancelOrder(command) => publishing.command(command, "order", key),
        Command::SendNotification(command) => publishing.command(command, "notification", key),
    }
}

/// Returns the facts about a saga's order for its traces.
fn facts(data: &Data) -> OrderFacts<'_> {
    OrderFacts::of(data.order_id)
        .amount(data.amount)
        .items(data.lines.iter().map(|line| line.quantity.get()))
        .payment(&data.payment)
}

/// Returns the metrics to count once the transaction is committed.
fn tally(applied: &Applied) -> Tally {
    let mut tally = Tally::default();
    for ((step, direction), count) in &applied.sent {
        tally.add(
            counter!("saga_commands_total", "step" => *step, "direction" => direction.name()),
            *count,
        );
    }
    tally.add(
        counter!("saga_replies_ignored_total"),
        applied.ignored as u64,
    );
    for ended in &applied.ended {
        let (definition, end) = (ended.definition, ended.end.name());
        tally.add(
            counter!("sagas_ended_total", "definition" => definition, "end" => end),
            1,
        );
        let took = (OffsetDateTime::now_utc() - ended.created_at).as_seconds_f64();
        tally.record(
            histogram!("saga_duration_seconds", "definition" => definition, "end" => end),
            took.max(0.0),
        );
    }
    for (id, why) in &applied.stuck {
        error!(saga.id = %id, why, "a saga is stuck");
    }
    for (id, why) in &applied.broken {
        error!(saga.id = %id, why, "a saga cannot be read");
    }
    tally
}

/// All ends of a saga, so that each has a counter from the start.
pub(crate) const ENDS: [End; 3] = [End::Completed, End::Compensated, End::Abandoned];
