//! The decoding of input from people and services, with errors in its sender's words.
//!
//! Serde's messages are for programmers: ``invalid type: integer `0`, expected struct Note at line 1 column 54``. A
//! client gets the field, the valid form, and the value that was sent. Messages of our own types pass unchanged.

use std::fmt;

use serde::{Deserializer, de::DeserializeOwned};

/// A field that cannot be decoded, and what would be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undecodable {
    /// The path of the field, as in `lines[2].quantity`; `None` for the whole.
    pub(crate) field: Option<String>,
    /// The fault, and what would be valid.
    pub(crate) detail: String,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}

/// Decodes JSON that stands alone in `data`.
pub(crate) fn from_json<T: DeserializeOwned>(data: &[u8]) -> Result<T, Undecodable> {
    let mut json = serde_json::Deserializer::from_slice(data);
    let value = decode(&mut json, |error: &serde_json::Error, is_named| {
        let message = error.to_string();
        let position = format!(" at line {} column {}", error.line(), error.column());
        match message.strip_suffix(&position) {
            // serde_json reports an enum's value that is neither text nor an object as a syntax error.
            Some("expected value") if is_named => "must be text or an object".to_owned(),
            Some(text) if error.is_data() => text.to_owned(),
            // Text that is not JSON has no fields: there is only the position to give.
            _ => message,
        }
    })?;
    json.end().map_err(|error| Undecodable {
        field: None,
        detail: error.to_string(),
    })?;
    Ok(value)
}

/// Decodes a query string.
pub(crate) fn from_query<T: DeserializeOwned>(query: &str) -> Result<T, Undecodable> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    decode(serde_urlencoded::Deserializer::new(pairs), |error, _| {
        error.to_string()
    })
}

fn decode<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
    message: impl Fn(&D::Error, bool) -> String,
) -> Result<T, Undecodable> {
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        // A value inside an enum, or outside of any field, has the path `?`.
        let path = error.path().to_string();
        let path = path.trim_end_matches(['.', '?']);
        let message = message(error.inner(), !path.is_empty());
        let parent = (!path.is_empty()).then(|| path.to_owned());
        let twice = message.strip_prefix("duplicate field `");
        let twice = twice.and_then(|rest| rest.split('`').next());
        Undecodable {
            field: match (parent, twice) {
                (Some(path), Some(name)) if !path.ends_with(name) => Some(format!("{path}.{name}")),
                (None, Some(name)) => Some(name.to_owned()),
                (parent, _) => parent,
            },
            detail: plain(&message),
        }
    })
}

/// Returns one of serde's messages in plain words.
fn plain(message: &str) -> String {
    let ticked = |prefix| {
        let rest = message.strip_prefix(prefix)?;
        rest.split_once('`')
    };
    if let Some((field, _)) = ticked("missing field `") {
        return format!("the field {field} is missing");
    }
    if message.starts_with("duplicate field ") {
        return "is given more than once".to_owned();
    }
    if let Some((field, rest)) = ticked("unknown field `") {
        let field = shortened(field);
        return match rest.strip_prefix(", expected ") {
            Some(known) => format!(
                "{field} is not a known field; known: {}",
                alternatives(known)
            ),
            None => format!("{field} is not a known field; there are none"),
        };
    }
    if let Some((variant, rest)) = ticked("unknown variant `") {
        let known = rest.strip_prefix(", expected ").unwrap_or(rest);
        let (variant, known) = (shortened(variant), alternatives(known));
        return format!("{variant} is not a valid value; valid: {known}");
    }
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some(rest) = message.strip_prefix(prefix)
            && let Some((is, must)) = rest.rsplit_once(", expected ")
        {
            let is = if prefix == "invalid length " {
                format!("{is} of them")
            } else {
                found(is)
            };
            return format!("must be {}, not {is}", expected(must));
        }
    }
    let numbers = [
        "invalid digit found in string",
        "cannot parse integer from empty string",
        "number too large to fit in target type",
        "number too small to fit in target type",
    ];
    if numbers.contains(&message) {
        "must be a whole number".to_owned()
    } else if message.starts_with("provided string was not") {
        "must be true or false".to_owned()
    } else if message.starts_with("UUID parsing failed") || message.starts_with("invalid UUID") {
        "must be a UUID".to_owned()
    } else {
        message.to_owned()
    }
}

/// Returns ``one of `a`, `b` `` as `a, b`.
fn alternatives(known: &str) -> String {
    known.trim_start_matches("one of ").replace('`', "")
}

