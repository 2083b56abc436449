//! Locks on real servers: what Redis does when it is well, when it forgets, and when it is away.

mod acquire;
mod cancel;
mod checker;
mod fixture;
mod forgetful;
mod histories;
mod loss;
mod pause;
mod waiters;
