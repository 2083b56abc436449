//! Every order in which threads can access one breaker, tried by loom. With std's types a test would see a few of them
//! by chance.
//!
//! Loom needs its own atomics and locks in place of std's. So `shared.rs` is compiled here once more, over loom's; the
//! machine inside is the same. That makes this an ordinary test: `cargo test -p holdfast
//! circuit_breaker::tests::interleavings`.

use std::{cell::RefCell, time::Duration};

use loom::{sync::Arc, thread};
use tokio::time::Instant;

// The modules that the copy of `shared.rs` expects in `super`.
use super::super::{
    config::{Config, HalfOpen, Policy},
    event, machine, verdict,
};
use event::State;
use machine::Machine;
use shared::{Shared, Ticket};
use verdict::Verdict;

mod sync {
    pub(super) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    };
    pub(super) use std::sync::PoisonError;
}

#[expect(clippy::duplicate_mod, reason = "see above")]
#[path = "../shared.rs"]
mod shared;

const SUCCESS: Verdict = Verdict::Success { slow: false };
const FAILURE: Verdict = Verdict::Failure { slow: false };

/// A breaker and a time. The time stands still in each test, because only the order of accesses is tested.
#[derive(Clone)]
struct Breaker {
    shared: Arc<Shared>,
    now: Instant,
}

impl Breaker {
    /// Returns a closed breaker that opens after `failures` in a row, and whose probes must all succeed.
    fn closed(failures: u32, permitted_calls: u32) -> Self {
        let config = Config {
            policy: Policy::Consecutive { failures },
            jitter: 0.0,
            half_open: HalfOpen {
                permitted_calls,
                successes_to_close: permitted_calls,
                ..HalfOpen::default()
            },
            ..Config::default()
        };
        let now = Instant::now();
        let shared = Shared::new(Machine::new(config, || 0.0, now));
        Self {
            shared: Arc::new(shared),
            now,
        }
    }

    /// Returns an open breaker whose wait is over.
    fn due(permitted_calls: u32) -> Self {
        let mut breaker = Self::closed(1, permitted_calls);
        breaker.call(FAILURE);
        breaker.now += Duration::from_secs(5);
        breaker
    }

    fn acquire(&self) -> Option<Ticket> {
        self.shared.acquire(|| self.now, |_| ()).ok()
    }

    fn record(&self, ticket: Ticket, verdict: Verdict) {
        self.shared.record(ticket, verdict, || self.now, |_| ());
    }

    /// Makes a call, and returns whether it was admitted.
    fn call(&self, verdict: Verdict) -> bool {
        let ticket = self.acquire();
        let admitted = ticket.is_some();
        if let Some(ticket) = ticket {
            self.record(ticket, verdict);
        }
        admitted
    }

    /// Runs `work` on a thread.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let breaker = self.clone();
        thread::spawn(move || work(&breaker))
    }
}

fn join<T>(handle: thread::JoinHandle<T>) -> T {
    handle.join().expect("no thread panics")
}

