//! Chaos: the faults of a network, a broker and a process, as decorators.
//!
//! # Problem
//!
//! A chaos experiment needs a consumer that gets every message twice, a publisher that dies between two messages, and a
//! dependency that is cut off. If these switches were written into the patterns themselves, everyone who copies a
//! pattern would have to remove them.
//!
//! # Guarantee
//!
//! Each fault stands around a part, and the part does not know of it:
//!
//! | decorator | around | fault |
//! | --- | --- | --- |
//! | [`CutOff`] | a call | fails at once while the dependency is cut off |
//! | [`Halves`] | a [`Publisher`](crate::outbox::Publisher) | publishes a batch in two parts, a failpoint between |
//! | [`Mixer`] | a stream of deliveries | keeps copies back, and gives them in another order |
//! | [`damage`] | a payload | makes the next one that contains a text unreadable |
//!
//! With the feature `failpoints` they cause the faults that a test or an experiment requests.
//!
//! # Not guaranteed
//!
//! Anything without the feature: then no fault can be requested, and each decorator passes on what it gets.
//!
//! # States
//!
//! Switches of this process: [`damage`] and [`longest_delay`] are global, as failpoints are; the others belong to what
//! they decorate.
//!
//! # Failure modes
//!
//! A fault that is requested in a build without failpoints is an error: an experiment must not wait for a fault that
//! cannot happen.
//!
//! # Copying this
//!
//! This folder, [`failpoint`](mod@crate::failpoint), `outbox` for [`Halves`], and the crates `fastrand`, `tokio` and
//! `tracing`. A pattern that is copied needs none of it.
//!
//! Sources: Basiri et al., "Chaos Engineering" (IEEE Software, 2016); Jepsen's nemeses.

mod cut_off;
mod damage;
mod halves;
mod mixer;

pub use cut_off::CutOff;
pub use damage::{damage, damaged};
pub use halves::Halves;
pub use mixer::{Mixer, longest_delay};
