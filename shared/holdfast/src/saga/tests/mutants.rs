//! The search is strong enough: it finds each of these transitions with one broken guard, by the law that forbids it.

use super::{
    definitions::{PLACE_ORDER, Shape, UNDO_ORDER, WITHOUT_PIVOT, definition},
    laws::Law,
    search::{Transition, search},
};
use crate::saga::{
    Action, Cause, Decision, Direction, Effect, End, Input, NotStuck, Outcome, Phase, Plan, State,
    Status, transition,
};

type Decided = Result<Decision, NotStuck>;

#[test]
fn a_broken_guard_is_found() {
    let mut slipped_through = Vec::new();
    let mut found = |what: &str, shapes: &[Shape], broken: Transition, law: Law| match search(
        &definition(shapes).plan(),
        broken,
    ) {
        Ok(found) => slipped_through.push(format!("{what}: not found in {found}")),
        Err(violation) if violation.law == law => {}
        Err(violation) => slipped_through.push(format!("{what}: not by {law:?}: {violation}")),
    };
    found(
        "cancelled after the pivot",
        PLACE_ORDER,
        cancelled_after_the_pivot,
        Law::CancelCountsUpToThePivot,
    );
    found(
        "refused, and undone too",
        PLACE_ORDER,
        undoes_what_was_refused,
        Law::UndoesWhatMayHaveBeenDone,
    );
    found(
        "forgets who gave no answer",
        PLACE_ORDER,
        forgets_who_gave_no_answer,
        Law::GoesInOrder,
    );
    found(
        "undoes twice",
        PLACE_ORDER,
        undoes_twice,
        Law::UndoesWhatMayHaveBeenDone,
    );
    found(
        "undoes from the bottom",
        WITHOUT_PIVOT,
        undoes_from_the_bottom,
        Law::GoesInOrder,
    );
    found(
        "anybody's answer",
        PLACE_ORDER,
        anybodys_answer,
        Law::OnlyTheAwaitedAnswerCounts,
    );
    found(
        "an answer to anything",
        PLACE_ORDER,
        answer_to_anything,
        Law::OnlyTheAwaitedAnswerCounts,
    );
    found(
        "deaf while stuck",
        PLACE_ORDER,
        deaf_while_stuck,
        Law::OnlyTheAwaitedAnswerCounts,
    );
    found(
        "a timeout long past",
        PLACE_ORDER,
        timeout_long_past,
        Law::OnlyTheAwaitedTimeoutCounts,
    );
    found(
        "gives up on the pivot",
        PLACE_ORDER,
        gives_up_on_the_pivot,
        Law::ThePivotHolds,
    );
    found(
        "turns around after the pivot",
        PLACE_ORDER,
        turns_around_after_the_pivot,
        Law::ThePivotHolds,
    );
    found(
        "turns around for no reason",
        PLACE_ORDER,
        turns_around_for_no_reason,
        Law::TurnsAround,
    );
    found(
        "forgets why it turned around",
        PLACE_ORDER,
        forgets_why_it_turned_around,
        Law::TurnsAround,
    );
    found(
        "asks once too often",
        PLACE_ORDER,
        asks_once_too_often,
        Law::AsksNoMoreThanAllowed,
    );
    found(
        "starts again",
        WITHOUT_PIVOT,
        starts_again,
        Law::EndedIsAbsorbing,
    );
    found("starts twice", WITHOUT_PIVOT, starts_twice, Law::StartsOnce);
    found(
        "means to resend",
        WITHOUT_PIVOT,
        means_to_resend,
        Law::ChangesHaveEffects,
    );
    found(
        "settles what it cannot",
        UNDO_ORDER,
        settles_what_it_cannot,
        Law::AsksWhatThereIs,
    );
    found(
        "operated while it runs",
        WITHOUT_PIVOT,
        operated_while_it_runs,
        Law::OperatorsAreForTheStuck,
    );
    found(
        "skips what can be settled",
        UNDO_ORDER,
        skips_what_can_be_settled,
        Law::SettlesWhatItCan,
    );
    found(
        "abandons one step only",
        UNDO_ORDER,
        abandons_one_step_only,
        Law::SettlesWhatItCan,
    );
    found(
        "stuck without a word",
        UNDO_ORDER,
        stuck_without_a_word,
        Law::IsStuckWithReason,
    );
    found(
        "nobody can resume",
        UNDO_ORDER,
        nobody_can_resume,
        Law::OperatorsAreForTheStuck,
    );
    found(
        "leaves out a step",
        UNDO_ORDER,
        leaves_out_a_step,
        Law::GoesInOrder,
    );
    found(
        "says it is done",
        PLACE_ORDER,
        says_it_is_done,
        Law::EndsWhole,
    );
    assert!(slipped_through.is_empty(), "{}", slipped_through.join("\n"));
}

