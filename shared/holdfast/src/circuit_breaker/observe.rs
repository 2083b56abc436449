//! Logs, metrics and events of a breaker.

use std::sync::{Arc, OnceLock};

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};
use tokio::sync::broadcast;

use super::{
    counters::Outcome,
    event::{Calls, Event, State},
    machine::Change,
};

/// The number of events that wait for a slow receiver before it loses the oldest.
const EVENTS: usize = 64;

/// The outputs of one breaker. Handles of metrics are looked up once, when it is made: a look-up costs more than a
/// call.
pub(super) struct Observer {
    name: Arc<str>,
    /// In the order of [`State::ALL`], as are `transitions`.
    states: [Gauge; State::ALL.len()],
    transitions: [Counter; State::ALL.len()],
    /// In the order of [`Outcome::ALL`].
    calls: [Counter; Outcome::ALL.len()],
    /// Made for the first receiver: most breakers have none, and some services have a breaker for each of their
    /// customers' addresses.
    events: OnceLock<broadcast::Sender<Event>>,
}

impl Observer {
    pub(super) fn new(name: Arc<str>) -> Self {
        describe();
        let label = || name.to_string();
        let observer = Self {
            states: State::ALL.map(
                |state| gauge!("circuit_breaker_state", "name" => label(), "state" => state.as_str()),
            ),
            transitions: State::ALL.map(|to| {
                counter!("circuit_breaker_transitions_total", "name" => label(), "to" => to.as_str())
            }),
            calls: Outcome::ALL.map(|outcome| {
                counter!("circuit_breaker_calls_total", "name" => label(), "outcome" => outcome.as_str())
            }),
            events: OnceLock::new(),
            name,
        };
        // Each series begins at zero, so that the first event shows as an increase.
        observer.transitions.iter().for_each(|to| to.increment(0));
        observer.publish(State::Closed, Calls::default());
        observer
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Sets the metrics of values that are kept elsewhere: the state, and the calls so far.
    pub(super) fn publish(&self, now: State, calls: Calls) {
        for (state, gauge) in State::ALL.iter().zip(&self.states) {
            gauge.set(if *state == now { 1.0 } else { 0.0 });
        }
        for (outcome, counter) in Outcome::ALL.iter().zip(&self.calls) {
            counter.absolute(calls.of(*outcome));
        }
    }

    /// Logs and publishes a change. Called under the breaker's lock, so it does not block.
    pub(super) fn changed(&self, change: &Change) {
        let Change {
            from,
            to,
            reason,
            at,
        } = *change;
        self.states[from as usize].set(0.0);
        self.states[to as usize].set(1.0);
        self.transitions[to as usize].increment(1);
        match to {
            State::Open | State::ForcedOpen => {
                tracing::warn!(
                    breaker = &*self.name,
                    "circuit breaker {from} -> {to}: {reason}"
                );
            }
            State::Closed | State::HalfOpen | State::ForcedClosed => {
                tracing::info!(
                    breaker = &*self.name,
                    "circuit breaker {from} -> {to}: {reason}"
                );
            }
        }
        if let Some(events) = self.events.get() {
            // An error means that there is no receiver any more.
            let _ = events.send(Event {
                name: Arc::clone(&self.name),
                from,
                to,
                reason,
                at,
            });
        }
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<Event> {
        self.events
            .get_or_init(|| broadcast::Sender::new(EVENTS))
            .subscribe()
    }
}

/// Registers the descriptions of the metrics.
fn describe() {
    describe_gauge!(
        "circuit_breaker_state",
        Unit::Count,
        "1 for the state that a circuit breaker is in, 0 for the others"
    );
    describe_counter!(
        "circuit_breaker_transitions_total",
        Unit::Count,
        "Changes of a circuit breaker's state, by the new state"
    );
    describe_counter!(
        "circuit_breaker_calls_total",
        Unit::Count,
        "Calls by outcome: succeeded, failed, slow (succeeded too slowly), ignored (an error that says nothing \
         about the dependency), cancelled (dropped before its end), rejected (not made)"
    );
}