/// Returns the value that was sent, as its sender wrote it.
fn found(unexpected: &str) -> String {
    match unexpected {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        "unit value" | "null" => "null".to_owned(),
        other => match other.split_once('`') {
            // Numbers and booleans: integer `0`.
            Some((_, value)) if !other.starts_with("string") => {
                shortened(value.trim_end_matches('`'))
            }
            _ => match other.strip_prefix("string ") {
                Some(text) => format!("the text {}", shortened(text)),
                None => other.to_owned(),
            },
        },
    }
}

/// Returns the valid form. Names of our types mean nothing to the sender.
fn expected(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" | "map" => "an object",
        "a string" | "a borrowed string" | "string or map" | "variant identifier" => "text",
        "a boolean" => "true or false",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "u128" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "unit" | "()" => "null",
        other if other.contains("UUID") => "a UUID",
        other if other.contains("OffsetDateTime") => "a time such as 2026-11-27T06:05:00Z",
        other if other.starts_with("tuple ") => "a list",
        other if other.starts_with("struct ") || other.contains("enum ") => "an object",
        other => other,
    }
}

/// Returns as much of a text that was sent as helps to find it.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is decoded, and not looked at")]
    struct Sent {
        #[serde(default)]
        limit: Option<i64>,
        #[serde(default)]
        id: Option<Uuid>,
        #[serde(default)]
        all: bool,
        #[serde(default)]
        way: Option<Way>,
        #[serde(default)]
        lines: Vec<Line>,
        #[serde(default)]
        payment: Option<Payment>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Way {
        Here,
        There,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is decoded, and not looked at")]
    struct Line {
        quantity: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "method", rename_all = "snake_case")]
    #[expect(dead_code, reason = "it is decoded, and not looked at")]
    enum Payment {
        Card { token: String },
    }

    #[test]
    fn a_wrong_field_of_json_is_named_in_plain_words() {
        for (sent, says) in [
            (
                json!({ "limit": "ten" }),
                "limit: must be a whole number, not the text \"ten\"",
            ),
            (
                json!({ "limit": 1.5 }),
                "limit: must be a whole number, not 1.5",
            ),
            (json!({ "id": 0 }), "id: must be a UUID, not 0"),
            (
                json!({ "all": null }),
                "all: must be true or false, not null",
            ),
            (
                json!({ "all": [] }),
                "all: must be true or false, not a list",
            ),
            (
                json!({ "way": "up" }),
                "way: up is not a valid value; valid: here or there",
            ),
            (json!({ "way": 7 }), "way: must be text or an object"),
            (
                json!({ "lines": {} }),
                "lines: must be a list, not an object",
            ),
            (
                json!({ "lines": [{}] }),
                "lines[0]: the field quantity is missing",
            ),
            (
                json!({ "lines": [7] }),
                "lines[0]: must be an object, not 7",
            ),
            (
                json!({ "lines": [{ "quantity": -1 }] }),
                "lines[0].quantity: must be a whole number from 0 to 4294967295, not -1",
            ),
            (json!({ "payment": 7 }), "payment: must be an object, not 7"),
            (
                json!({ "payment": { "method": "gold" } }),
                "payment.method: gold is not a valid value; valid: card",
            ),
            (
                json!({ "payment": { "method": "card" } }),
                "payment: the field token is missing",
            ),
            (json!("all"), "must be an object, not the text \"all\""),
        ] {
            let wrong = from_json::<Sent>(sent.to_string().as_bytes());
            let wrong = wrong.expect_err("it is not valid").to_string();
            assert_eq!(wrong, says, "{sent}");
            for programmers in ["?", "`", "line 1", "struct", "integer"] {
                assert!(!wrong.contains(programmers), "{sent}: {wrong}");
            }
        }
    }

    #[test]
    fn duplicate_field_is_refused() {
        let wrong = from_json::<Sent>(br#"{"limit":1,"limit":2}"#).expect_err("which of the two?");
        assert_eq!(wrong.to_string(), "limit: is given more than once");
        let wrong = from_query::<Sent>("limit=1&limit=2").expect_err("which of the two?");
        assert_eq!(wrong.to_string(), "limit: is given more than once");
    }

    #[test]
    fn a_wrong_query_value_is_named_in_plain_words() {
        for (sent, says) in [
            ("limit=ten", "limit: must be a whole number"),
            ("limit=", "limit: must be a whole number"),
            (
                "limit=99999999999999999999",
                "limit: must be a whole number",
            ),
            ("id=17", "id: must be a UUID"),
            ("all=yes", "all: must be true or false"),
            (
                "way=up",
                "way: up is not a valid value; valid: here or there",
            ),
            (
                "sort=price",
                "sort: sort is not a known field; known: limit, id, all, way, lines, payment",
            ),
        ] {
            let wrong = from_query::<Sent>(sent).expect_err("it is not valid");
            assert_eq!(wrong.to_string(), says, "{sent}");
        }
    }
}
