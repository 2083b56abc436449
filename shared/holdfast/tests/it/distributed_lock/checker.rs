//! A check whether a history is linearizable.
//!
//! Wing and Gong's search with Lowe's memory of visited states, as in Porcupine. The crate `porcupine-rs` 0.3 does the
//! same, but has criterion, regex, rand and crossbeam among its ordinary dependencies: more to compile than all of this
//! crate's tests, for the sixty lines below.

use std::collections::HashSet;

/// An operation, with the times of its call and of its return by one clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) called: u64,
    pub(super) returned: u64,
    pub(super) what: What,
}

/// An operation of a client, with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The lock was granted with this fence.
    Acquired(i64),
    /// The value was read under this fence.
    Read { fence: i64, value: i64 },
    /// The value was written under this fence.
    Wrote { fence: i64, value: i64 },
    /// A read or write was refused because of this fence.
    Refused { fence: i64 },
}

/// The sequential model: a lock with fences, and a register that checks them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// The last fence that was granted.
    given: i64,
    /// The newest fence that the register has seen.
    newest: i64,
    value: i64,
}

impl State {
    /// Returns the state after `what`, or `None` if that is not possible now.
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

/// Returns an order in which the operations can have happened one after the other, each between its call and its
/// return. If there is none, returns the longest beginning of one.
pub(super) fn linearize(mut history: Vec<Event>) -> Result<Vec<Event>, Vec<Event>> {
    history.sort_by_key(|event| event.called);
    let mut done = vec![false; history.len()];
    let mut seen = HashSet::new();
    // The operations chosen so far, each with the state before it.
    let mut path: Vec<(usize, State)> = Vec::new();
    let mut longest = Vec::new();
    let (mut state, mut next) = (State::default(), 0);
    while path.len() < history.len() {
        // An operation that was called after another had returned cannot come before it.
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
fn linearizable_history_is_accepted() {
    use What::{Acquired, Read, Refused, Wrote};
    let history = vec![
        event(0, 1, Acquired(1)),
        event(2, 3, Read { fence: 1, value: 0 }),
        event(4, 5, Acquired(2)),
        // Concurrent: the write of 1 must have come first.
        event(6, 9, Wrote { fence: 1, value: 7 }),
        event(6, 9, Read { fence: 2, value: 7 }),
        event(10, 11, Refused { fence: 1 }),
    ];
    let order = linearize(history).expect("it can have been");
    assert_eq!(order[3].what, Wrote { fence: 1, value: 7 });
}

#[test]
fn impossible_history_is_rejected() {
    use What::{Acquired, Read, Refused, Wrote};
    for impossible in [
        // A fence went backwards.
        vec![event(0, 1, Acquired(2)), event(2, 3, Acquired(1))],
        // An old holder wrote after the new one had read: a lost update.
        vec![
            event(0, 1, Acquired(1)),
            event(2, 3, Acquired(2)),
            event(4, 5, Read { fence: 2, value: 0 }),
            event(6, 7, Wrote { fence: 1, value: 7 }),
        ],
        // A read of a value that was never written.
        vec![event(0, 1, Read { fence: 1, value: 3 })],
        // The newest fence was refused.
        vec![event(0, 1, Acquired(1)), event(2, 3, Refused { fence: 1 })],
    ] {
        assert!(linearize(impossible.clone()).is_err(), "{impossible:?}");
    }
}
