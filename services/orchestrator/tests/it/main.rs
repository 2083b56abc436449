//! Tests of the orchestrator through its queues, its API and its metrics. The tests play the participants.

mod helpers;
mod operators;
mod sagas;
