//! The outcome of each order, second by second.
//!
//! Every latency begins at the moment at which the order was *meant* to arrive. A request that could only be sent late,
//! because the generator or the stack was busy with earlier ones, has waited since then. To leave that out would be
//! coordinated omission, by which a stack that stalls for ten seconds looks as if only one customer had waited.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::Context;
use contracts::value::OrderId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    clock::TheirClock,
    profile::{Limits, Profile},
    quantiles::{Latencies, Summary},
    schedule::{Arrival, Scenario, Ticket},
};
use crate::traffic::{Cancel, Ending};

/// The delay after the intended moment from which a request is counted as a late start.
pub const LATE: Duration = Duration::from_millis(20);

/// The counts, and the orders that are not known to rest.
pub struct Board {
    begun: OnceLock<Instant>,
    inner: Mutex<Inner>,
}

struct Inner {
    seconds: Vec<Second>,
    phases: Vec<Phase>,
    scenarios: BTreeMap<Scenario, Latencies>,
    /// From the moment a cancel was due, after the confirmation, until the order was undone.
    undone: Latencies,
    errors: BTreeMap<String, u64>,
    waiting: BTreeMap<OrderId, Waiting>,
    clock: TheirClock,
    journal: File,
}

/// The counts of one second.
#[derive(Clone, Debug, Default)]
struct Second {
    offered: u64,
    accepted: u64,
    rested: u64,
    failed: u64,
    to_rest: Latencies,
}

/// The counts of the customers who arrived in one phase.
#[derive(Clone, Debug, Default)]
struct Phase {
    offered: u64,
    accepted: u64,
    rested: u64,
    failed: u64,
    late: u64,
    to_answer: Latencies,
    to_rest: Latencies,
}

/// An order that is not known to rest.
struct Waiting {
    arrival: Arrival,
    ending: Ending,
    customer: String,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq)]
enum Progress {
    /// On its way to its first end.
    First,
    /// Confirmed, and to be cancelled; the cancel is due since then.
    Undoing(Duration),
    /// A cancel failed, so that any end is right.
    Any,
}

/// The fields of an order that matter here, as the order service shows them.
#[derive(Clone, Debug, Deserialize)]
pub struct Seen {
    pub id: OrderId,
    pub state: String,
    /// The reason for which it was cancelled.
    pub reason: Option<String>,
    /// True if nothing more will happen to it by itself.
    pub at_rest: bool,
    /// The time of its creation, by the service's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The time of its last change, by the service's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// The counts and latencies of a whole run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Customers who arrived.
    pub offered: u64,
    /// Orders that were accepted.
    pub accepted: u64,
    /// Orders that came to rest.
    pub rested: u64,
    /// Arrivals without an accepted order.
    pub failed: u64,
    /// Requests that started late.
    pub late: u64,
    /// Orders that are not known to rest.
    pub waiting: usize,
    /// Latencies from intended start to rest.
    pub to_rest: Summary,
    /// Latencies from intended start to the response.
    pub to_answer: Summary,
    /// Latencies of cancels after the confirmation, until all was undone.
    pub undone: Summary,
    /// The number of errors of each kind.
    pub errors: BTreeMap<String, u64>,
    /// The largest possible error of a time translated from the service's clock, in milliseconds.
    pub clock_uncertainty_ms: f64,
}

/// The counts and latencies of a phase.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PhaseResult {
    /// Customers who arrived.
    pub offered: u64,
    /// Orders that were accepted.
    pub accepted: u64,
    /// Of those, orders that came to rest in the end.
    pub rested: u64,
    /// Orders of any phase that came to rest per second while this one lasted, without its first quarter.
    pub rest_rate: f64,
    /// Customers who arrived per second in the same time.
    pub offered_rate: f64,
    /// Arrivals without an accepted order.
    pub failed: u64,
    /// Requests that started late.
    pub late: u64,
    /// Latencies from intended start to the response.
    pub to_answer: Summary,
    /// Latencies from intended start to rest.
    pub to_rest: Summary,
}

