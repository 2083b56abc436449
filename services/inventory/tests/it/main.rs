//! The inventory service through its API and its queue.

mod catalogue;
mod commands;
mod helpers;
mod reservations;
