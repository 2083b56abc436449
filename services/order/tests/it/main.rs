//! The order service through its API and its queues.

mod choreography;
mod cut_short;
mod degraded;
mod helpers;
mod idempotency;
mod identity;
mod input;
mod orchestration;
mod outage;
mod slow;
mod waiting;
