//! Tests of every input in every state: the domain is small enough to test all of it.

use super::*;

const REASONS: [CancelReason; 5] = [
    CancelReason::PaymentDeclined,
    CancelReason::OutOfStock,
    CancelReason::Customer,
    CancelReason::Operator,
    CancelReason::Deadline,
];
const UNDOS: [Undo; 3] = [Undo::Undone, Undo::NothingToUndo, Undo::Settled];

fn states() -> Vec<State> {
    let mut states = vec![
        State::Pending,
        State::Confirmed { committed: false },
        State::Confirmed { committed: true },
    ];
    let answers: Vec<Option<Undo>> = UNDOS.into_iter().map(Some).chain([None]).collect();
    for reason in REASONS {
        for payment in &answers {
            for inventory in &answers {
                let undoing = Undoing {
                    reason,
                    payment: *payment,
                    inventory: *inventory,
                };
                let both = payment.is_some() && inventory.is_some();
                states.push(if both {
                    State::Cancelled(undoing)
                } else {
                    State::Cancelling(undoing)
                });
            }
        }
    }
    states
}

fn inputs() -> Vec<Input> {
    let mut inputs = vec![
        Input::Heard,
        Input::PaymentDeclined,
        Input::Reserved,
        Input::Rejected,
        Input::Committed,
        Input::Sweep,
        Input::Settle(Participant::Payment),
        Input::Settle(Participant::Inventory),
    ];
    inputs.extend(UNDOS.map(Input::PaymentUndo));
    inputs.extend(UNDOS.map(Input::InventoryUndo));
    inputs.extend(REASONS.map(Input::Cancel));
    inputs
}

fn every() -> impl Iterator<Item = (Order, Input)> {
    states().into_iter().flat_map(|state| {
        inputs()
            .into_iter()
            .map(move |input| (Order { state, version: 7 }, input))
    })
}

#[test]
fn repeated_inputs_change_nothing() {
    for (order, input) in every() {
        if let Ok(first) = decide(order, input) {
            let second =
                decide(first.order, input).unwrap_or_else(|illegal| panic!("{order:?}: {illegal}"));
            assert_eq!(second.order, first.order, "{order:?}, {input:?}");
        }
    }
}

#[test]
fn version_counts_exactly_the_published_changes() {
    for (order, input) in every() {
        let Ok(Decision {
            order: next,
            effect,
        }) = decide(order, input)
        else {
            continue;
        };
        let moved = std::mem::discriminant(&next.state) != std::mem::discriminant(&order.state);
        assert_eq!(
            next.version,
            order.version + u32::from(moved),
            "{order:?}, {input:?}"
        );
        assert!(
            !moved || matches!(effect, Some(Effect::Publish(_))),
            "{order:?}, {input:?}: it is not published"
        );
    }
}

#[test]
fn only_the_customer_wakes_an_order_at_rest() {
    for (order, input) in every().filter(|(order, _)| order.is_at_rest()) {
        if let Ok(Decision {
            order: next,
            effect,
        }) = decide(order, input)
            && next != order
        {
            assert!(
                matches!(order.state, State::Confirmed { .. }),
                "{order:?}, {input:?}"
            );
            assert_eq!(input, Input::Cancel(CancelReason::Customer), "{order:?}");
            assert_eq!(
                effect,
                Some(Effect::Publish(Fact::Cancelling(CancelReason::Customer)))
            );
        }
    }
}

#[test]
fn second_answer_cancels_the_order_with_its_first_reason() {
    for (order, input) in every() {
        let Ok(Decision {
            order: next,
            effect,
        }) = decide(order, input)
        else {
            continue;
        };
        if next != order
            && let State::Cancelled(undoing) = next.state
        {
            let State::Cancelling(before) = order.state else {
                panic!("{order:?}, {input:?}")
            };
            assert_eq!(undoing.reason, before.reason);
            assert!(undoing.payment.is_some() && undoing.inventory.is_some());
            let payment = undoing.payment.expect("it answered");
            let cancelled = Fact::Cancelled {
                reason: undoing.reason,
                payment,
            };
            assert_eq!(effect, Some(Effect::Publish(cancelled)));
        }
    }
}

#[test]
fn an_answer_that_contradicts_an_earlier_one_is_illegal() {
    let undoing = |payment| Undoing {
        reason: CancelReason::Customer,
        payment,
        inventory: None,
    };
    let order = Order {
        state: State::Cancelling(undoing(Some(Undo::NothingToUndo))),
        version: 2,
    };
    assert!(decide(order, Input::PaymentUndo(Undo::NothingToUndo)).is_ok());
    assert!(decide(order, Input::PaymentUndo(Undo::Undone)).is_err());
    assert!(
        decide(Order::NEW, Input::Committed).is_err(),
        "no commit was asked for"
    );
}
