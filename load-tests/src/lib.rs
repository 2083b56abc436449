//! Traffic for a running stack, and `reconcile`, which proves from the books of all services that nothing was lost.
//!
//! - [`reconcile`]: reads every database, the broker and the card processor's ledger, and compares them;
//! - [`traffic`]: places orders of every ending, once or at a rate;
//! - [`load`]: many orders on a schedule, each followed to its rest, and a report;
//! - [`compare`]: the same orders by choreography and by orchestration;
//! - [`drill`]: a failure on a running stack, with the pattern that is for it and without it;
//! - [`api`]: the services' HTTP APIs, as a customer and an operator see them;
//! - [`table`]: tables for a terminal.

pub mod api;
pub mod compare;
pub mod drill;
pub mod load;
pub mod reconcile;
pub mod table;
pub mod traffic;