impl PhaseResult {
    /// Returns true if orders came to rest as fast as they arrived, within the limits.
    pub fn keeps_up(&self, limits: &Limits) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "counts of orders")]
        let errors = self.failed as f64 / (self.offered.max(1)) as f64;
        self.rest_rate >= 0.95 * self.offered_rate
            && self.to_rest.p99_ms <= limits.p99_to_rest_ms
            && errors <= limits.errors
    }
}

/// The counts of a second, for the plots.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SecondResult {
    /// Seconds since the first arrival.
    pub second: usize,
    /// Customers who arrived.
    pub offered: u64,
    /// Orders that were accepted.
    pub accepted: u64,
    /// Orders that came to rest.
    pub rested: u64,
    /// Arrivals without an accepted order.
    pub failed: u64,
    /// Orders accepted and not at rest, at the second's end.
    pub in_flight: u64,
    /// Latencies of the orders that came to rest within the second.
    pub to_rest: Summary,
}

impl Board {
    /// Creates an empty board. The ids of accepted orders are written to `journal`.
    pub fn new(profile: &Profile, journal: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            begun: OnceLock::new(),
            inner: Mutex::new(Inner {
                seconds: Vec::new(),
                phases: vec![Phase::default(); profile.phases.len()],
                scenarios: BTreeMap::new(),
                undone: Latencies::default(),
                errors: BTreeMap::new(),
                waiting: BTreeMap::new(),
                clock: TheirClock::default(),
                journal: File::create(journal).with_context(|| journal.display().to_string())?,
            }),
        })
    }

    /// Sets the moment zero to now, the first time, and returns it.
    pub fn begin(&self) -> Instant {
        *self.begun.get_or_init(Instant::now)
    }

    /// Returns the time since moment zero; zero before it is set.
    pub fn now(&self) -> Duration {
        self.begun.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a customer who arrives.
    pub fn offered(&self, arrival: Arrival) {
        let mut inner = self.lock();
        inner.second(arrival.at).offered += 1;
        inner.phases[arrival.phase].offered += 1;
    }

    /// Counts a late start, if the customer is served more than [`LATE`] after the arrival.
    pub fn started(&self, arrival: Arrival, now: Duration) {
        if now.saturating_sub(arrival.at) > LATE {
            self.lock().phases[arrival.phase].late += 1;
        }
    }

    /// Notes an accepted order, the moments at which its request was sent and answered, and its expected end.
    pub fn accepted(
        &self,
        arrival: Arrival,
        (sent, answered): (Duration, Duration),
        ending: Ending,
        customer: String,
        seen: &Seen,
    ) -> std::io::Result<()> {
        let mut inner = self.lock();
        writeln!(inner.journal, "{}", seen.id)?;
        inner.clock.learn(sent, answered, seen.created_at);
        inner.second(answered).accepted += 1;
        let phase = &mut inner.phases[arrival.phase];
        phase.accepted += 1;
        phase.to_answer.add(answered.saturating_sub(arrival.at));
        let waiting = Waiting {
            arrival,
            ending,
            customer,
            progress: Progress::First,
        };
        inner.waiting.insert(seen.id, waiting);
        Ok(())
    }

    /// Counts a customer who got no order.
    pub fn failed(&self, arrival: Arrival, now: Duration, kind: String) {
        let mut inner = self.lock();
        inner.second(now).failed += 1;
        inner.phases[arrival.phase].failed += 1;
        *inner.errors.entry(kind).or_default() += 1;
    }

    /// Counts an error of another kind.
    pub fn error(&self, kind: String) {
        *self.lock().errors.entry(kind).or_default() += 1;
    }

    /// Notes that an order could not be cancelled, so that any end of it is right.
    pub fn cancel_failed(&self, id: OrderId, kind: String) {
        let mut inner = self.lock();
        if let Some(waiting) = inner.waiting.get_mut(&id) {
            waiting.progress = Progress::Any;
        }
        *inner.errors.entry(format!("cancel: {kind}")).or_default() += 1;
    }

    /// Returns the orders that are not known to rest, oldest first.
    pub fn waiting(&self) -> Vec<OrderId> {
        self.lock().waiting.keys().copied().collect()
    }

    /// Returns true if every customer who arrived got a response or an error.
    pub fn all_answered(&self) -> bool {
        let inner = self.lock();
        let answered = |phase: &Phase| phase.accepted + phase.failed >= phase.offered;
        inner.phases.iter().all(answered)
    }

    /// Returns the number of orders that are not known to rest.
    pub fn in_flight(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Takes note of an order as the service shows it. Returns the cancel that is due, if it is.
    pub fn seen(&self, seen: &Seen) -> Option<Ticket> {
        if !seen.at_rest {
            return None;
        }
        let now = self.now();
        let mut inner = self.lock();
        let waiting = inner.waiting.get(&seen.id)?;
        let confirmed = seen.state == "confirmed";
        match (waiting.progress, waiting.ending.cancel()) {
            // The order was confirmed before its cancel, or is about to be cancelled.
            (Progress::First, Cancel::AtOnce) | (Progress::Undoing(_), _) if confirmed => {
                return None;
            }
            _ => {}
        }
        let rested_at = inner.clock.translate(seen.updated_at).unwrap_or(now);
        let waiting = inner.waiting.get_mut(&seen.id)?;
        let (arrival, ending, progress) = (waiting.arrival, waiting.ending, waiting.progress);
        if progress == Progress::First && ending.cancel() == Cancel::WhenConfirmed && confirmed {
            waiting.progress = Progress::Undoing(now);
            let customer = waiting.customer.clone();
            inner.rested(arrival, rested_at);
            return Some(Ticket::Cancel {
                id: seen.id,
                customer,
                wanted: now,
            });
        }
        inner.waiting.remove(&seen.id);
        match progress {
            Progress::Undoing(wanted) => inner.undone.add(rested_at.saturating_sub(wanted)),
            // A first rest before a cancel that failed is counted already.
            Progress::Any if ending.cancel() == Cancel::WhenConfirmed => return None,
            Progress::Any | Progress::First => inner.rested(arrival, rested_at),
        }
        let (state, reason) = ending.expected();
        if progress != Progress::Any && (seen.state != state || seen.reason.as_deref() != reason) {
            let end = seen.reason.as_deref().unwrap_or("");
            let kind = format!("{} ended {} {end}", arrival.scenario.name(), seen.state);
            *inner.errors.entry(kind).or_default() += 1;
        }
        None
    }

    /// Returns the counts without the latencies, which take sorting.
    pub fn counts(&self) -> Totals {
        let inner = self.lock();
        let mut totals = Totals {
            waiting: inner.waiting.len(),
            errors: inner.errors.clone(),
            clock_uncertainty_ms: inner
                .clock
                .uncertainty()
                .map_or(0.0, |uncertainty| uncertainty.as_secs_f64() * 1000.0),
            ..Totals::default()
        };
        for phase in &inner.phases {
            totals.offered += phase.offered;
            totals.accepted += phase.accepted;
            totals.rested += phase.rested;
            totals.failed += phase.failed;
            totals.late += phase.late;
        }
        totals
    }

    /// Returns the counts and the latencies.
    pub fn totals(&self) -> Totals {
        let counts = self.counts();
        let inner = self.lock();
        let (mut to_rest, mut to_answer) = (Latencies::default(), Latencies::default());
        for phase in &inner.phases {
            to_rest.extend(&phase.to_rest);
            to_answer.extend(&phase.to_answer);
        }
        Totals {
            to_rest: to_rest.summary(),
            to_answer: to_answer.summary(),
            undone: inner.undone.summary(),
            ..counts
        }
    }

    /// Returns the counts of some seconds, for a line of progress: offered, accepted, at rest, and the latencies to
    /// rest.
    pub fn between(&self, from: usize, to: usize) -> (u64, u64, u64, Summary) {
        let inner = self.lock();
        let seconds = inner
            .seconds
            .get(from.min(inner.seconds.len())..to.min(inner.seconds.len()));
        let mut latencies = Latencies::default();
        let (mut offered, mut accepted, mut rested) = (0, 0, 0);
        for second in seconds.unwrap_or_default() {
            offered += second.offered;
            accepted += second.accepted;
            rested += second.rested;
            latencies.extend(&second.to_rest);
        }
        (offered, accepted, rested, latencies.summary())
    }

    /// Returns the figures of a phase until now. `span` is its begin and its end, in seconds.
    pub fn phase(&self, phase: usize, span: (f64, f64)) -> PhaseResult {
        let inner = self.lock();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "seconds since the start"
        )]
        let (from, to) = ((span.0 + (span.1 - span.0) / 4.0) as usize, span.1 as usize);
        let from = from.min(inner.seconds.len());
        let seconds = &inner.seconds[from..to.clamp(from, inner.seconds.len())];
        #[expect(clippy::cast_precision_loss, reason = "counts of orders")]
        let per_second = |count: fn(&Second) -> u64| {
            seconds.iter().map(count).sum::<u64>() as f64 / seconds.len().max(1) as f64
        };
        let phase = &inner.phases[phase];
        PhaseResult {
            offered: phase.offered,
            accepted: phase.accepted,
            rested: phase.rested,
            rest_rate: per_second(|second| second.rested),
            offered_rate: per_second(|second| second.offered),
            failed: phase.failed,
            late: phase.late,
            to_answer: phase.to_answer.summary(),
            to_rest: phase.to_rest.summary(),
        }
    }

    /// Returns the counts of each second.
    pub fn seconds(&self) -> Vec<SecondResult> {
        let inner = self.lock();
        let (mut accepted, mut rested) = (0_u64, 0_u64);
        inner
            .seconds
            .iter()
            .enumerate()
            .map(|(index, second)| {
                accepted += second.accepted;
                rested += second.rested;
                SecondResult {
                    second: index,
                    offered: second.offered,
                    accepted: second.accepted,
                    rested: second.rested,
                    failed: second.failed,
                    in_flight: accepted.saturating_sub(rested),
                    to_rest: second.to_rest.summary(),
                }
            })
            .collect()
    }

    /// Returns the latencies to rest by scenario.
    pub fn scenarios(&self) -> Vec<(&'static str, Summary)> {
        let inner = self.lock();
        let of =
            |(scenario, latencies): (&Scenario, &Latencies)| (scenario.name(), latencies.summary());
        inner.scenarios.iter().map(of).collect()
    }
}

