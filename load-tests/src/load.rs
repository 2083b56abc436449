//! Load: orders that arrive on a schedule, each followed to its rest, the use of the machine meanwhile, and a report.
//!
//! - [`profile`]: the rates, the durations and the limits;
//! - [`schedule`]: the moments at which orders arrive: an open loop, independent of the responses;
//! - [`board`]: the outcome of each order, second by second;
//! - [`clock`]: the order service's clock, translated into ours;
//! - [`watch`]: learns from the order service which orders came to rest, and when;
//! - [`depths`], [`processes`]: the depths of queues and outboxes; processor time and memory of each part;
//! - [`quantiles`]: the statistics;
//! - [`sampler`]: depths and processes, once a second;
//! - [`report`]: the page, the data and the verdict;
//! - `attack`: `goose`'s users, who take the orders from the schedule (only with the feature `load`);
//! - `drive`: a run from seeding to the books (only with the feature `load`).

#[cfg(feature = "load")]
pub mod attack;
pub mod board;
pub mod clock;
pub mod depths;
#[cfg(feature = "load")]
pub mod drive;
pub mod processes;
pub mod profile;
pub mod quantiles;
pub mod report;
pub mod sampler;
pub mod schedule;
pub mod watch;
