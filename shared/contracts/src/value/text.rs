//! Values that are text with rules. Each rule is an allow-list of characters, so that a value can be in a header, a log
//! line, a mail or a routing key without escaping.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Defines a newtype over `String` whose values have all passed `$check`.
macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $error:ident = $message:literal, pattern = $pattern:literal, $check:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String, pattern = $pattern))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        #[doc = concat!("A text that is not a valid [`", stringify!($name), "`]; the message says what is.")]
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error;

        impl $name {
            /// Returns the value's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(s: String) -> Result<Self, Self::Error> {
                let check: fn(&str) -> bool = $check;
                if check(&s) { Ok(Self(s)) } else { Err($error) }
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Self::try_from(s.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(v: $name) -> Self {
                v.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}
pub(super) use text;

text! {
    /// The id of a product: a stock keeping unit.
    Sku, InvalidSku = "a SKU has 1 to 32 characters of A-Z, 0-9 and '-'",
    pattern = "^[A-Z0-9-]{1,32}$",
    |s| (1..=32).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
}

text! {
    /// The id of a customer: the subject of their token.
    CustomerId, InvalidCustomerId = "a customer id has 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '@' and '-'",
    pattern = "^[A-Za-z0-9._@-]{1,64}$",
    |s| (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
}

text! {
    /// A mail address, of the plain kind: no quotes, no comments, no line breaks.
    Email, InvalidEmail = "a mail address has 3 to 254 characters, one '@', and only A-Z, a-z, 0-9 and '.', '_', '%', '+', '-' around it",
    pattern = "^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+$",
    |s| {
        s.len() <= 254
            && s.split_once('@').is_some_and(|(local, domain)| {
                !local.is_empty()
                    && !domain.is_empty()
                    && local.bytes().all(|b| b.is_ascii_alphanumeric() || b"._%+-".contains(&b))
                    && domain.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_could_break_out_of_its_place_is_refused() {
        for bad in [
            "",
            "a'; drop table orders; --",
            "a\r\nX: y",
            "tea earl",
            "TEA\0",
            "ÄTEA",
            &"A".repeat(33),
        ] {
            assert_eq!(bad.parse::<Sku>(), Err(InvalidSku), "{bad:?}");
        }
        for bad in ["", "alice\r\nBcc: x@y", "a b", "x/../y", &"a".repeat(65)] {
            assert_eq!(bad.parse::<CustomerId>(), Err(InvalidCustomerId), "{bad:?}");
        }
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a@b\r\nBcc: c@d",
            "\"a b\"@c",
            "a b@c",
        ] {
            assert_eq!(bad.parse::<Email>(), Err(InvalidEmail), "{bad:?}");
        }
        assert_eq!(
            "alice@example.test".parse::<Email>().map(String::from),
            Ok("alice@example.test".to_owned())
        );
    }
}
