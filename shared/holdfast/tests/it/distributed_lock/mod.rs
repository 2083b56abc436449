//! Locks on real servers: a healthy Redis, one that forgets, and one that is unavailable.

mod acquire;
mod cancel;
mod checker;
mod fixture;
mod forgetful;
mod histories;
mod loss;
mod pause;
mod waiters;
