//! The routing of facts, by the bindings of `deploy/rabbitmq/definitions.json`.

use std::{collections::BTreeMap, sync::LazyLock};

use super::facts::Fact;
use crate::topology;

/// The queues of the model of choreography: those whose consumers decide something about the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// The queue `order.choreography`.
    Order,
    /// The queue `payment.choreography`.
    Payment,
    /// The queue `inventory.choreography`.
    Inventory,
}

/// Returns the queues to which the exchange `events` routes a fact of choreography.
pub(super) fn route(fact: Fact) -> &'static [Queue] {
    /// The queues by fact, computed once: a search looks them up millions of times.
    static ROUTES: LazyLock<BTreeMap<Fact, Vec<Queue>>> = LazyLock::new(|| {
        let bindings = topology::bindings("events");
        let queues = |fact: Fact| {
            let key = format!("choreography.{}.v1", fact.kind());
            let mut queues: Vec<Queue> = bindings
                .iter()
                .filter(|(pattern, _)| topology::matches(pattern, &key))
                .filter_map(|(_, queue)| queue_of(queue))
                .collect();
            queues.sort_unstable();
            queues.dedup();
            queues
        };
        Fact::ALL
            .into_iter()
            .map(|fact| (fact, queues(fact)))
            .collect()
    });
    ROUTES.get(&fact).map_or(&[], Vec::as_slice)
}

fn queue_of(name: &str) -> Option<Queue> {
    match name {
        "order.choreography" => Some(Queue::Order),
        "payment.choreography" => Some(Queue::Payment),
        "inventory.choreography" => Some(Queue::Inventory),
        _ => None, // the timeline and the mails decide nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_routed_to_the_services_that_decide() {
        assert_eq!(
            route(Fact::OrderCancelling),
            [Queue::Payment, Queue::Inventory]
        );
        assert_eq!(route(Fact::PaymentCompleted), [Queue::Inventory]);
        assert_eq!(route(Fact::OrderCancelled), []);
    }
}
