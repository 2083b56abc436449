//! Who hears what, by the bindings of `deploy/rabbitmq/definitions.json`.

use std::sync::LazyLock;

use crate::topology;

/// The queues of the model: those whose consumers decide something about the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// `order.choreography`
    Order,
    /// `payment.choreography`
    Payment,
    /// `inventory.choreography`
    Inventory,
}

/// The bindings, read once: a search asks millions of times.
static BINDINGS: LazyLock<Vec<(String, Queue)>> = LazyLock::new(|| {
    let bindings = topology::bindings("events").into_iter();
    bindings
        .filter_map(|(pattern, queue)| {
            let queue = match queue.as_str() {
                "order.choreography" => Queue::Order,
                "payment.choreography" => Queue::Payment,
                "inventory.choreography" => Queue::Inventory,
                _ => return None, // the timeline and the mails decide nothing
            };
            Some((pattern, queue))
        })
        .collect()
});

/// The queues to which the exchange `events` routes a message of this type.
pub(super) fn route(kind: &str) -> Vec<Queue> {
    let key = format!("choreography.{kind}");
    let mut queues: Vec<Queue> = BINDINGS
        .iter()
        .filter(|(pattern, _)| topology::matches(pattern, &key))
        .map(|(_, queue)| *queue)
        .collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_who_decides_on_them() {
        assert_eq!(
            route("order.cancelling.v1"),
            [Queue::Payment, Queue::Inventory]
        );
        assert_eq!(route("payment.completed.v1"), [Queue::Inventory]);
        assert_eq!(route("order.cancelled.v1"), []);
    }
}