fn without_pivot(plan: &Plan) -> Plan {
    Plan {
        pivot: None,
        ..plan.clone()
    }
}

fn cancelled_after_the_pivot(plan: &Plan, state: &State, input: &Input) -> Decided {
    match input {
        Input::Cancel { .. } => transition(&without_pivot(plan), state, input),
        _ => transition(plan, state, input),
    }
}

fn undoes_what_was_refused(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut decision = transition(plan, state, input)?;
    if let (Some(Cause::Refused { step }), None) = (&decision.state.cause, &state.cause)
        && plan.steps[*step].compensation
    {
        let (step, direction, attempt) = (*step, Direction::Undo, 1);
        (
            decision.state.step,
            decision.state.direction,
            decision.state.attempt,
        ) = (step, direction, attempt);
        decision.state.phase = Phase::Active;
        decision.effect = Some(Effect::Send {
            step,
            direction,
            attempt,
        });
    }
    Ok(decision)
}

/// Takes a timeout for a refusal.
fn forgets_who_gave_no_answer(plan: &Plan, state: &State, input: &Input) -> Decided {
    let decision = transition(plan, state, input)?;
    if let (Some(Cause::TimedOut { step }), None) = (&decision.state.cause, &state.cause) {
        let mut forgetful = state.clone();
        forgetful.statuses[*step] = Status::Waiting;
        return transition(plan, &forgetful, input);
    }
    Ok(decision)
}

/// Forgets that a step is undone.
fn undoes_twice(plan: &Plan, state: &State, input: &Input) -> Decided {
    if let Input::Reply {
        direction: Direction::Undo,
        outcome: Outcome::Done,
        ..
    } = input
        && let Ok(Decision {
            effect: Some(Effect::End(_)),
            ..
        }) = transition(plan, state, input)
    {
        let mut decision = transition(plan, state, input)?;
        let (step, direction, attempt) = (state.step, Direction::Undo, 1);
        decision.state.phase = Phase::Active;
        decision.effect = Some(Effect::Send {
            step,
            direction,
            attempt,
        });
        return Ok(decision);
    }
    transition(plan, state, input)
}

fn undoes_from_the_bottom(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut decision = transition(plan, state, input)?;
    let to_undo = |step: &usize| {
        let status = &decision.state.statuses[*step];
        plan.steps[*step].compensation && matches!(status, Status::Sent | Status::Done(_))
    };
    if let Some(Effect::Send {
        direction: Direction::Undo,
        attempt: 1,
        ..
    }) = decision.effect
        && state.phase == Phase::Active
        && let Some(step) = (0..plan.steps.len()).find(to_undo)
    {
        decision.state.step = step;
        decision.effect = Some(Effect::Send {
            step,
            direction: Direction::Undo,
            attempt: 1,
        });
    }
    Ok(decision)
}

fn anybodys_answer(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut input = input.clone();
    if let Input::Reply { step, .. } = &mut input {
        *step = state.step;
    }
    transition(plan, state, &input)
}

fn answer_to_anything(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut input = input.clone();
    if let Input::Reply { direction, .. } = &mut input {
        *direction = state.direction;
    }
    transition(plan, state, &input)
}

fn deaf_while_stuck(plan: &Plan, state: &State, input: &Input) -> Decided {
    match (state.phase, input) {
        (Phase::Stuck, Input::Reply { .. }) => Ok(Decision {
            state: state.clone(),
            effect: None,
        }),
        _ => transition(plan, state, input),
    }
}

fn timeout_long_past(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut input = input.clone();
    if let Input::TimedOut { attempt, .. } = &mut input {
        *attempt = state.attempt;
    }
    transition(plan, state, &input)
}

fn gives_up_on_the_pivot(plan: &Plan, state: &State, input: &Input) -> Decided {
    match (input, plan.pivot) {
        (Input::TimedOut { step, .. }, Some(pivot)) if *step == pivot => {
            let mut plan = without_pivot(plan);
            plan.steps[pivot].attempts = Some(2);
            transition(&plan, state, input)
        }
        _ => transition(plan, state, input),
    }
}

