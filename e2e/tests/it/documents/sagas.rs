//! The tables of orchestration: the order's states, and the sagas' steps.

use std::fmt::Write as _;

use contracts::order::{CancelReason, Saga};
use holdfast::saga::{Definition, Retry};
use order::domain::{
    Order, State, Undo, Undoing,
    orchestrated::{Answer, Decision, Input, decide},
};

use super::{or_dash, table, word};

/// Returns the table of an orchestrated order, with a row for each input and a column for each state.
pub(super) fn order_table() -> String {
    let undoing = |answer| Undoing {
        reason: CancelReason::Customer,
        payment: answer,
        inventory: answer,
    };
    let done = Some(Undo::Undone);
    let states = [
        ("pending", State::Pending, false),
        ("confirmed", State::Confirmed { committed: false }, true),
        (
            "confirmed, at rest",
            State::Confirmed { committed: true },
            true,
        ),
        (
            "cancelling, never confirmed",
            State::Cancelling(undoing(None)),
            false,
        ),
        (
            "cancelling, was confirmed",
            State::Cancelling(undoing(None)),
            true,
        ),
        (
            "cancelled, never confirmed",
            State::Cancelled(undoing(done)),
            false,
        ),
        (
            "cancelled, was confirmed",
            State::Cancelled(undoing(done)),
            true,
        ),
    ];
    let inputs = [
        ("`orchestrator.confirm_order`", Input::Confirm),
        ("`orchestrator.complete_order`", Input::Complete),
        (
            "`orchestrator.cancel_order`",
            Input::Cancel {
                reason: CancelReason::OutOfStock,
                payment: Undo::Undone,
                inventory: Undo::NothingToUndo,
            },
        ),
        (
            "the customer cancels",
            Input::AskedToCancel(CancelReason::Customer),
        ),
        (
            "an operator cancels",
            Input::AskedToCancel(CancelReason::Operator),
        ),
        ("nothing heard for a while", Input::Sweep),
    ];
    let rows: Vec<(&str, Vec<String>)> = inputs
        .into_iter()
        .map(|(label, input)| {
            let cells = states.map(|(_, state, was_confirmed)| cell(state, was_confirmed, input));
            (label, cells.to_vec())
        })
        .collect();
    table(&states.map(|(label, ..)| label), &rows)
}

/// Returns what an input leads to.
fn cell(state: State, was_confirmed: bool, input: Input) -> String {
    let order = Order { state, version: 1 };
    let Ok(Decision {
        order,
        reply,
        start,
        give_up,
        ..
    }) = decide(order, was_confirmed, input)
    else {
        return "refused".to_owned();
    };
    let mut cell = Vec::new();
    if order.state != state {
        cell.push(format!("→ **{}**", name(order.state)));
    }
    if let Some(reply) = reply {
        let kind = match reply.answer {
            Answer::Confirmed => "confirmed",
            Answer::ConfirmRejected(_) => "confirm_rejected",
            Answer::Completed => "completed",
            Answer::Cancelled { .. } => "cancelled",
        };
        cell.push(format!("`order.{kind}`"));
    }
    if let Some(saga) = start {
        let saga = match saga {
            Saga::PlaceOrder => "place_order",
            Saga::UndoOrder => "undo_order",
        };
        cell.push(format!("`order.start_saga` ({saga})"));
    }
    if give_up.is_some() {
        cell.push("`order.cancel_requested`".to_owned());
    }
    or_dash(&cell)
}

fn name(state: State) -> String {
    match state {
        State::Confirmed { committed: true } => "confirmed, at rest".to_owned(),
        other => word(&other),
    }
}

/// Returns a table of every saga's steps, from its definition.
pub(super) fn definitions() -> String {
    let tables: Vec<String> = orchestrator::domain::DEFINITIONS
        .iter()
        .map(|definition| steps(definition))
        .collect();
    tables.join("\n")
}

fn steps<D, C>(definition: &Definition<D, C>) -> String {
    let mut text = format!(
        "**`{}`**, version {}\n\n| step | is asked to do | undone | written off |\n| --- | --- | --- | --- |\n",
        definition.name, definition.version
    );
    for step in definition.steps {
        let pivot = if step.pivot { ", the pivot" } else { "" };
        let asked = |has: bool, retry: Retry| {
            if has {
                patience(retry)
            } else {
                "–".to_owned()
            }
        };
        let done = if step.action.is_some() {
            patience(step.retry)
        } else {
            "done before".to_owned()
        };
        let undone = asked(step.compensation.is_some(), step.undo_retry);
        let settled = asked(step.settlement.is_some(), step.undo_retry);
        let name = step.name;
        let _ = writeln!(text, "| `{name}`{pivot} | {done} | {undone} | {settled} |");
    }
    text
}

/// Returns a step's retries in words: `10 times, waiting 20 s and up to 120 s`.
fn patience(retry: Retry) -> String {
    let often = retry.attempts.map_or("for ever".to_owned(), |attempts| {
        format!("{attempts} times")
    });
    let (first, longest) = (retry.timeout.as_secs(), retry.longest.as_secs());
    format!("{often}, waiting {first} s and up to {longest} s")
}
