//! Load: orders that arrive on a schedule, each followed to its rest, what the machine does meanwhile, and one report.
//!
//! - [`profile`]: how much load, for how long, and what must hold;
//! - [`schedule`]: when which order arrives: an open loop, whatever the answers do;
//! - [`board`]: what became of each order, second by second;
//! - [`clock`]: the order service's clock, translated into ours;
//! - [`watch`]: learns from the order service which orders came to rest, and when;
//! - [`depths`], [`processes`]: what waits in queues and outboxes; processor time and memory of each part;
//! - [`quantiles`]: the statistics;
//! - [`sampler`]: both of them, once a second;
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
