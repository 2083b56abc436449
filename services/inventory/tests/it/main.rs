//! The inventory service, through its API and its queues.

mod catalogue;
mod commands;
mod helpers;
mod reservations;
