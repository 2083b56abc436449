//! Chaos: the faults of a network, a broker and a process, as decorators.
//!
//! # Problem
//!
//! A chaos experiment wants a consumer that gets every message twice, a publisher that dies between two messages, and a
//! dependency that is cut off. Written into the patterns themselves, these switches are what everybody who copies a
//! pattern has to cut out again.
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
//! With the feature `failpoints` they do what a test or an experiment asks for.
//!
//! # Not guaranteed
//!
//! Anything without the feature: then nothing can be asked for, and each decorator passes on what it gets.
//!
//! # States
//!
//! Switches of this process: [`damage`] and [`longest_delay`] are global, as failpoints are; the others belong to what
//! they decorate.
//!
//! # Failure modes
//!
//! A switch that is asked for in a build without failpoints is an error, not a fault that never comes.
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