/// Tries every order in which three threads can be interrupted up to three times. More interruptions take minutes, and
/// are not known to find more.
fn three_threads(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

#[test]
fn half_open_admits_exactly_what_it_permits() {
    for permitted in [1, 2] {
        three_threads(move || {
            let breaker = Breaker::due(permitted);
            // The tickets are kept until the end, like calls that are out.
            let others = [(); 2].map(|()| breaker.spawn(Breaker::acquire));
            let mine = breaker.acquire();
            let tickets: Vec<_> = others
                .map(join)
                .into_iter()
                .chain([mine])
                .flatten()
                .collect();
            assert_eq!(tickets.len(), permitted as usize);
            for ticket in tickets {
                breaker.record(ticket, SUCCESS);
            }
            assert_eq!(breaker.shared.state(), State::Closed);
        });
    }
}

#[test]
fn no_place_is_leaked_and_none_is_freed_twice() {
    three_threads(|| {
        let breaker = Breaker::due(1);
        let cancelled = breaker.spawn(|breaker| breaker.call(Verdict::Cancelled));
        let ignored = breaker.spawn(|breaker| breaker.call(Verdict::Ignored));
        join(cancelled);
        join(ignored);
        assert_eq!(breaker.shared.state(), State::HalfOpen);
        let probe = breaker.acquire().expect("the place is free");
        assert!(breaker.acquire().is_none(), "there is one place only");
        breaker.record(probe, SUCCESS);
        assert_eq!(breaker.shared.state(), State::Closed);
    });
}

#[test]
fn late_results_change_nothing() {
    for (verdict, probe) in [
        (FAILURE, SUCCESS),
        (SUCCESS, FAILURE),
        (Verdict::Cancelled, SUCCESS),
    ] {
        loom::model(move || {
            let mut breaker = Breaker::closed(1, 1);
            let late = breaker.acquire().expect("closed");
            breaker.call(FAILURE);
            breaker.now += Duration::from_secs(5);
            // While the next state begins, a call from an earlier one ends.
            let late = breaker.spawn(move |breaker| breaker.record(late, verdict));
            let ticket = breaker.acquire().expect("the wait is over");
            assert!(breaker.acquire().is_none(), "one place, and it is taken");
            breaker.record(ticket, probe);
            join(late);
            let expected = if probe == SUCCESS {
                State::Closed
            } else {
                State::Open
            };
            assert_eq!(breaker.shared.state(), expected);
        });
    }
}

/// The state changes between a call's load of the word and its acquisition of the lock.
#[test]
fn results_that_become_late_at_the_lock_change_nothing() {
    loom::model(|| {
        let breaker = Breaker::closed(1, 1);
        let late = breaker.acquire().expect("closed");
        let failing = breaker.spawn(move |breaker| breaker.record(late, FAILURE));
        breaker
            .shared
            .locked(|_| (), |machine| machine.reset(breaker.now));
        join(failing);
        // Either the failure opened it and was reset, or it came after the reset.
        assert_eq!(breaker.shared.state(), State::Closed);
    });
    loom::model(|| {
        let mut breaker = Breaker::due(1);
        let late = breaker.acquire().expect("the wait is over");
        // The probe does not end, and the next trial begins.
        breaker.now += Duration::from_secs(60);
        let cancelled = breaker.spawn(move |breaker| breaker.record(late, Verdict::Cancelled));
        let probe = breaker.acquire().expect("the next wait is over, too");
        join(cancelled);
        assert!(breaker.acquire().is_none(), "it freed another call's place");
        breaker.record(probe, SUCCESS);
        assert_eq!(breaker.shared.state(), State::Closed);
    });
}

#[test]
fn no_failure_is_lost_while_closed() {
    three_threads(|| {
        let breaker = Breaker::closed(3, 1);
        let others = [(); 2].map(|()| breaker.spawn(|breaker| breaker.call(FAILURE)));
        breaker.call(FAILURE);
        others
            .into_iter()
            .map(join)
            .for_each(|admitted| assert!(admitted));
        assert_eq!(breaker.shared.state(), State::Open);
    });
}

#[test]
fn a_success_forgets_the_failures_before_it_and_none_after_it() {
    loom::model(|| {
        let breaker = Breaker::closed(2, 1);
        let success = breaker.spawn(|breaker| breaker.call(SUCCESS));
        breaker.call(FAILURE);
        join(success);
        // The success came before the failure or after it. Two more failures open the breaker in either case.
        breaker.call(FAILURE);
        breaker.call(FAILURE);
        assert_eq!(breaker.shared.state(), State::Open);
    });
    loom::model(|| {
        let breaker = Breaker::closed(2, 1);
        breaker.call(FAILURE);
        // This success comes after the first failure, so the next one is not the second in a row.
        let success = breaker.spawn(|breaker| breaker.call(SUCCESS));
        join(success);
        breaker.call(FAILURE);
        assert_eq!(breaker.shared.state(), State::Closed);
    });
}

#[test]
fn command_wins_over_concurrent_calls() {
    three_threads(|| {
        let breaker = Breaker::due(1);
        let probe = breaker.spawn(|breaker| breaker.call(SUCCESS));
        let failing = breaker.spawn(|breaker| breaker.call(FAILURE));
        breaker
            .shared
            .locked(|_| (), |machine| machine.force_open(breaker.now));
        join(probe);
        join(failing);
        assert_eq!(breaker.shared.state(), State::ForcedOpen);
        assert!(breaker.acquire().is_none());
    });
}

#[test]
fn changes_are_published_in_order() {
    // Loom runs one of its threads at a time, all of them on one thread of the system.
    thread_local!(static TOLD: RefCell<Vec<(State, State)>> = const { RefCell::new(Vec::new()) });
    loom::model(|| {
        TOLD.take();
        let breaker = Breaker::closed(1, 1);
        let tell = |change: &machine::Change| {
            TOLD.with_borrow_mut(|told| told.push((change.from, change.to)));
        };
        let failing = breaker.spawn(move |breaker| {
            if let Ok(ticket) = breaker.shared.acquire(|| breaker.now, tell) {
                breaker.shared.record(ticket, FAILURE, || breaker.now, tell);
            }
        });
        breaker
            .shared
            .locked(tell, |machine| machine.force_closed(breaker.now));
        breaker
            .shared
            .locked(tell, |machine| machine.reset(breaker.now));
        join(failing);
        let told = TOLD.take();
        assert!(
            told.windows(2).all(|pair| pair[0].1 == pair[1].0),
            "{told:?}"
        );
        assert_eq!(told.last().map(|last| last.1), Some(breaker.shared.state()));
    });
}