impl Inner {
    fn second(&mut self, at: Duration) -> &mut Second {
        let index = usize::try_from(at.as_secs()).unwrap_or(0);
        if self.seconds.len() <= index {
            self.seconds.resize_with(index + 1, Second::default);
        }
        &mut self.seconds[index]
    }

    fn rested(&mut self, arrival: Arrival, at: Duration) {
        let latency = at.saturating_sub(arrival.at);
        let second = self.second(at);
        second.rested += 1;
        second.to_rest.add(latency);
        let phase = &mut self.phases[arrival.phase];
        phase.rested += 1;
        phase.to_rest.add(latency);
        self.scenarios
            .entry(arrival.scenario)
            .or_default()
            .add(latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn arrival(at: Duration, scenario: Scenario) -> Arrival {
        Arrival {
            at,
            phase: 0,
            scenario,
        }
    }

    fn board(name: &str) -> Board {
        let profile = Profile::named("smoke", None, None).expect("smoke");
        let journal = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        Board::new(&profile, &journal).expect("a journal")
    }

    fn order(created: Duration, updated: Duration, state: &str, reason: Option<&str>) -> Seen {
        Seen {
            id: OrderId::new(),
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
            at_rest: true,
            created_at: OffsetDateTime::UNIX_EPOCH + created,
            updated_at: OffsetDateTime::UNIX_EPOCH + updated,
        }
    }

    #[test]
    fn latency_begins_when_the_customer_was_meant_to_arrive() {
        let board = board("intended");
        // The stack stalls: ten customers who arrive within a second are all served at 1000 ms, and at rest at 1100 ms.
        for index in 0..10 {
            let arrival = arrival(millis(index * 100), Scenario::HotProduct);
            board.offered(arrival);
            board.started(arrival, millis(1000));
            let seen = order(millis(1001), millis(1100), "confirmed", None);
            board
                .accepted(
                    arrival,
                    (millis(1000), millis(1002)),
                    Ending::ConfirmedWallet,
                    "a".into(),
                    &seen,
                )
                .expect("the journal");
            assert_eq!(board.seen(&seen), None);
        }
        let totals = board.totals();
        assert_eq!((totals.accepted, totals.rested, totals.late), (10, 10, 10));
        // The first has waited for 1100 ms, the last for 200; from the sending of the requests it would be 100 ms for
        // all.
        assert!((totals.to_rest.max_ms - 1100.0).abs() < 2.0, "{totals:?}");
        assert!((totals.to_rest.p50_ms - 600.0).abs() < 2.0, "{totals:?}");
        assert!((totals.to_answer.max_ms - 1002.0).abs() < 0.1, "{totals:?}");
        assert!(totals.errors.is_empty(), "{totals:?}");
    }

    #[test]
    fn an_order_counts_when_it_is_at_rest() {
        let board = board("rest");
        let arrival = arrival(millis(0), Scenario::BrowseAndOrder);
        board.offered(arrival);
        let mut seen = order(millis(5), millis(5), "pending", None);
        seen.at_rest = false;
        board
            .accepted(
                arrival,
                (millis(4), millis(6)),
                Ending::ConfirmedCard,
                "a".into(),
                &seen,
            )
            .expect("the journal");
        assert_eq!(board.seen(&seen), None);
        assert_eq!((board.totals().rested, board.waiting()), (0, vec![seen.id]));
        let end = Seen {
            at_rest: true,
            state: "cancelled".into(),
            reason: Some("deadline".into()),
            updated_at: OffsetDateTime::UNIX_EPOCH + millis(2500),
            ..seen
        };
        assert_eq!(board.seen(&end), None);
        let totals = board.totals();
        assert_eq!((totals.rested, totals.waiting), (1, 0));
        assert_eq!(
            totals.errors.into_iter().collect::<Vec<_>>(),
            [("browse and order ended cancelled deadline".to_owned(), 1)]
        );
        // The order is counted in the second in which it came to rest.
        let rested: Vec<u64> = board.seconds().iter().map(|second| second.rested).collect();
        assert_eq!(rested, [0, 0, 1]);
    }

    #[test]
    fn a_cancel_after_the_confirmation_is_followed_to_its_own_rest() {
        let board = board("cancel");
        let arrival = arrival(millis(0), Scenario::Cancel);
        let confirmed = order(millis(5), millis(50), "confirmed", None);
        board
            .accepted(
                arrival,
                (millis(4), millis(6)),
                Ending::CancelledAfter,
                "alice".into(),
                &confirmed,
            )
            .expect("the journal");
        let ticket = board.seen(&confirmed).expect("a cancel");
        assert!(
            matches!(&ticket, Ticket::Cancel { id, customer, .. } if *id == confirmed.id && customer == "alice"),
            "{ticket:?}"
        );
        // Only once, however often the order is seen confirmed.
        assert_eq!(board.seen(&confirmed), None);
        assert_eq!(board.totals().rested, 1);
        let cancelled = Seen {
            state: "cancelled".into(),
            reason: Some("customer".into()),
            updated_at: OffsetDateTime::UNIX_EPOCH + millis(90),
            ..confirmed
        };
        assert_eq!(board.seen(&cancelled), None);
        let totals = board.totals();
        assert_eq!(
            (totals.rested, totals.waiting, totals.undone.count),
            (1, 0, 1)
        );
        assert!(totals.errors.is_empty(), "{totals:?}");
    }
}
