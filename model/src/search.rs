//! An exhaustive search that shows whether everything *ends*.
//!
//! stateright checks what always holds, and what sometimes does. That is enough where every step uses something up, as
//! in choreography: whatever happens, a state is reached in which nothing has to happen any more, and only that state
//! has to be right. But a saga resends until it gets a reply, so its graph may have cycles, and no state of a cycle is
//! final. (stateright's `eventually` does not see cycles either, as its documentation says.)
//!
//! So this search keeps the steps that *have to* happen, and follows them backwards from the states in which none has
//! to. A state that it does not reach in this way can go on for ever. Of all other states it shows more than that they
//! *can* end (a saga that waits for its customer to cancel can end, too): from wherever trouble has led, once nothing
//! else goes wrong, everything ends, in whatever order things then happen and whatever operators decide.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
};

use stateright::{Expectation, Model};

/// The name of the property that every search checks.
pub const ENDS: &str = "what has to happen comes to an end";

/// A model that knows which of its steps have to happen, sooner or later. The others may.
pub trait Driven: Model<State: Hash, Action: Clone> {
    /// Returns whether this step has to happen.
    fn has_to_happen(&self, state: &Self::State, action: &Self::Action) -> bool;
}

/// The result of a search.
#[derive(Debug)]
pub struct Found<A> {
    /// The number of distinct states.
    pub states: usize,
    /// The number of steps between them.
    pub steps: usize,
    /// The properties that do not hold, each with a shortest path to a failure. The path of [`ENDS`] goes on until it
    /// closes a cycle.
    pub failures: BTreeMap<&'static str, Vec<A>>,
    /// The properties that hold somewhere, as they should, each with a shortest path to such a state.
    pub examples: BTreeMap<&'static str, Vec<A>>,
}

/// The point at which a search stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All states were seen.
    All,
    /// A property does not hold.
    Failure,
}

/// Searches the states of a model, the nearest first.
pub fn search<M: Driven>(model: &M, until: Until) -> Found<M::Action> {
    let mut graph = Graph::new(model);
    let mut found = Found {
        states: 0,
        steps: 0,
        failures: BTreeMap::new(),
        examples: BTreeMap::new(),
    };
    let properties = model.properties();
    // Sorted by number.
    let mut ahead: VecDeque<M::State> = VecDeque::new();
    for (place, state) in (0..).zip(model.init_states()) {
        if graph.number(&state, Origin { from: None, place }).1 {
            ahead.push_back(state);
        }
    }
    let mut number = 0;
    while let Some(state) = ahead.pop_front() {
        for property in &properties {
            let (list, is_news) = match (
                property.expectation.clone(),
                (property.condition)(model, &state),
            ) {
                (Expectation::Sometimes, holds) => (&mut found.examples, holds),
                (Expectation::Always, holds) => (&mut found.failures, !holds),
                (Expectation::Eventually, _) => {
                    panic!("`eventually` is not supported, only {ENDS:?}")
                }
            };
            if is_news && !list.contains_key(property.name) {
                list.insert(property.name, graph.way(number).0);
            }
        }
        if until == Until::Failure && !found.failures.is_empty() {
            break;
        }
        for (place, action) in (0..).zip(graph.actions(&state)) {
            let must = model.has_to_happen(&state, &action);
            let Some(next) = model.next_state(&state, action) else {
                continue;
            };
            found.steps += 1;
            let origin = Origin {
                from: Some(number),
                place,
            };
            let (to, is_new) = graph.number(&next, origin);
            if must {
                graph.musts.push((to, number));
                graph.open[number as usize] += 1;
            }
            if is_new {
                ahead.push_back(next);
            }
        }
        number += 1;
    }
    found.states = graph.origins.len();
    // A failure cuts off the states behind it, which then end: cycles are looked for only without failures.
    if found.failures.is_empty()
        && let Some(endless) = graph.endless()
    {
        found.failures.insert(ENDS, endless);
    }
    found
}

/// The way to a state: its predecessor and the place of the step there, or its place among the initial states.
#[derive(Clone, Copy)]
struct Origin {
    from: Option<u32>,
    place: u16,
}

/// The states, numbered in the order in which they were found.
struct Graph<'m, M> {
    model: &'m M,
    /// Numbers by hash. Two of some million states have the same hash with a probability of one in a million.
    numbers: HashMap<u64, u32>,
    origins: Vec<Origin>,
    /// By state, the number of steps that have to happen and lead to a state that is not known to end.
    open: Vec<u16>,
    /// The steps that have to happen, as (to, from).
    musts: Vec<(u32, u32)>,
}

impl<'m, M: Driven> Graph<'m, M> {
    fn new(model: &'m M) -> Self {
        Self {
            model,
            numbers: HashMap::new(),
            origins: Vec::new(),
            open: Vec::new(),
            musts: Vec::new(),
        }
    }

    fn actions(&self, state: &M::State) -> Vec<M::Action> {
        let mut actions = Vec::new();
        self.model.actions(state, &mut actions);
        actions
    }

