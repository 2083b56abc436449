//! Tests of every input in every state: the domain is small enough to test all of it.

use super::*;

const DECLINED: DeclineReason = DeclineReason::CardDeclined;

fn states() -> Vec<Option<State>> {
    vec![
        None,
        Some(State::Charging {
            cancel_requested: false,
        }),
        Some(State::Charging {
            cancel_requested: true,
        }),
        Some(State::Captured(Method::Wallet)),
        Some(State::Captured(Method::Card)),
        Some(State::Declined(DECLINED)),
        Some(State::Refunding),
        Some(State::Refunded),
        Some(State::Void),
        Some(State::Settled),
    ]
}

fn inputs() -> Vec<Input> {
    vec![
        Input::Charge(Means::Wallet(Ok(()))),
        Input::Charge(Means::Wallet(Err(DeclineReason::InsufficientFunds))),
        Input::Charge(Means::Card),
        Input::Cancel,
        Input::Settle,
        Input::CardCaptured,
        Input::CardDeclined(DECLINED),
        Input::CardRefunded,
    ]
}

fn every() -> impl Iterator<Item = (Option<State>, Input)> {
    states()
        .into_iter()
        .flat_map(|state| inputs().into_iter().map(move |input| (state, input)))
}

#[test]
fn repeated_input_moves_no_money_the_second_time() {
    for (state, input) in every() {
        if let Ok(first) = decide(state, input) {
            let second = decide(Some(first.state), input)
                .unwrap_or_else(|illegal| panic!("{state:?}: {illegal}"));
            assert_eq!(second.state, first.state, "{state:?}, {input:?}");
            assert_eq!(second.booking, None, "{state:?}, {input:?}");
        }
    }
}

#[test]
fn money_moves_in_two_places_only() {
    for (state, input) in every() {
        let Ok(Decision {
            state: next,
            booking: Some(booking),
            ..
        }) = decide(state, input)
        else {
            continue;
        };
        let there = (state, next, booking);
        let debit = (None, State::Captured(Method::Wallet), Booking::Debit);
        let credit = (
            Some(State::Captured(Method::Wallet)),
            State::Refunded,
            Booking::Credit,
        );
        assert!([debit, credit].contains(&there), "{there:?} by {input:?}");
    }
}

#[test]
fn once_cancelled_no_charge_takes_money() {
    for state in states() {
        let Ok(cancelled) = decide(state, Input::Cancel) else {
            panic!("{state:?} cannot be cancelled")
        };
        for means in [Means::Wallet(Ok(())), Means::Card] {
            let late = decide(Some(cancelled.state), Input::Charge(means))
                .expect("a late charge is answered");
            assert_eq!(
                (late.state, late.booking),
                (cancelled.state, None),
                "{state:?}"
            );
        }
        // A capture that comes after the cancel is given back.
        if let Ok(late) = decide(Some(cancelled.state), Input::CardCaptured) {
            assert_ne!(late.state, State::Captured(Method::Card), "{state:?}");
        }
    }
}

#[test]
fn cancel_is_answered_at_once_or_after_the_card_processor() {
    for state in states() {
        let cancelled = decide(state, Input::Cancel).expect("a cancel is always possible");
        let waits = matches!(
            cancelled.state,
            State::Charging {
                cancel_requested: true
            } | State::Refunding
        );
        assert_eq!(cancelled.answer.is_none(), waits, "{state:?}");
    }
    let charging = Some(State::Charging {
        cancel_requested: true,
    });
    assert_eq!(
        decide(charging, Input::CardCaptured)
            .expect("it may capture")
            .answer,
        None
    );
    assert_eq!(
        decide(charging, Input::CardDeclined(DECLINED))
            .expect("it may decline")
            .answer,
        Some(Answer::NothingToUndo)
    );
    assert_eq!(
        decide(Some(State::Refunding), Input::CardRefunded)
            .expect("it refunds")
            .answer,
        Some(Answer::Refunded)
    );
}

#[test]
fn uncharged_order_is_not_refunded() {
    for state in [None, Some(State::Declined(DECLINED)), Some(State::Void)] {
        assert_eq!(
            decide(state, Input::Cancel).expect("possible").answer,
            Some(Answer::NothingToUndo),
            "{state:?}"
        );
        assert!(decide(state, Input::CardRefunded).is_err(), "{state:?}");
    }
}
