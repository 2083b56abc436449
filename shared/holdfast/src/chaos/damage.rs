//! Messages that a mistake makes unreadable.

use std::sync::{Mutex, PoisonError};

use crate::failpoint::{NotCompiledIn, compiled_in};

/// The most messages that may be waiting to be damaged: each costs a search of every payload.
const MOST: usize = 16;

/// The queues and the texts by which the messages to be damaged are found. A std lock: held for a search, never across
/// an await.
static WANTED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Requests damage to the next message of `queue` whose payload contains the text `containing`. At most 16 requests
/// wait for their message; one more drops the oldest. Fails in a build without failpoints.
pub fn damage(queue: &str, containing: &str) -> Result<(), NotCompiledIn> {
    compiled_in()?;
    let mut wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
    if wanted.len() == MOST {
        wanted.remove(0);
    }
    wanted.push((queue.to_owned(), containing.to_owned()));
    Ok(())
}

/// Returns the payload with a number of its object, `7`, turned into a text, `"7?"`, if [`damage`] was requested for
/// this message of `queue`; `None` if not.
pub fn damaged(queue: &str, payload: &[u8]) -> Option<Vec<u8>> {
    let mut wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
    if wanted.is_empty() {
        return None;
    }
    let text = str::from_utf8(payload).ok()?;
    let index = wanted
        .iter()
        .position(|(of, part)| of == queue && text.contains(part))?;
    let mut value: serde_json::Value = serde_json::from_str(text).ok()?;
    let number = value
        .as_object_mut()?
        .values_mut()
        .find(|field| field.is_number())?;
    *number = serde_json::Value::String(format!("{number}?"));
    wanted.remove(index);
    Some(value.to_string().into_bytes())
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_chosen_message_is_damaged_and_only_once() {
        let message = br#"{"customer":{"id":"mallory"},"version":1}"#;
        assert_eq!(damaged("q", message), None);
        damage("q", "mallory").expect("failpoints are compiled in");
        assert_eq!(damaged("another", message), None);
        assert_eq!(damaged("q", br#"{"customer":"alice","version":1}"#), None);
        let damaged_one = damaged("q", message).expect("it was asked for");
        let value: serde_json::Value = serde_json::from_slice(&damaged_one).expect("still JSON");
        assert_eq!(value["version"], "1?");
        assert_eq!(value["customer"]["id"], "mallory");
        assert_eq!(damaged("q", message), None);
    }
}
