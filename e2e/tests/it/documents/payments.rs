//! The table of a payment.

use contracts::payment::DeclineReason;
use payment::domain::{Answer, Booking, Input, Means, Method, State, decide};

use super::{or_dash, table, word};

/// Returns the table, with a row for each input and a column for each state.
pub(super) fn payment_table() -> String {
    let declined = DeclineReason::InsufficientFunds;
    let states = [
        ("(none)", None),
        (
            "charging",
            Some(State::Charging {
                cancel_requested: false,
            }),
        ),
        (
            "charging, cancel requested",
            Some(State::Charging {
                cancel_requested: true,
            }),
        ),
        ("captured, wallet", Some(State::Captured(Method::Wallet))),
        ("captured, card", Some(State::Captured(Method::Card))),
        ("declined", Some(State::Declined(declined))),
        ("refunding", Some(State::Refunding)),
        ("refunded", Some(State::Refunded)),
        ("void", Some(State::Void)),
        ("settled", Some(State::Settled)),
    ];
    let inputs = [
        (
            "`order.created`, wallet",
            Input::Charge(Means::Wallet(Ok(()))),
        ),
        (
            "`order.created`, wallet, too little in it",
            Input::Charge(Means::Wallet(Err(declined))),
        ),
        ("`order.created`, card", Input::Charge(Means::Card)),
        ("`order.cancelling`", Input::Cancel),
        ("`order.settling`", Input::Settle),
        ("card processor: captured", Input::CardCaptured),
        ("card processor: declined", Input::CardDeclined(declined)),
        ("card processor: refunded", Input::CardRefunded),
    ];
    let rows: Vec<(&str, Vec<String>)> = inputs
        .into_iter()
        .map(|(label, input)| (label, states.map(|(_, state)| cell(state, input)).to_vec()))
        .collect();
    table(&states.map(|(label, _)| label), &rows)
}

/// Returns what an input leads to.
fn cell(state: Option<State>, input: Input) -> String {
    let Ok(decision) = decide(state, input) else {
        return "refused".to_owned();
    };
    let mut cell = Vec::new();
    if Some(decision.state) != state {
        cell.push(format!("→ **{}**", name(decision.state)));
    }
    match decision.booking {
        None => {}
        Some(Booking::Debit) => cell.push("debit the wallet".to_owned()),
        Some(Booking::Credit) => cell.push("credit the wallet".to_owned()),
    }
    match decision.answer {
        None => {}
        Some(Answer::Completed) => cell.push("`payment.completed`".to_owned()),
        Some(Answer::Declined(DeclineReason::OrderCancelled)) => {
            cell.push("`payment.declined` (order cancelled)".to_owned());
        }
        Some(Answer::Declined(_)) => cell.push("`payment.declined`".to_owned()),
        Some(Answer::Refunded) => cell.push("`payment.refunded`".to_owned()),
        Some(Answer::NothingToUndo) => {
            cell.push("`payment.nothing_to_undo`".to_owned());
        }
        Some(Answer::Settled) => cell.push("`payment.settled`".to_owned()),
    }
    or_dash(&cell)
}

fn name(state: State) -> String {
    match state {
        State::Charging {
            cancel_requested: true,
        } => "charging, cancel requested".to_owned(),
        State::Captured(method) => format!("captured, {}", word(&method)),
        other => word(&other),
    }
}
