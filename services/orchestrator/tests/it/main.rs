//! The orchestrator through what others see of it: its queues, its API, its metrics. The participants are the test.

mod helpers;
mod operators;
mod sagas;
