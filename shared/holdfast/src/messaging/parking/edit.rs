//! The changes that an operator may make to a parked message.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::{Decoders, Parked};
use crate::messaging::event::{self, Incoming};

/// Returns whether a field of this name, at any depth, holds an id or an amount. An operator repairs a message; a
/// change of who pays how much for what is another order.
fn is_protected(name: &str) -> bool {
    name == "id"
        || name.ends_with("_id")
        || [
            "amount_minor",
            "currency",
            "quantity",
            "sku",
            "token",
            "method",
        ]
        .contains(&name)
}

/// Returns the message as it would be requeued with this type and payload, if its queue could decode it.
pub(super) fn candidate(
    decoders: &Decoders,
    parked: &Parked,
    id: Uuid,
    kind: &str,
    payload: &[u8],
) -> Result<Incoming, String> {
    let about = serde_json::from_slice::<Value>(payload).ok();
    let about = about
        .as_ref()
        .and_then(|payload| payload.get("order_id")?.as_str());
    let source = decoders.publisher_of(kind);
    let headers = event::resend(&parked.headers, parked.message_id, id, kind, source, about);
    let event =
        Incoming::from_headers(headers, payload.to_vec()).map_err(|malformed| malformed.0)?;
    decoders.check(&parked.queue, &event)?;
    Ok(event)
}

/// Checks that a parked message may be changed to this type and payload; returns the reason if not.
pub(super) fn check(
    decoders: &Decoders,
    parked: &Parked,
    kind: &str,
    payload: &[u8],
) -> Result<(), String> {
    // The type was not at fault: with another one the message would report something that did not happen.
    if let Some(before) = &parked.kind
        && before != kind
        && !["unknown_type", "malformed"].contains(&parked.cause.as_str())
    {
        return Err(format!(
            "type must stay {before:?}: the message was understood, and is parked as {:?}",
            parked.cause
        ));
    }
    candidate(decoders, parked, parked.message_id, kind, payload)?;
    let new: Value = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    let new_fields = protected(&new);
    if let (Some(subject), Some(order)) = (&parked.subject, new_fields.get("/order_id"))
        && *order != subject.as_str()
    {
        return Err(format!(
            "order_id must stay {subject:?}, which the message is about"
        ));
    }
    // A payload that is not JSON has no fields to keep; its subject was checked above.
    let Ok(old) = serde_json::from_slice::<Value>(&parked.payload) else {
        return Ok(());
    };
    let old_fields = protected(&old);
    for (path, value) in &old_fields {
        match new_fields.get(path) {
            Some(same) if same == value => {}
            Some(_) => {
                return Err(format!(
                    "{path} must stay {value}: ids and amounts cannot be changed"
                ));
            }
            None => {
                return Err(format!(
                    "{path} must stay: ids and amounts cannot be removed"
                ));
            }
        }
    }
    // A message that was whole may gain no protected field (another line, say). One that was not may get those that it
    // lacks.
    let before = parked.kind.as_deref().unwrap_or_default();
    let was_whole = candidate(decoders, parked, parked.message_id, before, &parked.payload).is_ok();
    if let Some(path) = new_fields
        .keys()
        .find(|path| was_whole && !old_fields.contains_key(*path))
    {
        return Err(format!(
            "{path} cannot be added: ids and amounts cannot be changed"
        ));
    }
    Ok(())
}