    /// Returns a state's number, and whether it is new.
    fn number(&mut self, state: &M::State, origin: Origin) -> (u32, bool) {
        let next = u32::try_from(self.origins.len()).expect("fewer than 2^32 states");
        let number = *self.numbers.entry(hash(state)).or_insert(next);
        if number == next {
            self.origins.push(origin);
            self.open.push(0);
        }
        (number, number == next)
    }

    /// Returns the path on which a state was found, and the state.
    fn way(&self, number: u32) -> (Vec<M::Action>, M::State) {
        let Origin { from, place } = self.origins[number as usize];
        let Some(from) = from else {
            return (
                Vec::new(),
                self.model.init_states().swap_remove(place.into()),
            );
        };
        let (mut way, state) = self.way(from);
        let action = self.actions(&state).swap_remove(place.into());
        way.push(action.clone());
        let state = self.model.next_state(&state, action);
        (way, state.expect("it led somewhere before"))
    }

    /// Takes off each state in which nothing has to happen, and then each state whose necessary steps all lead to
    /// states that are off. If some stay on, returns the path to one of them and round a cycle.
    fn endless(&mut self) -> Option<Vec<M::Action>> {
        self.musts.sort_unstable();
        let numbered = || (0..).zip(&self.open);
        let mut off: Vec<u32> = numbered()
            .filter(|(_, open)| **open == 0)
            .map(|(number, _)| number)
            .collect();
        while let Some(number) = off.pop() {
            let first = self.musts.partition_point(|(to, _)| *to < number);
            let before = self.musts[first..]
                .iter()
                .take_while(|(to, _)| *to == number);
            for (_, from) in before {
                let open = &mut self.open[*from as usize];
                *open -= 1;
                if *open == 0 {
                    off.push(*from);
                }
            }
        }
        let (start, _) = (0..).zip(&self.open).find(|(_, open)| **open > 0)?;
        let (mut way, mut state) = self.way(start);
        let mut seen = vec![start];
        loop {
            let (action, next, number) = self.stays_on(&state)?;
            way.push(action);
            if seen.contains(&number) {
                return Some(way);
            }
            seen.push(number);
            state = next;
        }
    }

    /// Returns a step that has to happen and leads to a state that is still on.
    fn stays_on(&self, state: &M::State) -> Option<(M::Action, M::State, u32)> {
        let mut musts = self.actions(state).into_iter();
        musts.find_map(|action| {
            let next = self.model.next_state(state, action.clone())?;
            let number = *self.numbers.get(&hash(&next))?;
            let is_on = self.open[number as usize] > 0;
            (is_on && self.model.has_to_happen(state, &action)).then_some((action, next, number))
        })
    }
}

/// Returns a hash that is the same in each run, so that the path of a failure is, too.
fn hash(state: &impl Hash) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(state)
}

#[cfg(test)]
mod tests {
    use stateright::{Checker, Property};

    use super::*;

    /// A counter from 0. The function returns the steps from a state, each with whether it has to happen.
    struct Counter(fn(u8) -> Vec<(u8, bool)>);

    impl Model for Counter {
        type State = u8;
        type Action = (u8, bool);

        fn init_states(&self) -> Vec<u8> {
            vec![0]
        }

        fn actions(&self, state: &u8, actions: &mut Vec<(u8, bool)>) {
            actions.extend((self.0)(*state));
        }

        fn next_state(&self, _: &u8, (to, _): (u8, bool)) -> Option<u8> {
            Some(to)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::always("less than 200", |_, state| *state < 200),
                Property::sometimes("five", |_, state| *state == 5),
            ]
        }
    }

    impl Driven for Counter {
        fn has_to_happen(&self, _: &u8, (_, must): &(u8, bool)) -> bool {
            *must
        }
    }

    fn on(state: u8, last: u8) -> Vec<(u8, bool)> {
        (state < last)
            .then_some((state + 1, true))
            .into_iter()
            .collect()
    }

    #[test]
    fn search_without_failures_sees_every_state() {
        let model = Counter(|state| on(state, 10));
        let found = search(&model, Until::All);
        assert_eq!((found.states, found.steps), (11, 10));
        assert!(found.failures.is_empty());
        assert_eq!(found.examples["five"].len(), 5);
        assert_eq!(model.checker().spawn_bfs().join().unique_state_count(), 11);
    }

    #[test]
    fn path_to_a_failure_is_a_shortest_one() {
        let model =
            Counter(|state| [on(state, 220), vec![(state.saturating_add(9), false)]].concat());
        let found = search(&model, Until::Failure);
        assert_eq!(found.failures["less than 200"].len(), 23);
    }

    #[test]
    fn a_cycle_that_can_be_left_is_a_failure() {
        // From 3 back to 1, or on to 4: nothing forces it to go on.
        let model =
            Counter(|state| [on(state, 4), vec![(1, true); usize::from(state == 3)]].concat());
        let way = &search(&model, Until::All).failures[ENDS];
        assert_eq!(way, &[(1, true), (2, true), (3, true), (1, true)]);
    }

    #[test]
    fn a_cycle_with_an_optional_step_is_no_failure() {
        let model =
            Counter(|state| [on(state, 5), vec![(1, false); usize::from(state == 3)]].concat());
        assert!(search(&model, Until::All).failures.is_empty());
    }
}
