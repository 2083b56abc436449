//! Tests of every input in every state: the domain is small enough to test all of it.

use super::*;

fn rejection() -> Rejection {
    Rejection {
        reason: RejectReason::OutOfStock,
        sku: "TEA".parse().ok(),
    }
}

fn states() -> Vec<Option<State>> {
    vec![
        None,
        Some(State::Reserved),
        Some(State::Rejected(rejection())),
        Some(State::Sold),
        Some(State::Released { restocked: false }),
        Some(State::Released { restocked: true }),
        Some(State::Void),
        Some(State::Settled),
    ]
}

fn inputs() -> Vec<Input> {
    vec![
        Input::Reserve(Ok(())),
        Input::Reserve(Err(rejection())),
        Input::Commit,
        Input::Release,
        Input::Settle,
    ]
}

fn every() -> impl Iterator<Item = (Option<State>, Input)> {
    states().into_iter().flat_map(|state| {
        inputs()
            .into_iter()
            .map(move |input| (state.clone(), input))
    })
}

/// Returns the shelf that holds the units of a reservation.
fn shelf(state: Option<&State>) -> Shelf {
    match state {
        Some(State::Reserved) => Shelf::Reserved,
        Some(State::Sold) => Shelf::Sold,
        Some(State::Settled) => Shelf::WrittenOff,
        None | Some(State::Rejected(_) | State::Released { .. } | State::Void) => Shelf::Available,
    }
}

#[test]
fn repeated_input_moves_no_units_the_second_time() {
    for (state, input) in every() {
        if let Ok(first) = decide(state.as_ref(), input.clone()) {
            let second = decide(Some(&first.state), input.clone())
                .unwrap_or_else(|illegal| panic!("{state:?}: {illegal}"));
            assert_eq!(
                (second.state, second.moves),
                (first.state, None),
                "{state:?}, {input:?}"
            );
        }
    }
}

/// Units move if and only if the old and the new state have them on different shelves.
#[test]
fn units_move_to_the_shelf_of_the_new_state() {
    for (state, input) in every() {
        let Ok(decision) = decide(state.as_ref(), input.clone()) else {
            continue;
        };
        let (from, to) = (shelf(state.as_ref()), shelf(Some(&decision.state)));
        let moves = (from != to).then_some((from, to));
        assert_eq!(decision.moves, moves, "{state:?}, {input:?}");
    }
}

#[test]
fn every_input_is_answered_and_a_repetition_alike() {
    for (state, input) in every() {
        let Ok(first) = decide(state.as_ref(), input.clone()) else {
            continue;
        };
        let second = decide(Some(&first.state), input.clone()).expect("a repetition is possible");
        assert!(first.answer.is_some(), "{state:?}, {input:?}");
        assert_eq!(second.answer, first.answer, "{state:?}, {input:?}");
    }
}

#[test]
fn late_commit_is_answered_as_a_release_is() {
    for state in [
        State::Released { restocked: false },
        State::Released { restocked: true },
        State::Settled,
    ] {
        let undone = decide(Some(&state), Input::Release).expect("possible");
        let late = decide(Some(&state), Input::Commit).expect("it may come late");
        assert_eq!(late, undone, "{state:?}: nothing moves, and one answer");
    }
}

#[test]
fn reserve_after_a_release_takes_no_units() {
    for state in states() {
        let released =
            decide(state.as_ref(), Input::Release).expect("a release is always possible");
        assert!(
            released.answer.is_some(),
            "{state:?}: a release is always answered"
        );
        let late = decide(Some(&released.state), Input::Reserve(Ok(())))
            .expect("a late reserve is answered");
        assert_eq!(
            (late.state, late.moves),
            (released.state, None),
            "{state:?}"
        );
        assert!(matches!(
            late.answer,
            Some(Answer::Rejected(_) | Answer::Reserved)
        ));
    }
}

#[test]
fn shelf_never_falls_below_zero() {
    let mut stock = Stock {
        available: 1,
        ..Stock::default()
    };
    stock
        .move_units(1, Shelf::Available, Shelf::Reserved)
        .expect("there is one");
    assert!(
        stock
            .move_units(1, Shelf::Available, Shelf::Reserved)
            .is_err()
    );
    assert_eq!(
        stock,
        Stock {
            reserved: 1,
            ..Stock::default()
        }
    );
}
