//! The publisher of each type of message.

use crate::{inventory, notification, orchestrator, order, payment};

/// Each source, and the types that it alone may publish.
pub const SOURCES: [(&str, &[&str]); 5] = [
    ("/order", order::TYPES),
    ("/payment", payment::TYPES),
    ("/inventory", inventory::TYPES),
    ("/notification", notification::TYPES),
    ("/orchestrator", orchestrator::TYPES),
];

/// Returns the source that alone may publish a type, whatever its version: the type's first segment names it. `None` if
/// no source of ours has that name.
pub fn source_of(kind: &str) -> Option<&'static str> {
    let publisher = kind.split('.').next();
    SOURCES
        .into_iter()
        .map(|(source, _)| source)
        .find(|source| source.strip_prefix('/') == publisher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_names_its_source() {
        for (source, kinds) in SOURCES {
            for kind in kinds {
                assert_eq!(source_of(kind), Some(source), "{kind}");
            }
        }
        assert_eq!(source_of("payment.completed.v99"), Some("/payment"));
        assert_eq!(source_of("payments.completed.v1"), None);
        assert_eq!(source_of(""), None);
    }
}
