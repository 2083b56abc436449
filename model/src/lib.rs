//! The protocol of one order, as two models that can be searched: [`choreography`] and [`orchestration`].
//!
//! What is production code: the transition functions (`order::domain::decide` and `order::domain::orchestrated::decide`,
//! `payment::domain::decide`, `inventory::domain::decide`, `holdfast::saga::transition`), the sagas' definitions
//! (`orchestrator::domain`), and the routing of events, which is read from `deploy/rabbitmq/definitions.json`.
//!
//! What the world around them may do, in any order:
//!
//! - a committed message is published, whenever the relay likes; it may crash after that, and publish it again;
//! - the broker delivers a message to each queue that is bound to it, in any order and as late as it likes, and a few of them
//!   twice (the inbox would know a redelivery; the models do without it, as a re-sent message has a new id);
//! - the card company answers late, twice, or not at all; it decides once per idempotency key;
//! - the customer cancels, at any moment; a sweep asks again;
//! - choreography: the deadline passes, once the order service has heard its own event; an operator settles what is not
//!   answered;
//! - orchestration: messages are lost, or dropped by an operator; a saga's timeout comes at any moment; an operator decides
//!   about a saga that is stuck.
//!
//! A crash between commit and publish, or between commit and acknowledgement, leaves nothing but what is in the databases
//! and the broker, which is all that these models have: it is the same as being slow.
//!
//! The model of choreography is searched by stateright. The other one may go round in circles, and is searched by [`search`],
//! which sees them.

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
