//! An operator's view of a saga, in as few words as a table has room for.

use std::collections::BTreeMap;

use contracts::{order::Saga, value::OrderId};
use orchestrator::domain::saga_id;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::answer;
use uuid::Uuid;

use crate::system::System;

/// The response of `GET /operator/sagas/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The phase; empty, if the saga has not begun.
    pub(super) phase: String,
    pub(super) error: Option<String>,
    /// The steps' statuses, a letter each: `w`aiting, `s`ent, `d`one, `r`efused, `u`ndone, se`t`tled, s`k`ipped.
    pub(super) marks: String,
    /// The entries of the log that led to more than a resend.
    pub(super) log: Vec<String>,
    /// The number of attempts, by step and direction: `charge_payment/undo`.
    pub(super) asked: BTreeMap<String, u64>,
}

/// Returns an operator's view of an order's saga.
pub(super) async fn ask(system: &System, order: OrderId, saga: Saga) -> Told {
    let path = format!("/operator/sagas/{}", saga_id(order, saga));
    let shown = answer(system.as_operator("orchestrator", Method::GET, &path)).await;
    if shown.status == 404 {
        return Told::default();
    }
    Told::new(&shown.expect(200))
}

/// Returns the sagas in this phase.
pub(super) async fn in_phase(system: &System, phase: &str) -> Vec<Value> {
    let path = format!("/operator/sagas?limit=200&phase={phase}");
    let page = answer(system.as_operator("orchestrator", Method::GET, &path)).await;
    let page = page.expect(200);
    page["sagas"].as_array().expect("a list").clone()
}

/// Sends an operator action on a saga, and returns the response's status.
pub(super) async fn operate(system: &System, saga: Uuid, action: &str, note: &str) -> u16 {
    let path = format!("/operator/sagas/{saga}/{action}");
    let request = system.as_operator("orchestrator", Method::POST, &path);
    let done = answer(request.json(&json!({ "note": note }))).await;
    done.status.as_u16()
}

impl Told {
    fn new(shown: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let steps = list(&shown["steps"]);
        let marks = steps.iter().map(|step| letter(&text(&step["mark"])));
        let mut asked = BTreeMap::new();
        for step in &steps {
            for ask in list(&step["asks"]) {
                let name = format!("{}/{}", text(&step["name"]), text(&ask["asked"]));
                *asked.entry(name).or_default() += ask["attempts"].as_u64().unwrap_or_default();
            }
        }
        Self {
            phase: text(&shown["phase"]),
            error: shown["error"].as_str().map(str::to_owned),
            marks: marks.collect(),
            log: list(&shown["log"])
                .iter()
                .filter_map(|entry| happened(entry, &steps))
                .collect(),
            asked,
        }
    }
}

fn letter(mark: &str) -> char {
    match mark {
        "settled" => 't',
        "skipped" => 'k',
        other => other.chars().next().unwrap_or('?'),
    }
}

/// Returns an entry of the log in words; `None`, if it begins the saga, or is a timeout that only led to a resend.
fn happened(entry: &Value, steps: &[Value]) -> Option<String> {
    let input = &entry["input"];
    let asked = |of: &Value| {
        let place = usize::try_from(of["step"].as_u64().expect("a step")).expect("small");
        // The steps of a saga that cannot be read are unknown.
        let name = steps.get(place).and_then(|step| step["name"].as_str());
        let name = name.map_or_else(|| place.to_string(), str::to_owned);
        format!("{name}/{}", of["asked"].as_str().expect("a direction"))
    };
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    if input == "start" {
        None
    } else if let Some(reply) = input.get("reply") {
        Some(format!(
            "{} {}",
            asked(reply),
            word(&reply["answer"]["kind"])
        ))
    } else if let Some(timed_out) = input.get("timed_out") {
        let asked = asked(timed_out);
        let resend = format!("send {asked}, attempt ");
        let effect = word(&entry["effect"]);
        (!effect.starts_with(&resend)).then(|| format!("{asked} no answer"))
    } else if let Some(cancel) = input.get("cancel") {
        Some(format!("cancel {}", word(&cancel["reason"])))
    } else if let Some(action) = input.get("operator") {
        Some(word(&action["action"]))
    } else {
        panic!("not a known entry: {entry}")
    }
}
