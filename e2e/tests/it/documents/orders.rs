//! The table of an order that is coordinated by choreography.

use contracts::order::{CancelReason, Participant};
use order::domain::{Effect, Fact, Input, Order, State, Undo, Undoing, decide};

use super::{or_dash, table, word};

/// Returns the table, with a row for each input and a column for each state.
pub(super) fn order_table() -> String {
    let undoing = |payment, inventory| Undoing {
        reason: CancelReason::Customer,
        payment,
        inventory,
    };
    let done = Some(Undo::Undone);
    let states = [
        ("pending", State::Pending),
        ("confirmed", State::Confirmed { committed: false }),
        ("confirmed, at rest", State::Confirmed { committed: true }),
        ("cancelling", State::Cancelling(undoing(None, None))),
        (
            "cancelling, payment answered",
            State::Cancelling(undoing(done, None)),
        ),
        (
            "cancelling, inventory answered",
            State::Cancelling(undoing(None, done)),
        ),
        ("cancelled, at rest", State::Cancelled(undoing(done, done))),
    ];
    let inputs = [
        ("`order.created`, our own", Input::Heard),
        ("`payment.declined`", Input::PaymentDeclined),
        ("`inventory.reserved`", Input::Reserved),
        ("`inventory.rejected`", Input::Rejected),
        ("`inventory.committed`", Input::Committed),
        ("`payment.refunded`", Input::PaymentUndo(Undo::Undone)),
        (
            "`payment.nothing_to_undo`",
            Input::PaymentUndo(Undo::NothingToUndo),
        ),
        ("`payment.settled`", Input::PaymentUndo(Undo::Settled)),
        ("`inventory.released`", Input::InventoryUndo(Undo::Undone)),
        (
            "`inventory.nothing_to_undo`",
            Input::InventoryUndo(Undo::NothingToUndo),
        ),
        ("`inventory.settled`", Input::InventoryUndo(Undo::Settled)),
        (
            "the customer cancels",
            Input::Cancel(CancelReason::Customer),
        ),
        ("an operator cancels", Input::Cancel(CancelReason::Operator)),
        ("the deadline passes", Input::Cancel(CancelReason::Deadline)),
        ("no answer for a while", Input::Sweep),
        (
            "an operator settles payment",
            Input::Settle(Participant::Payment),
        ),
        (
            "an operator settles inventory",
            Input::Settle(Participant::Inventory),
        ),
    ];
    let rows: Vec<(&str, Vec<String>)> = inputs
        .into_iter()
        .map(|(label, input)| (label, states.map(|(_, state)| cell(state, input)).to_vec()))
        .collect();
    table(&states.map(|(label, _)| label), &rows)
}

/// Returns what an input leads to.
fn cell(state: State, input: Input) -> String {
    let order = Order { state, version: 1 };
    let Ok(decision) = decide(order, input) else {
        return "refused".to_owned();
    };
    let mut cell = Vec::new();
    if decision.order.state != state {
        cell.push(format!("→ **{}**", name(decision.order.state)));
    }
    match decision.effect {
        None => {}
        Some(Effect::StartDeadline) => cell.push("the deadline starts".to_owned()),
        Some(Effect::Publish(fact)) => cell.push(match fact {
            Fact::Created => "`order.created`".to_owned(),
            Fact::Confirmed => "`order.confirmed`".to_owned(),
            Fact::Cancelling(_) => "`order.cancelling`".to_owned(),
            Fact::Settling(_) => "`order.settling`".to_owned(),
            Fact::Cancelled { .. } => "`order.cancelled`".to_owned(),
        }),
    }
    or_dash(&cell)
}

fn name(state: State) -> String {
    match state {
        State::Confirmed { committed: true } => "confirmed, at rest".to_owned(),
        State::Cancelling(undoing) => match (undoing.payment, undoing.inventory) {
            (None, None) => "cancelling".to_owned(),
            (Some(_), None) => "cancelling, payment answered".to_owned(),
            (None, Some(_)) => "cancelling, inventory answered".to_owned(),
            (Some(_), Some(_)) => "cancelling, both answered".to_owned(),
        },
        State::Cancelled(_) => "cancelled, at rest".to_owned(),
        other => word(&other),
    }
}
