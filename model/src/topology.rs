//! The broker's topology, as `deploy/rabbitmq/definitions.json` defines it.

use serde_json::Value;

const DEFINITIONS: &str = include_str!("../../deploy/rabbitmq/definitions.json");

/// Returns the name of the virtual host. There is one.
pub fn virtual_host() -> String {
    let definitions: Value = serde_json::from_str(DEFINITIONS).expect("the definitions are JSON");
    let name = definitions["vhosts"][0]["name"].as_str();
    name.expect("the definitions have a virtual host")
        .to_owned()
}

/// Returns pattern and queue of each binding of an exchange.
pub fn bindings(exchange: &str) -> Vec<(String, String)> {
    let definitions: Value = serde_json::from_str(DEFINITIONS).expect("the definitions are JSON");
    definitions["bindings"]
        .as_array()
        .expect("the definitions have bindings")
        .iter()
        .filter(|binding| binding["source"] == exchange)
        .filter_map(|binding| {
            let (pattern, queue) = (&binding["routing_key"], &binding["destination"]);
            Some((pattern.as_str()?.to_owned(), queue.as_str()?.to_owned()))
        })
        .collect()
}

/// Returns whether a topic exchange's pattern matches a key: `*` is one word, `#` is any number of words.
pub fn matches(pattern: &str, key: &str) -> bool {
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
    }
}
