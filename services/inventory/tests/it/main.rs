//! The inventory service through its API and its queue.

mod catalogue;
mod helpers;
mod reservations;
