//! Definitions given by their shape alone.

use std::time::Duration;

use crate::saga::{Definition, Retry, Step};

/// Any duration: no test here has a clock.
pub(super) const A_WHILE: Duration = Duration::from_secs(5);

/// The shape of a step.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each of them is there or not, whatever the others are"
)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) action: bool,
    pub(super) compensation: bool,
    pub(super) settlement: bool,
    pub(super) attempts: Option<u32>,
    pub(super) undo_attempts: Option<u32>,
    pub(super) pivot: bool,
}

impl Shape {
    pub(super) const fn called(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    const fn limited(self) -> Self {
        Self {
            attempts: Some(2),
            undo_attempts: Some(2),
            ..self
        }
    }
}

const NOTHING: Shape = Shape {
    name: "nothing",
    action: false,
    compensation: false,
    settlement: false,
    attempts: None,
    undo_attempts: None,
    pivot: false,
};
/// A step that was done before the saga started, and can be undone.
pub(super) const UNDO: Shape = Shape {
    compensation: true,
    ..NOTHING
};
/// A step with an action only.
pub(super) const ACT: Shape = Shape {
    action: true,
    ..NOTHING
};
/// A step with an action and a compensation.
pub(super) const ACT_AND_UNDO: Shape = Shape {
    action: true,
    ..UNDO
};
const WITH_SETTLEMENT: Shape = Shape {
    settlement: true,
    ..ACT_AND_UNDO
};
/// A step with an action only, from which there is no way back.
pub(super) const PIVOT: Shape = Shape { pivot: true, ..ACT };

/// The shape of an order being placed. Steps before the pivot have two attempts; those from the pivot on are resent for
/// ever.
pub(super) const PLACE_ORDER: &[Shape] = &[
    UNDO.limited().called("tell_customer"),
    UNDO.limited().called("create_order"),
    WITH_SETTLEMENT.limited().called("charge_payment"),
    WITH_SETTLEMENT.limited().called("reserve_inventory"),
    PIVOT.called("confirm_order"),
    ACT.called("commit_inventory"),
];

/// The shape of an order being undone: the pivot was done before, but the later steps may fail.
pub(super) const UNDO_ORDER: &[Shape] = &[
    Shape {
        pivot: true,
        ..NOTHING
    }
    .called("cancel_order_begun"),
    Shape {
        compensation: false,
        ..WITH_SETTLEMENT
    }
    .limited()
    .called("refund_payment"),
    Shape {
        compensation: false,
        ..WITH_SETTLEMENT
    }
    .limited()
    .called("release_inventory"),
    ACT.limited().called("cancel_order"),
    ACT.called("send_notification"),
];

/// Steps that can all be undone, some of them with no limit to the attempts.
pub(super) const WITHOUT_PIVOT: &[Shape] = &[
    WITH_SETTLEMENT.limited().called("first"),
    NOTHING.called("nothing"),
    ACT_AND_UNDO.limited().called("second"),
    Shape {
        attempts: Some(2),
        ..WITH_SETTLEMENT
    }
    .called("undone for ever"),
    Shape {
        undo_attempts: Some(2),
        ..ACT_AND_UNDO
    }
    .called("asked for ever"),
];

/// Returns every possible shape of a step.
pub(super) fn every_shape() -> impl Iterator<Item = Shape> {
    (0..1 << 6).map(|bits: u32| {
        let bit = |place: u32| bits & 1 << place != 0;
        Shape {
            name: "any",
            action: bit(0),
            compensation: bit(1),
            settlement: bit(2),
            attempts: bit(3).then_some(1),
            undo_attempts: bit(4).then_some(1),
            pivot: bit(5),
        }
    })
}

/// Returns a definition of these shapes. Steps with equal names get distinct ones.
pub(super) fn definition(shapes: &[Shape]) -> Definition<(), ()> {
    let retry = |attempts| Retry {
        timeout: A_WHILE,
        longest: A_WHILE,
        attempts,
    };
    let steps = shapes.iter().enumerate().map(|(place, shape)| Step {
        name: match (shape.name, place) {
            ("any", 0) => "one",
            ("any", 1) => "two",
            ("any", _) => "more",
            (name, _) => name,
        },
        action: shape.action.then_some(|_: &_| ()),
        compensation: shape.compensation.then_some(|_: &_| ()),
        settlement: shape.settlement.then_some(|_: &_| ()),
        retry: retry(shape.attempts),
        undo_retry: retry(shape.undo_attempts),
        pivot: shape.pivot,
    });
    Definition {
        name: "test",
        version: 1,
        steps: Vec::leak(steps.collect()),
    }
}

/// Returns a definition of one step, with `retry` for its compensation if `undo` is set, else for its action.
pub(super) fn with_retry(shape: Shape, retry: Retry, undo: bool) -> Definition<(), ()> {
    let [step] = definition(&[shape]).steps else {
        unreachable!("one shape, one step")
    };
    let (mut of_action, mut of_undo) = (step.retry, step.undo_retry);
    *if undo { &mut of_undo } else { &mut of_action } = retry;
    let step = Step {
        retry: of_action,
        undo_retry: of_undo,
        ..*step
    };
    Definition {
        name: "test",
        version: 1,
        steps: Vec::leak(vec![step]),
    }
}
