//! What every message has in common.

use serde::{Serialize, de::DeserializeOwned};

use crate::value::OrderId;

/// A message on the wire: JSON under a versioned type.
pub trait Message: Serialize + DeserializeOwned {
    /// The `CloudEvents` type, which ends with the version: `order.created.v1`. Its first segment is the publisher.
    const TYPE: &'static str;

    /// The order that this is about: the `CloudEvents` subject.
    fn order_id(&self) -> OrderId;

    /// The order's state version that led to this message. A consumer ignores what is older than what it has.
    fn order_version(&self) -> u32;
}

/// Implements [`Message`] for types that have the fields `order_id` and `order_version`.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $kind:literal),+ $(,)?) => {
        $(
            impl $crate::Message for $name {
                const TYPE: &'static str = $kind;

                fn order_id(&self) -> $crate::value::OrderId {
                    self.order_id
                }

                fn order_version(&self) -> u32 {
                    self.order_version
                }
            }
        )+

        /// Every type that this publisher writes, in the order of an order's life.
        pub const TYPES: &[&str] = &[$($kind),+];

        /// Every type that this publisher writes, with the schema of its payload.
        #[cfg(feature = "schema")]
        pub fn schemas() -> Vec<(&'static str, &'static str, utoipa::openapi::RefOr<utoipa::openapi::Schema>)> {
            vec![$(($kind, stringify!($name), <$name as utoipa::PartialSchema>::schema())),+]
        }
    };
}
pub(crate) use messages;