/// Returns every protected field, by its JSON pointer.
fn protected(value: &Value) -> BTreeMap<String, Value> {
    fn walk(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = format!("{path}/{name}");
                    if is_protected(name) {
                        found.insert(path, value.clone());
                    } else {
                        walk(value, &path, found);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    walk(item, &format!("{path}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    walk(value, "", &mut found);
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use sqlx::{PgConnection, types::Json};
    use time::OffsetDateTime;

    use super::*;
    use crate::messaging::{Error, Handler, Received, Undecodable};

    /// A message is whole when it has an `order_id`, `lines` and a numeric `amount.amount_minor`.
    struct Whole;

    impl Handler for Whole {
        type Command = ();
        type Effect = ();

        fn decode(&self, event: &Incoming) -> Result<(), Undecodable> {
            let malformed = |why: &dyn ToString| Undecodable::Malformed(why.to_string());
            let value: Value =
                serde_json::from_slice(&event.data).map_err(|error| malformed(&error))?;
            let whole = value["order_id"].is_string()
                && value["lines"].is_array()
                && value
                    .pointer("/amount/amount_minor")
                    .is_some_and(Value::is_i64);
            if event.kind == "order.created.v1" && whole {
                Ok(())
            } else {
                Err(malformed(&"not whole"))
            }
        }

        async fn handle(&self, _: &mut PgConnection, _: &[&Received<()>]) -> Result<(), Error> {
            Ok(())
        }

        fn committed(&self, _: Option<()>) {}
    }

    fn whole() -> Decoders {
        let decoders = Decoders::default();
        decoders.add("q", &Arc::new(Whole));
        decoders
    }

    fn parked(payload: &[u8]) -> Parked {
        Parked {
            id: Uuid::nil(),
            queue: "q".into(),
            message_id: Uuid::nil(),
            kind: Some("order.created.v1".into()),
            subject: Some("o-1".into()),
            headers: Json(BTreeMap::new()),
            payload: payload.to_vec(),
            cause: "malformed".into(),
            detail: String::new(),
            state: "parked".into(),
            parked_at: OffsetDateTime::UNIX_EPOCH,
            resolved_at: None,
            requeued_as: None,
        }
    }

    fn edit(old: &[u8], new: &Value) -> Result<(), String> {
        check(
            &whole(),
            &parked(old),
            "order.created.v1",
            new.to_string().as_bytes(),
        )
    }

    #[test]
    fn an_edit_repairs_but_does_not_change_who_pays_what() {
        let line = |sku: &str, quantity: i64| json!({ "sku": sku, "quantity": quantity });
        let order = |amount: i64, lines: Vec<Value>, note: &str| json!({ "order_id": "o-1", "amount": { "amount_minor": amount }, "lines": lines, "note": note });
        let old = order(100, vec![line("A", 1)], "").to_string();
        let old = old.as_bytes();

        assert_eq!(edit(old, &order(100, vec![line("A", 1)], "mended")), Ok(()));
        for (new, path) in [
            (order(101, vec![line("A", 1)], ""), "/amount/amount_minor"),
            (order(100, vec![line("A", 2)], ""), "/lines/0/quantity"),
            (order(100, vec![line("B", 1)], ""), "/lines/0/sku"),
            (order(100, vec![], ""), "/lines/0/quantity"),
            (
                order(100, vec![line("A", 1), line("B", 1)], ""),
                "/lines/1/quantity",
            ),
        ] {
            let refusal = edit(old, &new).expect_err(path);
            assert!(refusal.starts_with(path), "{refusal:?} should name {path}");
        }
        let mut other = order(100, vec![line("A", 1)], "");
        other["order_id"] = "o-2".into();
        assert!(
            edit(old, &other)
                .expect_err("another order")
                .contains("o-1")
        );
    }

    #[test]
    fn the_type_of_a_message_that_was_understood_stays() {
        let payload = json!({ "order_id": "o-1", "amount": { "amount_minor": 5 }, "lines": [] });
        let payload = payload.to_string();
        let mut mistyped = Parked {
            kind: Some("order.craeted.v1".into()),
            cause: "unknown_type".into(),
            ..parked(payload.as_bytes())
        };
        let to_created =
            |parked: &Parked| check(&whole(), parked, "order.created.v1", payload.as_bytes());
        assert_eq!(to_created(&mistyped), Ok(()));
        mistyped.cause = "exhausted".into();
        let refusal = to_created(&mistyped).expect_err("it was understood");
        assert!(refusal.contains("order.craeted.v1"), "{refusal}");
    }

    #[test]
    fn missing_fields_may_be_added() {
        let whole = json!({ "order_id": "o-1", "amount": { "amount_minor": 5 }, "lines": [] });
        assert_eq!(edit(br#"{"order_id":"o-1","lines":[]}"#, &whole), Ok(()));
        assert_eq!(edit(b"\xff\xfe no JSON", &whole), Ok(()));
        // Neither another order's id nor an incomplete message is accepted.
        let foreign = json!({ "order_id": "o-2", "amount": { "amount_minor": 5 }, "lines": [] });
        assert!(edit(b"\xff\xfe no JSON", &foreign).is_err());
        assert!(edit(b"{}", &json!({ "order_id": "o-1" })).is_err());
    }
}
