//! # Saga: a long transaction over several services, that ends whatever happens
//!
//! **Problem.** An order is charged, then reserved, then confirmed, by three services with three databases. After the charge
//! the process that was driving it dies. Nobody remembers that it was driving. Or it comes back, and charges again. Or the
//! reservation is refused, the refund is sent, and the refund fails: who tries again, and for how long, and who is told?
//!
//! **Guarantee.** A saga that was started comes to its end, and only an operator can keep it from that: every step is done,
//! or every step that was done, *or may have been*, is undone, in reverse. What it is going to do follows from its row alone:
//! log, state and the next command are written in the transaction that takes an input in, so a crash at any line loses
//! nothing, and any number of processes share the work. A command is sent at least once, under a name that never changes
//! ([`Key`]). What cannot be undone becomes *stuck*: an operator resumes it, has a step written off by who would have undone
//! it, or all that remains; each leaves an entry in the audit trail. A saga ends under the version of the definition that it
//! began with. A row that cannot be read stops nothing but itself.
//!
//! **Not guaranteed.** Isolation: others see a charge that will be refunded. That its participants act once: each of them
//! has to, by the command's key, for ever, and has to answer again, alike, when it is asked again. An undo may come before
//! its do: the participant leaves a tombstone, and refuses the do.
//!
//! **States.**
//!
//! ```text
//!             the last step is done
//! running ───────────────────────────────► completed
//!   │ refused, given up, cancelled:            ▲ after the pivot it only goes forward
//!   │ only until the pivot's command is written
//!   ▼         the first step is undone
//! compensating ──────────────────────────► compensated
//!   │    ▲                    skip, abandon
//!   ▼    │ resume, or the answer after all ───► abandoned
//!  stuck ┘
//! ```
//!
//! **Failure modes.** An answer does not come: the command is sent again, twice as late each time. It never comes: before the
//! pivot the saga turns around; undoing, it gets stuck; from the pivot on it goes on asking. An answer comes late or twice:
//! no effect. A process dies: its transaction is rolled back, the message comes again. The broker is away: time in which no
//! answer could have come does not count ([`Executor::sweep`]). A row is damaged: its state is made anew from its log; if
//! that is damaged too, or nobody knows its version, it is set aside as `broken`.
//!
//! **The parts**, after oxidecomputer/steno: [`Definition`] is plain data; [`transition`] is all of the logic, pure and total,
//! and searched exhaustively by the tests; the log is what happened; [`Executor`] does what was decided. [`testing`] tests a
//! definition without any of the others.
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
//!             name: "flight", // cannot be given back: the point of no return
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
//! **Copying this.** This folder, `outbox`, `backoff`, `completion`, `transaction`, and the crates `serde`, `serde_json`, `sqlx`
//! (PostgreSQL), `thiserror`, `time`, `uuid`. What people take otherwise: Temporal or Restate, which bring a server of their
//! own; steno, in memory with a log of yours.
//!
//! Sources: Hector Garcia-Molina and Kenneth Salem, "Sagas", 1987; Chris Richardson, "Microservices Patterns", chapter 4
//! (pivot, compensatable and retriable steps); Caitie McCaffrey, "Distributed Sagas", 2015 (the undo before its do);
//! oxidecomputer/steno.

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
    Action, Answer, By, Cause, Direction, End, Heard, Input, Mark, Outcome, Phase, State,
};
pub use store::{Counts, Deed, counts};
pub use transition::{Decision, Effect, NotStuck, transition};

#[cfg(test)]
mod tests;
