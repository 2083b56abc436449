//! The laws that hold for every saga, whatever its definition, checked by exhaustive search where that is possible.

mod definitions;
mod laws;
mod mutants;
mod random;
mod search;

use std::time::Duration;

use uuid::Uuid;

use self::{
    definitions::{
        A_WHILE, ACT, ACT_AND_UNDO, PIVOT, PLACE_ORDER, Shape, UNDO, UNDO_ORDER, WITHOUT_PIVOT,
        definition, every_shape, with_retry,
    },
    search::search,
};
use super::{Direction, Invalid, InvalidKey, Key, Retry, transition};

#[test]
fn every_state_that_can_be_reached_obeys_the_laws() {
    for (name, shapes) in [
        ("place_order", PLACE_ORDER),
        ("undo_order", UNDO_ORDER),
        ("without a pivot", WITHOUT_PIVOT),
    ] {
        let plan = definition(shapes).plan();
        let found =
            search(&plan, transition).unwrap_or_else(|violation| panic!("{name}: {violation}"));
        println!("{name}: {found}");
        assert!(found.states > 50, "{name}: is that all? {found}");
    }
}

/// All definitions of two steps that `check` accepts obey the laws, with any one of the steps as pivot or none.
#[test]
fn every_valid_definition_of_two_steps_obeys_the_laws() {
    let (mut sensible, mut states) = (0, 0);
    for first in every_shape() {
        for second in every_shape() {
            let definition = definition(&[first, second]);
            if definition.check().is_err() {
                continue;
            }
            let plan = definition.plan();
            let found = search(&plan, transition)
                .unwrap_or_else(|violation| panic!("{plan:#?}: {violation}"));
            sensible += 1;
            states += found.states;
        }
    }
    println!("{sensible} definitions, {states} states");
    assert!(sensible > 500, "only {sensible}");
}

#[test]
fn a_key_comes_back_as_it_went() {
    for direction in [Direction::Do, Direction::Undo, Direction::Settle] {
        let key = Key {
            saga: Uuid::now_v7(),
            step: "charge_payment".to_owned(),
            direction,
        };
        let text = key.to_string();
        assert_eq!(
            text,
            format!("{}/charge_payment/{}", key.saga, direction.name())
        );
        assert_eq!(text.parse(), Ok(key));
    }
}

#[test]
fn invalid_key_is_refused() {
    let saga = Uuid::now_v7();
    for text in [
        String::new(),
        format!("{saga}"),
        format!("{saga}/charge_payment"),
        format!("{saga}/charge_payment/redo"),
        format!("{saga}/charge_payment/Do"),
        format!("{saga}/charge_payment/"),
        format!("{saga}/charge/payment/do"),
        format!("{saga}/charge_payment/do/"),
        format!("/{saga}/charge_payment/do"),
        format!("{saga}//do"),
        "an order/charge_payment/do".to_owned(),
    ] {
        assert_eq!(text.parse::<Key>(), Err(InvalidKey), "{text:?}");
    }
}

#[test]
fn each_wait_is_twice_as_long_up_to_the_longest() {
    let retry = Retry {
        timeout: Duration::from_secs(5),
        longest: Duration::from_secs(60),
        attempts: None,
    };
    let waits: Vec<u64> = (1..=6)
        .map(|attempt| retry.wait(attempt).as_secs())
        .collect();
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    for attempt in [32, 33, 1000, u32::MAX] {
        assert_eq!(retry.wait(attempt), retry.longest);
    }
    assert_eq!(
        retry.wait(0),
        retry.timeout,
        "before the start nothing is awaited, but it can be asked"
    );
    let impatient = Retry {
        longest: Duration::from_secs(1),
        ..retry
    };
    assert_eq!(impatient.wait(1), impatient.longest);
}

#[test]
fn invalid_definition_is_refused() {
    let refused = |invalid: Invalid, shapes: &[Shape]| {
        assert_eq!(definition(shapes).check(), Err(invalid), "{shapes:?}");
    };
    refused(Invalid::NoAction("test"), &[]);
    refused(
        Invalid::NoAction("test"),
        &[UNDO.called("a"), UNDO.called("b")],
    );
    refused(
        Invalid::SameName("test", "a"),
        &[
            ACT_AND_UNDO.called("a"),
            ACT_AND_UNDO.called("b"),
            PIVOT.called("a"),
        ],
    );
    refused(
        Invalid::Pivots("test"),
        &[PIVOT.called("a"), PIVOT.called("b")],
    );
    let gives_up = Shape {
        attempts: Some(2),
        ..PIVOT
    };
    refused(
        Invalid::PivotGivesUp("test", "b"),
        &[ACT_AND_UNDO.called("a"), gives_up.called("b")],
    );
    refused(
        Invalid::NoCompensation("test", "a"),
        &[ACT.called("a"), PIVOT.called("b")],
    );
    refused(
        Invalid::NoCompensation("test", "b"),
        &[ACT_AND_UNDO.called("a"), ACT.called("b")],
    );
    for name in ["", "a/b", "/"] {
        refused(Invalid::Name("test", name), &[ACT_AND_UNDO.called(name)]);
    }
    let done_before = Shape {
        action: false,
        ..PIVOT
    };
    for done_before in [done_before, UNDO] {
        refused(
            Invalid::DoneBefore("test", "b"),
            &[
                ACT_AND_UNDO.called("a"),
                done_before.called("b"),
                ACT_AND_UNDO.called("c"),
            ],
        );
    }
    let never = Shape {
        attempts: Some(0),
        ..ACT_AND_UNDO
    };
    refused(Invalid::NoPatience("test", "a"), &[never.called("a")]);
    let never = Shape {
        undo_attempts: Some(0),
        ..ACT_AND_UNDO
    };
    refused(Invalid::NoPatience("test", "a"), &[never.called("a")]);

    let none = Duration::ZERO;
    for (timeout, longest) in [(none, none), (none, A_WHILE), (A_WHILE, none)] {
        let storm = Retry {
            timeout,
            longest,
            attempts: None,
        };
        for undo in [false, true] {
            let step = with_retry(ACT_AND_UNDO.called("a"), storm, undo);
            assert_eq!(
                step.check(),
                Err(Invalid::NoPatience("test", "a")),
                "{storm:?}"
            );
        }
    }

    for sensible in [PLACE_ORDER, UNDO_ORDER, WITHOUT_PIVOT] {
        assert_eq!(definition(sensible).check(), Ok(()));
    }
}
