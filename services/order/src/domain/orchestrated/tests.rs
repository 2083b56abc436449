//! Tests of every input in every state that an order can reach.

use std::collections::HashSet;

use super::*;

type Known = (Order, bool);

const NEW: Known = (Order::NEW, false);
const REASONS: [CancelReason; 5] = [
    CancelReason::PaymentDeclined,
    CancelReason::OutOfStock,
    CancelReason::Customer,
    CancelReason::Operator,
    CancelReason::Deadline,
];
const UNDOS: [Undo; 3] = [Undo::Undone, Undo::NothingToUndo, Undo::Settled];

fn commands() -> Vec<Input> {
    let mut commands = vec![Input::Confirm, Input::Complete];
    for reason in REASONS {
        for payment in UNDOS {
            commands.extend(UNDOS.map(|inventory| Input::Cancel {
                reason,
                payment,
                inventory,
            }));
        }
    }
    commands
}

fn inputs() -> Vec<Input> {
    let mut inputs = commands();
    inputs.extend(REASONS.map(Input::AskedToCancel));
    inputs.push(Input::Sweep);
    inputs
}

fn known(decision: &Decision) -> Known {
    (decision.order, decision.was_confirmed)
}

/// Returns every state that an order can reach.
fn reachable_from(start: Known) -> HashSet<Known> {
    let mut found = HashSet::from([start]);
    let mut ahead = vec![start];
    while let Some((order, was_confirmed)) = ahead.pop() {
        for input in inputs() {
            if let Ok(decision) = decide(order, was_confirmed, input)
                && found.insert(known(&decision))
            {
                ahead.push(known(&decision));
            }
        }
    }
    found
}

/// Returns every possible decision, with the order and the input that led to it.
fn every() -> impl Iterator<Item = (Known, Input, Decision)> {
    reachable_from(NEW).into_iter().flat_map(|before| {
        inputs().into_iter().filter_map(move |input| {
            let decision = decide(before.0, before.1, input).ok()?;
            Some((before, input, decision))
        })
    })
}

#[test]
fn a_reply_is_the_same_whatever_happens_after_it() {
    for (before, command, decision) in every() {
        if decision.reply.is_none() {
            continue;
        }
        for (order, was_confirmed) in reachable_from(known(&decision)) {
            let again = decide(order, was_confirmed, command)
                .unwrap_or_else(|illegal| panic!("{before:?}, {command:?}: {illegal}"));
            assert_eq!(
                again.reply, decision.reply,
                "{before:?}, {command:?}, and in {order:?}"
            );
        }
    }
}

#[test]
fn repeated_inputs_change_nothing() {
    for (before, input, first) in every() {
        let second = decide(first.order, first.was_confirmed, input)
            .unwrap_or_else(|illegal| panic!("{before:?}: {illegal}"));
        assert_eq!(known(&second), known(&first), "{before:?}, {input:?}");
    }
}

#[test]
fn only_commands_get_replies() {
    for (before, input, decision) in every() {
        let is_command = commands().contains(&input);
        assert_eq!(
            decision.reply.is_some(),
            is_command,
            "{before:?}, {input:?}"
        );
        let asks = decision.start.is_some() || decision.give_up.is_some();
        assert!(
            !(is_command && asks),
            "{before:?}, {input:?}: a command must ask for nothing"
        );
    }
}

#[test]
fn version_counts_exactly_the_changes_that_are_told() {
    for (before, input, decision) in every() {
        let (order, after) = (before.0, decision.order);
        let moved = std::mem::discriminant(&after.state) != std::mem::discriminant(&order.state);
        assert_eq!(
            after.version,
            order.version + u32::from(moved),
            "{before:?}, {input:?}"
        );
        let told =
            decision.reply.is_some() || decision.start.is_some() || decision.give_up.is_some();
        assert!(!moved || told, "{before:?}, {input:?}: it is not told");
    }
}

#[test]
fn was_confirmed_is_never_forgotten() {
    for (before, input, decision) in every() {
        let confirmed = matches!(decision.order.state, State::Confirmed { .. });
        assert_eq!(
            decision.was_confirmed,
            before.1 || confirmed,
            "{before:?}, {input:?}"
        );
        assert!(!confirmed || decision.was_confirmed);
    }
}

#[test]
fn only_the_customer_wakes_an_order_at_rest() {
    for (before, input, decision) in every().filter(|((order, _), ..)| order.is_at_rest()) {
        if known(&decision) == before {
            continue;
        }
        assert!(
            matches!(before.0.state, State::Confirmed { .. }),
            "{before:?}, {input:?}"
        );
        assert_eq!(input, Input::AskedToCancel(CancelReason::Customer));
        assert_eq!(decision.start, Some(Saga::UndoOrder));
    }
}

#[test]
fn sweep_asks_for_the_saga_of_every_unfinished_order() {
    for (order, was_confirmed) in reachable_from(NEW) {
        let swept = decide(order, was_confirmed, Input::Sweep).expect("it can always be swept");
        assert_eq!(known(&swept), (order, was_confirmed));
        let expected = match order.state {
            State::Confirmed { committed: true } | State::Cancelled(_) => (None, None),
            State::Pending | State::Confirmed { committed: false } => {
                (Some(Saga::PlaceOrder), None)
            }
            State::Cancelling(_) if was_confirmed => (Some(Saga::UndoOrder), None),
            State::Cancelling(undoing) => (Some(Saga::PlaceOrder), Some(undoing.reason)),
        };
        assert_eq!((swept.start, swept.give_up), expected, "{order:?}");
    }
}

#[test]
fn first_cancel_gives_the_reason() {
    for (before, input, decision) in every() {
        if let State::Cancelled(undoing) = decision.order.state {
            let Input::Cancel {
                reason,
                payment,
                inventory,
            } = input
            else {
                assert_eq!(known(&decision), before, "{input:?}");
                continue;
            };
            match before.0.state {
                State::Pending => assert_eq!(undoing.reason, reason),
                State::Cancelling(asked) => assert_eq!(undoing.reason, asked.reason),
                State::Cancelled(_) => assert_eq!(known(&decision), before),
                State::Confirmed { .. } => panic!("{before:?}, {input:?}"),
            }
            if before.0 != decision.order {
                assert_eq!(
                    (undoing.payment, undoing.inventory),
                    (Some(payment), Some(inventory))
                );
            }
        }
    }
}

#[test]
fn contradicting_inputs_are_illegal() {
    let undone = Input::Cancel {
        reason: CancelReason::PaymentDeclined,
        payment: Undo::NothingToUndo,
        inventory: Undo::NothingToUndo,
    };
    let after = |inputs: &[Input]| {
        inputs.iter().fold(NEW, |(order, was_confirmed), input| {
            known(&decide(order, was_confirmed, *input).expect("possible"))
        })
    };
    let by_customer = Input::AskedToCancel(CancelReason::Customer);
    for (before, input) in [
        (NEW, Input::Complete),
        (after(&[by_customer]), Input::Complete),
        (after(&[undone]), Input::Complete),
        (after(&[Input::Confirm]), undone),
        (after(&[Input::Confirm, Input::Complete]), undone),
        (
            after(&[Input::Confirm]),
            Input::AskedToCancel(CancelReason::Operator),
        ),
        (NEW, Input::AskedToCancel(CancelReason::Deadline)),
    ] {
        let decided = decide(before.0, before.1, input);
        assert!(decided.is_err(), "{before:?}, {input:?}: {decided:?}");
    }
}
