//! The use cases, each on the caller's transaction.
//!
//! - `place`, `cancel`: a customer's requests; `idempotency`: requests that come again; `operator`: operator actions,
//!   `by_operator` their author; `sweep`: resends of messages without an answer. They are the same for every order, and
//!   call the module of its coordination:
//! - `choreography`, `orchestration`: the two ways to an order's end: the messages that start it, move it on and cancel
//!   it, and their resends;
//! - `batch`: many orders changed at once, and what is counted; `trace`: the attributes of spans.

mod batch;
mod by_operator;
mod cancel;
mod choreography;
mod idempotency;
mod operator;
mod orchestration;
mod place;
mod sweep;
mod trace;

use chassis::events::Publishing;

pub(crate) use self::{
    by_operator::ByOperator,
    cancel::cancel,
    choreography::{Event, apply_events, give_up_overdue},
    idempotency::{Keyed, answer, answered},
    operator::{cancel_by_operator, resume, settle},
    orchestration::{Command, apply_commands},
    place::place,
    sweep::{Swept, sweep},
};

const PUBLISHING: Publishing<'static> = Publishing {
    service: "order",
    cause: None,
};
