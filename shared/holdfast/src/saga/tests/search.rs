//! A breadth-first search of everything that can happen to a saga.

use std::{collections::HashMap, fmt};

use super::laws::{Law, Watcher};
use crate::saga::{Action, Answer, By, Decision, Direction, Input, NotStuck, Outcome, Plan, State};

/// `transition`, or a broken variant of it.
pub(super) type Transition = fn(&Plan, &State, &Input) -> Result<Decision, NotStuck>;

/// The attempts that the search makes of a command without a limit.
const FOR_EVER: u32 = 3;

/// The size of a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) states: usize,
    changes: usize,
    tried: usize,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            states,
            changes,
            tried,
        } = self;
        write!(
            f,
            "{states} states, {tried} inputs tried in them, of which {changes} change something"
        )
    }
}

/// A broken law, and the shortest sequence of inputs that breaks it.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) law: Law,
    way: Vec<Input>,
    state: State,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} does not hold in {:#?}\nafter",
            self.law, self.state
        )?;
        self.way
            .iter()
            .try_for_each(|input| write!(f, "\n  {input:?}"))
    }
}

/// A state of a saga together with the watcher's records.
struct Node {
    state: State,
    watcher: Watcher,
    /// The node and the input that first led here.
    by: Option<(usize, Input)>,
    /// The nodes that follow.
    next: Vec<usize>,
    /// The node that follows if the current command is carried out.
    done: Option<usize>,
}

/// Tries every input in every reachable state, and checks each transition with the watcher.
pub(super) fn search(plan: &Plan, transition: Transition) -> Result<Found, Violation> {
    let start = (State::new(plan), Watcher::new(plan));
    let mut nodes = vec![Node {
        state: start.0.clone(),
        watcher: start.1.clone(),
        by: None,
        next: Vec::new(),
        done: None,
    }];
    let mut known = HashMap::from([(start, 0)]);
    let mut tried = 0;
    let mut at = 0;
    while at < nodes.len() {
        let (state, watcher) = (nodes[at].state.clone(), nodes[at].watcher.clone());
        for input in inputs(plan, &watcher) {
            tried += 1;
            let decided = transition(plan, &state, &input);
            let watched = watcher
                .watch(plan, &state, &input, &decided)
                .map_err(|law| violation(&nodes, at, Some(&input), law))?;
            let Ok(Decision {
                state: after,
                effect: Some(_),
            }) = decided
            else {
                continue;
            };
            if watched
                .command
                .is_some_and(|(.., attempt)| attempt > FOR_EVER)
            {
                continue;
            }
            let to = *known
                .entry((after.clone(), watched.clone()))
                .or_insert(nodes.len());
            if to == nodes.len() {
                nodes.push(Node {
                    state: after,
                    watcher: watched,
                    by: Some((at, input.clone())),
                    next: Vec::new(),
                    done: None,
                });
            }
            nodes[at].next.push(to);
            if is_done(&input) {
                nodes[at].done = Some(to);
            }
        }
        at += 1;
    }
    can_end(&nodes)?;
    Ok(Found {
        states: nodes.len(),
        changes: nodes.iter().map(|node| node.next.len()).sum(),
        tried,
    })
}

/// Checks that every node has a path to an end, and that a started saga ends if every command is carried out.
fn can_end(nodes: &[Node]) -> Result<(), Violation> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (from, node) in nodes.iter().enumerate() {
        node.next.iter().for_each(|to| before[*to].push(from));
    }
    let mut ends = vec![false; nodes.len()];
    let mut open: Vec<usize> = (0..nodes.len())
        .filter(|at| nodes[*at].watcher.end.is_some())
        .collect();
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut ends[at], true) {
            open.extend(&before[at]);
        }
    }
    for at in 0..nodes.len() {
        let mut by_itself = at;
        while let Some(to) = nodes[by_itself].done {
            by_itself = to;
        }
        let comes_to_its_end = nodes[by_itself].watcher.end.is_some();
        let has_not_started = nodes[at].watcher.command.is_none();
        if !ends[at] || !comes_to_its_end && !has_not_started {
            return Err(violation(nodes, at, None, Law::CanEnd));
        }
    }
    Ok(())
}

fn is_done(input: &Input) -> bool {
    matches!(
        input,
        Input::Reply {
            outcome: Outcome::Done,
            ..
        }
    )
}

/// Returns the violation with the inputs that led to a node, and `input` after them.
fn violation(nodes: &[Node], at: usize, input: Option<&Input>, law: Law) -> Violation {
    let mut way: Vec<Input> = input.cloned().into_iter().collect();
    let mut back = at;
    while let Some((from, by)) = &nodes[back].by {
        way.push(by.clone());
        back = *from;
    }
    way.reverse();
    Violation {
        law,
        way,
        state: nodes[at].state.clone(),
    }
}

/// Returns all inputs to try: every reply of every step, timeouts of the current and of other attempts, a cancel, and
/// the operators' actions.
fn inputs(plan: &Plan, watcher: &Watcher) -> Vec<Input> {
    const DIRECTIONS: [Direction; 3] = [Direction::Do, Direction::Undo, Direction::Settle];
    let mut inputs = vec![
        Input::Start,
        Input::Cancel {
            reason: "customer".to_owned(),
        },
    ];
    for step in 0..plan.steps.len() {
        for direction in DIRECTIONS {
            for outcome in [Outcome::Done, Outcome::Refused] {
                inputs.push(Input::Reply {
                    step,
                    direction,
                    outcome,
                    answer: Answer::new("answer"),
                });
            }
        }
    }
    let (at, direction, attempt) = watcher.command.unwrap_or((0, Direction::Do, 0));
    for attempt in attempt.saturating_sub(1)..=attempt + 1 {
        inputs.push(Input::TimedOut {
            step: at,
            direction,
            attempt,
        });
    }
    for step in (0..plan.steps.len()).filter(|step| *step != at) {
        inputs.push(Input::TimedOut {
            step,
            direction,
            attempt,
        });
    }
    for direction in DIRECTIONS.into_iter().filter(|other| *other != direction) {
        inputs.push(Input::TimedOut {
            step: at,
            direction,
            attempt,
        });
    }
    for action in [Action::Resume, Action::Skip, Action::Abandon] {
        inputs.push(Input::Operator {
            action,
            by: By {
                operator: "olivia".to_owned(),
                note: "by telephone".to_owned(),
            },
        });
    }
    inputs
}
