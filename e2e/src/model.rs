//! The choreography of one order, as a model that can be searched.
//!
//! What is production code: the three transition functions (`order::domain::decide`, `payment::domain::decide`,
//! `inventory::domain::decide`), and the routing, which is read from `deploy/rabbitmq/definitions.json`.
//!
//! What the world around them may do, in any order:
//!
//! - the relay publishes a committed message, whenever it likes; it may crash after that, and publish it again;
//! - the broker delivers a message to each queue that is bound to it, in any order and as late as it likes, and a few of them
//!   twice (the inbox would know a redelivery; the model does without it, as a re-sent message has a new id);
//! - the card company answers late, twice, or not at all; it decides once per idempotency key;
//! - the customer cancels, at any moment; the deadline passes, once the order service has heard its own event; a sweep asks
//!   again; an operator settles what is not answered.
//!
//! A crash between commit and publish, or between commit and acknowledgement, leaves nothing but what is in the databases
//! and the broker, which is all that this model has: it is the same as being slow.

mod guards;
mod routing;
mod world;

pub use guards::Without;
pub use routing::Queue;
pub use world::{Budget, CardAnswer, CardCompany, Fact, Scenario, Step, World};
