//! Saga: a long transaction over several services that always comes to an end.
//!
//! # Problem
//!
//! An order is charged, then reserved, then confirmed, by three services with three databases. After the charge the
//! process that drives the order dies, and nothing records that the order still needs driving. Or the process restarts,
//! and charges a second time. Or the reservation is refused and then the refund fails: who retries it, for how long,
//! and which person is told?
//!
//! # Guarantee
//!
//! A started saga ends with every step done, or with every step that was done, *or may have been done*, undone in
//! reverse order; only an operator can end it otherwise. Its row alone determines what it does next: log, state and the
//! next command are written in the transaction that handles the input, so a crash at any line loses nothing, and any
//! number of processes can share the work. A command is sent at least once, under an idempotency key that never changes
//! ([`Key`]). A saga that can go neither forward nor back becomes *stuck*: an operator resumes it, or has the
//! participants write off the current step or all that remains, and each action is recorded in the audit trail. A saga
//! ends under the version of the definition that it began with. A row that cannot be read stops only its own saga.
//!
//! # Not guaranteed
//!
//! Isolation: other transactions see a charge that will be refunded. That participants act once: each must deduplicate
//! by the command's key, for ever, and must answer a repeated command as it answered the first. A compensation may
//! arrive before its action: the participant then leaves a tombstone, and refuses the action when it comes.
//!
//! # States
//!
//! ```text
//!             the last step is done
//! running ───────────────────────────────► completed
//!   │ refused, no reply, cancelled:            ▲ after the pivot it only goes forward
//!   │ only until the pivot's command is written
//!   ▼         the first step is undone
//! compensating ──────────────────────────► compensated
//!   │    ▲                    skip, abandon
//!   ▼    │ resume, or a late reply ───────────► abandoned
//!  stuck ┘
//! ```
//!
//! # Failure modes
//!
//! - A reply is late: the command is resent, after a wait that doubles each time up to a limit.
//! - No reply comes to the last attempt: before the pivot the saga turns around; after it, or while compensating, the
//!   saga gets stuck. The pivot itself is resent for ever.
//! - A reply comes late or twice: it has no effect, unless it is the reply that the saga still waits for.
//! - A process dies: its transaction is rolled back, and the message is redelivered.
//! - The broker is unavailable: time in which no reply could arrive does not count ([`Executor::sweep`]).
//! - A row is damaged: its state is rebuilt from its log. If the log is damaged too, or this program does not know the
//!   definition's version, the saga is marked `broken`.
//!
//! # Parts
//!
//! After oxidecomputer/steno: [`Definition`] is plain data; [`transition`] is all of the logic, pure and total, and
//! searched exhaustively by the tests; the log holds what happened; [`Executor`] carries out the decisions. [`testing`]
//! tests a definition without a database, a broker or a clock.
//!
//! ```
//! use std::time::Duration;
//! use holdfast::saga::{Definition, Direction, Retry, Step, View, testing::given};
//!
//! #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
//! pub struct Trip { city: String }
//! #[derive(Clone, Debug, PartialEq)]
//! pub enum Command { BookHotel { city: String }, CancelHotel, BookFlight { city: String } }
//!
//! const PATIENT: Retry = Retry {
//!     timeout: Duration::from_secs(10), longest: Duration::from_secs(60), attempts: Some(5),
//! };
//! static BOOK_TRIP: Definition<Trip, Command> = Definition {
//!     name: "book_trip",
//!     version: 1,
//!     steps: &[
//!         Step {
//!             name: "hotel",
//!             action: Some(|saga: &View<'_, Trip>| Command::BookHotel { city: saga.data.city.clone() }),
//!             compensation: Some(|_| Command::CancelHotel),
//!             settlement: None,
//!             retry: PATIENT, undo_retry: PATIENT, pivot: false,
//!         },
//!         Step {
//!             name: "flight", // cannot be cancelled: the point of no return
//!             action: Some(|saga: &View<'_, Trip>| Command::BookFlight { city: saga.data.city.clone() }),
//!             compensation: None,
//!             settlement: None,
//!             retry: Retry { attempts: None, ..PATIENT }, undo_retry: PATIENT, pivot: true,
//!         },
//!     ],
//! };
//!
//! given(&BOOK_TRIP, Trip { city: "Lisbon".into() })
//!     .does("hotel.booked")
//!     .refuses("flight.full", "no seat")
//!     .expect_undo("hotel", &Command::CancelHotel);
//! ```
//!
//! # Copying this
//!
//! This folder, `outbox`, `backoff`, `completion`, `failpoint`, `transaction`, and the crates `serde`, `serde_json`,
//! `sqlx` (PostgreSQL), `thiserror`, `time`, `uuid`. What people take otherwise: Temporal or Restate, which bring a
//! server of their own; steno, which runs in memory and leaves the log to you.
//!
//! Sources: Hector Garcia-Molina and Kenneth Salem, "Sagas", 1987; Chris Richardson, "Microservices Patterns", chapter
//! 4 (pivot, compensatable and retriable steps); Caitie McCaffrey, "Distributed Sagas", 2015 (the compensation before
//! its action); oxidecomputer/steno.

mod definition;
mod executor;
mod history;
mod interface;
mod key;
mod plan;
mod saved;
mod state;
mod store;
pub mod testing;
mod transition;

pub use definition::{Definition, Invalid, Payload, Retry, Step, View};
pub use executor::{Executor, migrator};
pub use history::{Ask, Entry, Filter, History, StepHistory, Summary, list};
pub use interface::{Applied, Dispatch, Ended, Error, Outgoing, Start};
pub use key::{InvalidKey, Key};
pub use plan::{Plan, PlanStep};
pub use saved::replay;
pub use state::{
    Action, Answer, By, Cause, Direction, End, Heard, Input, Outcome, Phase, State, Status,
};
pub use store::{Counts, OperatorAction, counts};
pub use transition::{Decision, Effect, NotStuck, transition};

#[cfg(test)]
mod tests;
