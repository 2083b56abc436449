//! The protocol of one order, as two models that can be searched: [`choreography`] and [`orchestration`].
//!
//! The models run production code: the transition functions (`order::domain::decide` and
//! `order::domain::orchestrated::decide`, `payment::domain::decide`, `inventory::domain::decide`,
//! `holdfast::saga::transition`), the sagas' definitions (`orchestrator::domain`), and the routing of events, which is
//! read from `deploy/rabbitmq/definitions.json`.
//!
//! The world around it may do the following, in any order:
//!
//! - the relay publishes a committed message at any time; it may crash after that, and publish the message again;
//! - the broker delivers a message to each queue that is bound to it, in any order and at any time, and a few of them
//!   twice (the inbox would recognise a redelivery; the models do without it, as a message that was sent again has a
//!   new id);
//! - the card processor answers late, twice, or not at all; it decides once per idempotency key;
//! - the customer cancels, at any moment; a sweep resends messages;
//! - choreography: the deadline passes, once the order service has handled its own event; an operator settles a part
//!   that is not answered;
//! - orchestration: messages are lost, or dropped by an operator; a saga's timeout comes at any moment; an operator
//!   decides about a saga that is stuck.
//!
//! A crash between commit and publish, or between commit and acknowledgement, leaves only the databases and the broker,
//! which is all that these models have: it is the same as being slow.
//!
//! The model of choreography is searched by stateright. The graph of the other one has cycles, and is searched by
//! [`search`], which sees them.

mod bag;
mod books;
pub mod choreography;
mod company;
mod facts;
mod guards;
pub mod orchestration;
mod routing;
pub mod search;
pub mod topology;

pub use bag::Bag;
pub use books::{Books, Terms};
pub use company::{Ask, CardAnswer, CardCompany};
pub use facts::Fact;
pub use guards::Without;
pub use routing::Queue;
