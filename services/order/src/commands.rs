//! The use cases, each on the caller's transaction.
//!
//! - `place`, `cancel`: what a customer does; `operator`: what operators do; `sweep`: what is done when nobody answers.
//!   They are the same for every order, and turn to the way that it takes:
//! - `choreography`, `orchestration`: the two ways to an order's end: how it begins, what moves it, how it is cancelled,
//!   what is said again;
//! - `batch`: many orders moved at once, and what is counted; `trace`: what traces say of it.

mod batch;
mod cancel;
mod choreography;
mod operator;
mod orchestration;
mod place;
mod sweep;
mod trace;

use chassis::events::Publishing;

pub(crate) use self::{
    cancel::cancel,
    choreography::{Told, give_up_overdue, hear},
    operator::{ByOperator, cancel_by_operator, resume, settle},
    orchestration::{Asked, obey},
    place::{Placed, place, placed_before},
    sweep::sweep,
};

const PUBLISHING: Publishing<'static> = Publishing {
    service: "order",
    cause: None,
};
