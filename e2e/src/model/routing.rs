//! Who hears what, by the bindings of `deploy/rabbitmq/definitions.json`.

use std::sync::LazyLock;

use serde_json::Value;

const DEFINITIONS: &str = include_str!("../../../deploy/rabbitmq/definitions.json");

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
    let definitions: Value = serde_json::from_str(DEFINITIONS).expect("the definitions are JSON");
    let bindings = definitions["bindings"]
        .as_array()
        .expect("the definitions have bindings");
    bindings
        .iter()
        .filter(|binding| binding["source"] == "events")
        .filter_map(|binding| {
            let queue = match binding["destination"].as_str()? {
                "order.choreography" => Queue::Order,
                "payment.choreography" => Queue::Payment,
                "inventory.choreography" => Queue::Inventory,
                _ => return None, // the timeline and the mails decide nothing
            };
            Some((binding["routing_key"].as_str()?.to_owned(), queue))
        })
        .collect()
});

/// The queues to which the exchange `events` routes a message of this type.
pub(super) fn route(kind: &str) -> Vec<Queue> {
    let key = format!("choreography.{kind}");
    let mut queues: Vec<Queue> = BINDINGS
        .iter()
        .filter(|(pattern, _)| matches(pattern, &key))
        .map(|(_, queue)| *queue)
        .collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}

/// A topic exchange's matching: `*` is one word, `#` is any number of words.
fn matches(pattern: &str, key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => (0..=key.len()).any(|skip| words(rest, &key[skip..])),
            (["*", rest @ ..], [_, more @ ..]) => words(rest, more),
            ([word, rest @ ..], [first, more @ ..]) if word == first => words(rest, more),
            _ => false,
        }
    }
    let pattern: Vec<&str> = pattern.split('.').collect();
    let key: Vec<&str> = key.split('.').collect();
    words(&pattern, &key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_match_as_the_broker_matches_them() {
        assert!(matches("#", "a.b.c"));
        assert!(matches("a.*.c", "a.b.c"));
        assert!(!matches("a.*", "a.b.c"));
        assert!(matches("a.#", "a.b.c"));
        assert!(matches("a.#.c", "a.c"));
        assert_eq!(
            route("order.cancelling.v1"),
            [Queue::Payment, Queue::Inventory]
        );
        assert_eq!(route("payment.completed.v1"), [Queue::Inventory]);
        assert_eq!(route("order.cancelled.v1"), []);
    }
}
