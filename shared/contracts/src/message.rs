//! The trait of every message, and the catalogue of their types.

use serde::{Serialize, de::DeserializeOwned};

use crate::{promise::Violation, value::OrderId};

/// A message on the wire: JSON under a versioned type.
pub trait Message: Serialize + DeserializeOwned {
    /// The `CloudEvents` type, which ends with the version: `order.created.v1`. Its first segment is the publisher.
    const TYPE: &'static str;

    /// Returns the order that the message is about: the `CloudEvents` subject.
    fn order_id(&self) -> OrderId;

    /// Returns the version of the order's state that led to this message. A consumer without a state of its own to
    /// decide by ignores a message that is older than what it has.
    fn order_version(&self) -> u32;

    /// Checks the promises of the contract beyond the form of each field: that an amount is the sum of its lines, say.
    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }
}

/// A message's type, and the schema of its payload.
#[cfg(feature = "schema")]
#[expect(
    missing_debug_implementations,
    reason = "utoipa's schemas have none without a feature of theirs"
)]
pub struct Documented {
    /// The `CloudEvents` type.
    pub kind: &'static str,
    /// The type in our code.
    pub name: &'static str,
    /// The schema of the payload.
    pub schema: Schema,
    /// The schemas that it refers to, by their names.
    pub refers_to: Vec<(String, Schema)>,
}

#[cfg(feature = "schema")]
type Schema = utoipa::openapi::RefOr<utoipa::openapi::Schema>;

#[cfg(feature = "schema")]
impl Documented {
    /// Returns the documentation of `M`.
    pub fn of<M: utoipa::ToSchema>(kind: &'static str, name: &'static str) -> Self {
        let mut refers_to = Vec::new();
        M::schemas(&mut refers_to);
        Self {
            kind,
            name,
            schema: M::schema(),
            refers_to,
        }
    }
}

/// Implements [`Message`] for types that have the fields `order_id` and `order_version`. A check follows each type
/// whose contract promises more than its form.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $kind:literal $(=> $check:expr)?),+ $(,)?) => {
        $(
            impl $crate::Message for $name {
                const TYPE: &'static str = $kind;

                fn order_id(&self) -> $crate::value::OrderId {
                    self.order_id
                }

                fn order_version(&self) -> u32 {
                    self.order_version
                }

                $(fn check(&self) -> Result<(), $crate::Violation> {
                    let check: fn(&Self) -> Result<(), $crate::Violation> = $check;
                    check(self)
                })?
            }
        )+

        /// Every type that this publisher writes, in the order of an order's life.
        pub const TYPES: &[&str] = &[$($kind),+];

        /// Returns every type that this publisher writes, with the schema of its payload.
        #[cfg(feature = "schema")]
        pub fn schemas() -> Vec<$crate::message::Documented> {
            vec![$($crate::message::Documented::of::<$name>($kind, stringify!($name))),+]
        }
    };
}
pub(crate) use messages;
