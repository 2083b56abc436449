//! Random plans and logs, longer than those that the search can cover.

use fastrand::Rng;

use super::definitions::{Shape, definition, every_shape};
use crate::saga::{
    Action, Answer, By, Direction, Effect, Heard, Input, Outcome, Phase, Plan, State, replay,
    transition,
};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// A log leads to the state at every point, also after a round trip through JSON. A failure prints the seed.
#[test]
fn a_log_leads_to_the_state_that_it_came_from() {
    let (mut inputs, mut effective, mut ended, mut stuck) = (0, 0, 0, 0);
    for seed in 0..2000 {
        let mut random = Rng::with_seed(seed);
        let plan = plan(&mut random);
        let mut state = State::new(&plan);
        let mut log: Vec<Input> = Vec::new();
        let mut states = vec![state.clone()];
        for _ in 0..80 {
            let input = input(&mut random, &plan, &state);
            inputs += 1;
            let Ok(decision) = transition(&plan, &state, &input) else {
                continue;
            };
            if decision.state == state && decision.effect.is_none() {
                continue;
            }
            log.push(input);
            state = decision.state;
            states.push(state.clone());
            stuck += usize::from(decision.effect == Some(Effect::Stuck));
        }
        effective += log.len();
        ended += usize::from(state.is_ended());

        let read = |log: &[Input]| -> Vec<Input> {
            let rows = log
                .iter()
                .map(|input| serde_json::to_value(input).expect("it can be written"));
            rows.map(|row| serde_json::from_value(row).expect("it can be read"))
                .collect()
        };
        assert_eq!(read(&log), log, "seed {seed}");
        assert_eq!(
            replay(&plan, &read(&log)).as_ref(),
            Ok(&state),
            "seed {seed}"
        );
        let some = random.usize(..states.len());
        assert_eq!(
            replay(&plan, &log[..some]).as_ref(),
            Ok(&states[some]),
            "seed {seed}, first {some}"
        );
        let row = serde_json::to_value(&state).expect("it can be written");
        assert_eq!(
            serde_json::from_value::<State>(row).ok().as_ref(),
            Some(&state),
            "seed {seed}"
        );
        assert!(
            states.iter().all(|state| state.fits(&plan)),
            "seed {seed}: a state of its own does not fit"
        );
    }
    println!(
        "{inputs} inputs, {effective} of them effective; {ended} sagas ended, stuck {stuck} times"
    );
    assert!(
        ended > 500 && stuck > 500,
        "it goes nowhere: {ended} ended, stuck {stuck} times"
    );
}

/// Every entry of a log had an effect once, so a log with an entry without effect is refused.
#[test]
fn log_with_an_entry_without_effect_is_refused() {
    let plan = definition(super::PLACE_ORDER).plan();
    let reply = Heard::Reply {
        step: "charge_payment".to_owned(),
        direction: Direction::Do,
        outcome: Outcome::Done,
        answer: Answer::new("payment.completed"),
    };
    let reply = reply.input(&plan).expect("there is such a step");
    for (log, says) in [
        (vec![reply.clone()], "entry 1 of the log changes nothing"),
        (
            vec![Input::Start, Input::Start],
            "entry 2 of the log changes nothing",
        ),
        (
            vec![Input::Start, reply.clone(), reply],
            "entry 3 of the log changes nothing",
        ),
    ] {
        assert_eq!(replay(&plan, &log), Err(says.to_owned()));
    }
    let by = By {
        operator: "olivia".to_owned(),
        note: String::new(),
    };
    let resumed = Input::Operator {
        action: Action::Resume,
        by,
    };
    let error = replay(&plan, &[Input::Start, resumed]).expect_err("it is not stuck");
    assert!(error.starts_with("entry 2 of the log: "), "{error}");
}

type Damage = fn(&mut State);

/// A stored state may hold anything: one that does not fit its plan is recognised.
#[test]
fn a_state_that_its_plan_does_not_lead_to_does_not_fit() {
    let plan = definition(super::PLACE_ORDER).plan();
    let started = transition(&plan, &State::new(&plan), &Input::Start)
        .expect("it starts")
        .state;
    assert!(State::new(&plan).fits(&plan) && started.fits(&plan));
    let damaged: [(&str, Damage); 6] = [
        ("a step too few", |state| drop(state.statuses.pop())),
        ("beyond the last step", |state| state.step = 6),
        ("nothing there to be done", |state| state.step = 0),
        ("nothing there to be undone", |state| {
            (state.step, state.direction) = (4, Direction::Undo);
        }),
        ("nothing there to be written off", |state| {
            (state.step, state.direction) = (0, Direction::Settle);
        }),
        ("never asked", |state| state.attempt = 0),
    ];
    for (what, damage) in damaged {
        let mut state = started.clone();
        damage(&mut state);
        assert!(!state.fits(&plan), "{what}");
    }
}

fn plan(random: &mut Rng) -> Plan {
    let shapes: Vec<Shape> = every_shape().collect();
    loop {
        let count = random.usize(2..=NAMES.len());
        let steps: Vec<Shape> = NAMES[..count]
            .iter()
            .map(|name| shape(random, &shapes).called(name))
            .collect();
        let definition = definition(&steps);
        if definition.check().is_ok() {
            return definition.plan();
        }
    }
}

fn shape(random: &mut Rng, of: &[Shape]) -> Shape {
    let shape = pick(random, of);
    Shape {
        attempts: shape.attempts.map(|_| random.u32(1..=4)),
        undo_attempts: shape.undo_attempts.map(|_| random.u32(1..=4)),
        action: shape.action || random.u8(..4) > 0,
        compensation: shape.compensation || random.u8(..4) > 0,
        pivot: shape.pivot && random.u8(..4) == 0,
        ..shape
    }
}

fn pick<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

/// Returns a random input; most are about the current command, so that the saga moves on.
fn input(random: &mut Rng, plan: &Plan, state: &State) -> Input {
    let in_hand = random.u8(..10) < 7;
    let (step, direction) = if in_hand {
        (state.step, state.direction)
    } else {
        let directions = [Direction::Do, Direction::Undo, Direction::Settle];
        (random.usize(..plan.steps.len()), pick(random, &directions))
    };
    match random.u8(..40) {
        0 => Input::Cancel {
            reason: pick(random, &["customer", ""]).to_owned(),
        },
        1 | 2 => Input::Start,
        3..=22 => Input::TimedOut {
            step,
            direction,
            attempt: if in_hand {
                state.attempt
            } else {
                random.u32(..4)
            },
        },
        23..=30 if state.phase == Phase::Stuck || !in_hand => Input::Operator {
            action: pick(random, &[Action::Resume, Action::Skip, Action::Abandon]),
            by: By {
                operator: "olivia".to_owned(),
                note: "a \"quoted\" note, ünd more".to_owned(),
            },
        },
        number => Input::Reply {
            step,
            direction,
            outcome: if number % 8 == 0 {
                Outcome::Refused
            } else {
                Outcome::Done
            },
            answer: match number {
                23..35 => Answer::new("payment.completed"),
                _ => Answer::new("payment.declined").because("insufficient_funds"),
            },
        },
    }
}