fn turns_around_after_the_pivot(plan: &Plan, state: &State, input: &Input) -> Decided {
    match input {
        Input::Reply {
            outcome: Outcome::Refused,
            ..
        } => transition(&without_pivot(plan), state, input),
        _ => transition(plan, state, input),
    }
}

fn turns_around_for_no_reason(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut impatient = plan.clone();
    impatient
        .steps
        .iter_mut()
        .for_each(|step| step.attempts = step.attempts.and(Some(1)));
    transition(&impatient, state, input)
}

fn forgets_why_it_turned_around(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut decision = transition(plan, state, input)?;
    if matches!(
        decision.effect,
        Some(Effect::Send {
            direction: Direction::Undo,
            ..
        })
    ) && state.cause.is_some()
    {
        decision.state.cause = Some(Cause::TimedOut { step: 0 });
    }
    Ok(decision)
}

fn asks_once_too_often(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut patient = plan.clone();
    for step in &mut patient.steps {
        step.undo_attempts = step.undo_attempts.map(|attempts| attempts + 1);
    }
    transition(&patient, state, input)
}

fn starts_again(plan: &Plan, state: &State, input: &Input) -> Decided {
    match (state.phase, input) {
        (Phase::Ended(_), Input::Start) => transition(plan, &State::new(plan), input),
        _ => transition(plan, state, input),
    }
}

fn starts_twice(plan: &Plan, state: &State, input: &Input) -> Decided {
    match (state.phase, input) {
        (Phase::Active, Input::Start) => transition(plan, &State::new(plan), input),
        _ => transition(plan, state, input),
    }
}

/// Counts the attempt without sending the command.
fn means_to_resend(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut decision = transition(plan, state, input)?;
    if let Some(Effect::Send { attempt: 2, .. }) = decision.effect {
        decision.effect = None;
    }
    Ok(decision)
}

fn settles_what_it_cannot(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut settled = plan.clone();
    settled
        .steps
        .iter_mut()
        .for_each(|step| step.settlement = true);
    transition(&settled, state, input)
}

fn operated_while_it_runs(plan: &Plan, state: &State, input: &Input) -> Decided {
    match (state.phase, input) {
        (Phase::Active, Input::Operator { .. }) if state.attempt > 0 => {
            let stuck = State {
                phase: Phase::Stuck,
                ..state.clone()
            };
            transition(plan, &stuck, input)
        }
        _ => transition(plan, state, input),
    }
}

fn skips_what_can_be_settled(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut unsettled = plan.clone();
    if let Input::Operator {
        action: Action::Skip,
        ..
    } = input
    {
        unsettled.steps[state.step].settlement = false;
    }
    transition(&unsettled, state, input)
}

fn abandons_one_step_only(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut decision = transition(plan, state, input)?;
    if let Some(Effect::Send {
        step, direction, ..
    }) = &mut decision.effect
        && (state.step, *direction) != (*step, Direction::Settle)
        && *direction == Direction::Settle
    {
        *direction = Direction::Do;
        decision.state.direction = Direction::Do;
    }
    Ok(decision)
}

fn stuck_without_a_word(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut decision = transition(plan, state, input)?;
    decision.state.error = None;
    Ok(decision)
}

fn nobody_can_resume(plan: &Plan, state: &State, input: &Input) -> Decided {
    match input {
        Input::Operator {
            action: Action::Resume,
            ..
        } => Err(NotStuck {
            state: state.name(),
        }),
        _ => transition(plan, state, input),
    }
}

fn leaves_out_a_step(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut shorter = plan.clone();
    shorter.steps[2].action = false;
    transition(&shorter, state, input)
}

/// Ends after the pivot.
fn says_it_is_done(plan: &Plan, state: &State, input: &Input) -> Decided {
    let mut decision = transition(plan, state, input)?;
    if let Some(Effect::Send {
        step,
        direction: Direction::Do,
        attempt: 1,
    }) = decision.effect
        && plan.pivot.is_some_and(|pivot| step > pivot)
    {
        decision.state.phase = Phase::Ended(End::Completed);
        decision.effect = Some(Effect::End(End::Completed));
    }
    Ok(decision)
}
