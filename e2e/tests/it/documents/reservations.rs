//! The table of a reservation of goods.

use contracts::inventory::RejectReason;
use inventory::domain::{Answer, Input, Rejection, State, decide};

use super::{or_dash, table, word};

/// Returns the table, with a row for each input and a column for each state.
pub(super) fn inventory_table() -> String {
    let too_little = Rejection {
        reason: RejectReason::OutOfStock,
        sku: None,
    };
    let states = [
        ("(none)", None),
        ("reserved", Some(State::Reserved)),
        ("rejected", Some(State::Rejected(too_little.clone()))),
        ("sold", Some(State::Sold)),
        ("released", Some(State::Released { restocked: false })),
        ("void", Some(State::Void)),
        ("settled", Some(State::Settled)),
    ];
    let inputs = [
        ("`payment.completed`", Input::Reserve(Ok(()))),
        (
            "`payment.completed`, too little in stock",
            Input::Reserve(Err(too_little)),
        ),
        ("`order.confirmed`", Input::Commit),
        ("`order.cancelling`", Input::Release),
        ("`order.settling`", Input::Settle),
    ];
    let rows: Vec<(&str, Vec<String>)> = inputs
        .iter()
        .map(|(label, input)| {
            let cells = states.iter().map(|(_, state)| cell(state.as_ref(), input));
            (*label, cells.collect())
        })
        .collect();
    table(&states.map(|(label, _)| label), &rows)
}

/// Returns what an input leads to.
fn cell(state: Option<&State>, input: &Input) -> String {
    let Ok(decision) = decide(state, input.clone()) else {
        return "refused".to_owned();
    };
    let mut cell = Vec::new();
    if Some(&decision.state) != state {
        cell.push(format!("→ **{}**", word(&decision.state)));
    }
    if let Some((from, to)) = decision.moves {
        cell.push(format!("{} → {}", word(&from), word(&to)));
    }
    match decision.answer {
        None => {}
        Some(Answer::Reserved) => cell.push("`inventory.reserved`".to_owned()),
        Some(Answer::Rejected(Rejection {
            reason: RejectReason::OrderCancelled,
            ..
        })) => {
            cell.push("`inventory.rejected` (order cancelled)".to_owned());
        }
        Some(Answer::Rejected(_)) => cell.push("`inventory.rejected`".to_owned()),
        Some(Answer::Committed) => cell.push("`inventory.committed`".to_owned()),
        Some(Answer::Released { .. }) => cell.push("`inventory.released`".to_owned()),
        Some(Answer::NothingToUndo) => {
            cell.push("`inventory.nothing_to_undo`".to_owned());
        }
        Some(Answer::Settled) => cell.push("`inventory.settled`".to_owned()),
    }
    or_dash(&cell)
}
