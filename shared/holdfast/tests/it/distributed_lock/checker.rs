//! Is a history linearizable?
//!
//! Wing and Gong's search with Lowe's memory of what was seen, as in Porcupine. The crate `porcupine-rs` 0.3 does the same, but
//! has criterion, regex, rand and crossbeam among its ordinary dependencies: more to compile than all of this crate's
//! tests, for the sixty lines below.

use std::collections::HashSet;

/// What happened between two moments of one clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) called: u64,
    pub(super) returned: u64,
    pub(super) what: What,
}

/// What a client did, and what it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Was given the lock with this fence.
    Acquired(i64),
    /// Read under this fence.
    Read { fence: i64, value: i64 },
    /// Wrote under this fence.
    Wrote { fence: i64, value: i64 },
    /// Was refused: an old fence.
    Refused { fence: i64 },
}

/// What a lock with fences, and a register that checks them, are to the world: as if one thing happened at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// The last fence that was given out.
    given: i64,
    /// The newest that the register has seen.
    newest: i64,
    value: i64,
}

impl State {
    /// What comes after, if that may happen now.
    fn after(self, what: What) -> Option<Self> {
        match what {
            What::Acquired(fence) => (fence > self.given).then_some(Self {
                given: fence,
                ..self
            }),
            What::Read { fence, value } => {
                (fence >= self.newest && value == self.value).then_some(Self {
                    newest: fence,
                    ..self
                })
            }
            What::Wrote { fence, value } => (fence >= self.newest).then_some(Self {
                newest: fence,
                value,
                ..self
            }),
            What::Refused { fence } => (fence < self.newest).then_some(self),
        }
    }
}

/// Finds an order in which the events can have happened one after the other, each between its call and its return; the longest
/// beginning of one if there is none.
pub(super) fn linearize(mut history: Vec<Event>) -> Result<Vec<Event>, Vec<Event>> {
    history.sort_by_key(|event| event.called);
    let mut done = vec![false; history.len()];
    let mut seen = HashSet::new();
    // What was chosen so far, with the state before it.
    let mut path: Vec<(usize, State)> = Vec::new();
    let mut longest = Vec::new();
    let (mut state, mut next) = (State::default(), 0);
    while path.len() < history.len() {
        // Nothing may be put before what had returned when it was called.
        let limit = (0..history.len())
            .filter(|nr| !done[*nr])
            .map(|nr| history[nr].returned)
            .min();
        let mut choice = None;
        for nr in next..history.len() {
            if Some(history[nr].called) > limit {
                break;
            }
            if done[nr] {
                continue;
            }
            let Some(after) = state.after(history[nr].what) else {
                continue;
            };
            done[nr] = true;
            if seen.insert((done.clone(), after)) {
                choice = Some((nr, after));
                break;
            }
            done[nr] = false;
        }
        if let Some((nr, after)) = choice {
            path.push((nr, state));
            (state, next) = (after, 0);
            if path.len() > longest.len() {
                longest = path.iter().map(|(nr, _)| history[*nr]).collect();
            }
        } else {
            let Some((nr, before)) = path.pop() else {
                return Err(longest);
            };
            done[nr] = false;
            (state, next) = (before, nr + 1);
        }
    }
    Ok(longest)
}

fn event(called: u64, returned: u64, what: What) -> Event {
    Event {
        called,
        returned,
        what,
    }
}

#[test]
fn a_history_that_can_have_been_is_found() {
    use What::{Acquired, Read, Refused, Wrote};
    let history = vec![
        event(0, 1, Acquired(1)),
        event(2, 3, Read { fence: 1, value: 0 }),
        event(4, 5, Acquired(2)),
        // Together: the write of 1 must have been first.
        event(6, 9, Wrote { fence: 1, value: 7 }),
        event(6, 9, Read { fence: 2, value: 7 }),
        event(10, 11, Refused { fence: 1 }),
    ];
    let order = linearize(history).expect("it can have been");
    assert_eq!(order[3].what, Wrote { fence: 1, value: 7 });
}

#[test]
fn a_history_that_cannot_have_been_is_not() {
    use What::{Acquired, Read, Refused, Wrote};
    for impossible in [
        // A fence went backwards.
        vec![event(0, 1, Acquired(2)), event(2, 3, Acquired(1))],
        // An old holder wrote after the new one had read: the update that is lost.
        vec![
            event(0, 1, Acquired(1)),
            event(2, 3, Acquired(2)),
            event(4, 5, Read { fence: 2, value: 0 }),
            event(6, 7, Wrote { fence: 1, value: 7 }),
        ],
        // A read of what nobody wrote.
        vec![event(0, 1, Read { fence: 1, value: 3 })],
        // The newest was refused.
        vec![event(0, 1, Acquired(1)), event(2, 3, Refused { fence: 1 })],
    ] {
        assert!(linearize(impossible.clone()).is_err(), "{impossible:?}");
    }
}
