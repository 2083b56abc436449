//! Four orders, and the spans that their traces must hold.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Span, Trace};
use model::topology;

/// An order whose trace is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// An order paid by card.
    Confirmed,
    /// An order whose card is declined.
    Declined,
    /// An order paid by card, and cancelled by its customer after it was confirmed.
    Refunded,
    /// An order paid by card, whose first charge fails at the card processor.
    Retried,
}

impl Case {
    /// Every case, in the order of declaration.
    pub const ALL: [Self; 4] = [
        Self::Confirmed,
        Self::Declined,
        Self::Refunded,
        Self::Retried,
    ];

    /// The quantity that [`Case::order`] orders.
    pub const ITEMS: u32 = 2;

    /// Returns the body for `POST /orders`.
    pub fn order(self) -> Value {
        let token = match self {
            Self::Declined => "tok_declined",
            _ => "tok_visa",
        };
        json!({
            "lines": [{ "sku": "TEA-ASSAM", "quantity": Self::ITEMS }],
            "payment": { "method": "card", "token": token },
        })
    }

    /// Returns the state in which the order comes to rest.
    pub fn state(self) -> &'static str {
        match self {
            Self::Confirmed | Self::Retried => "confirmed",
            Self::Declined | Self::Refunded => "cancelled",
        }
    }

    /// Lists what is wrong with the trace of such an order, or still missing from it; empty once the trace is complete.
    /// `caller` is the id of the span of the customer's app, `order` the order service's response.
    pub fn faults(self, trace: &Trace, caller: &str, order: &Value) -> BTreeSet<String> {
        let mut faults = trace.faults(caller);
        for path in self.paths() {
            if trace.at(&path).is_empty() {
                faults.insert(format!("missing: {path:#?}"));
            }
        }
        let services: BTreeSet<&str> = trace.spans().map(|span| span.service.as_str()).collect();
        let all = BTreeSet::from([
            "card-processor",
            "inventory",
            "notification",
            "order",
            "payment",
        ]);
        if services != all {
            faults.insert(format!("services: {services:?}"));
        }
        faults.extend(about_the_order(trace, order));
        faults.extend(unheard(trace));
        faults.extend(self.card_calls(trace));
        faults
    }

    /// Returns the paths that must be in the trace. Each step is somewhere below the one before.
    fn paths(self) -> Vec<Vec<String>> {
        let placed = steps(&["order POST /orders"]);
        let asked = placed.then(&hop("order", "order.created.v1", "payment"));
        let charging = asked.then(&steps(&["payment card call"]));
        let priced = placed.then(&steps(&[
            "order POST",
            "inventory POST /prices",
            "inventory SELECT product",
        ]));
        let charged = charging.then(&steps(&["payment POST", "card-processor POST /charges"]));
        let mut paths = vec![
            priced,
            placed.then(&steps(&["order TRANSACTION place order"])),
            placed.then(&steps(&["order INSERT outbox"])),
            charged.then(&steps(&["card-processor TRANSACTION accept charge"])),
            charged.then(&steps(&["card-processor TRANSACTION decide charge"])),
            charging.then(&steps(&["payment TRANSACTION store card answer"])),
        ];
        if self == Self::Declined {
            let declined = charging.then(&hop("payment", "payment.declined.v1", "order"));
            let cancelling = declined.then(&hop("order", "order.cancelling.v1", "inventory"));
            paths.push(cancelling.then(&hop("inventory", "inventory.nothing_to_undo.v1", "order")));
            paths.push(declined.then(&told("order.cancelled.v1")));
            return paths;
        }
        let reserved = charging
            .then(&hop("payment", "payment.completed.v1", "inventory"))
            .then(&hop("inventory", "inventory.reserved.v1", "order"));
        paths.push(
            reserved
                .then(&hop("order", "order.confirmed.v1", "inventory"))
                .then(&hop("inventory", "inventory.committed.v1", "order")),
        );
        paths.push(reserved.then(&told("order.confirmed.v1")));
        if self == Self::Refunded {
            let cancelled = steps(&["order POST /orders/{id}/cancel"]);
            let refunding = cancelled
                .then(&hop("order", "order.cancelling.v1", "payment"))
                .then(&steps(&["payment card call"]));
            paths.push(refunding.then(&steps(&[
                "payment POST",
                "card-processor POST /charges/{id}/refund",
                "card-processor TRANSACTION refund charge",
            ])));
            paths.push(refunding.then(&hop("payment", "payment.refunded.v1", "order")));
            paths.push(
                cancelled
                    .then(&hop("order", "order.cancelling.v1", "inventory"))
                    .then(&hop("inventory", "inventory.released.v1", "order")),
            );
            paths.push(cancelled.then(&told("order.cancelled.v1")));
        }
        paths
    }

    /// Checks the number and the outcomes of the calls to the card processor.
    fn card_calls(self, trace: &Trace) -> Vec<String> {
        let mut calls: Vec<&Span> = trace
            .spans()
            .filter(|span| span.name == "card call")
            .collect();
        calls.sort_by_key(|call| call.get("holdfast.attempt").parse::<u32>().unwrap_or(0));
        let charges: Vec<&Span> = calls
            .iter()
            .copied()
            .filter(|call| call.get("payment.operation") == "charge")
            .collect();
        let mut faults = Vec::new();
        let (failed, good): (Vec<&Span>, Vec<&Span>) =
            charges.iter().copied().partition(|call| call.failed);
        if good.len() != 1 {
            faults.push(format!("{} charges succeeded", good.len()));
        }
        // On a busy machine, a call of another case may time out once, too.
        if self != Self::Retried {
            return faults;
        }
        if failed.is_empty() {
            faults.push("no charge failed".to_owned());
        }
        for call in &failed {
            let status = |span: &Span| span.get("http.response.status_code") == "503";
            let asked = trace.children(call).find(|child| status(child));
            let answered =
                asked.and_then(|asked| trace.children(asked).find(|child| status(child)));
            if asked.is_none_or(|asked| !asked.failed)
                || answered.is_none_or(|answer| !answer.failed)
            {
                faults.push(format!("no 503 below {call:?}"));
            }
        }
        // The same message caused all attempts.
        let causes: BTreeSet<_> = charges.iter().map(|call| &call.parent).collect();
        if causes.len() != 1 {
            faults.push(format!("charges below {causes:?}"));
        }
        faults
    }
}

/// Checks the attributes that describe the order, wherever they are known.
fn about_the_order(trace: &Trace, order: &Value) -> Vec<String> {
    let items = Case::ITEMS.to_string();
    let amount = order["amount"]["amount_minor"].to_string();
    let everything = [
        ("order.id", order["id"].as_str().unwrap_or("none")),
        ("order.amount", amount.as_str()),
        (
            "order.currency",
            order["amount"]["currency"].as_str().unwrap_or("none"),
        ),
        ("order.items_count", items.as_str()),
        ("payment.method", "card"),
    ];
    let mut faults = Vec::new();
    for span in trace.spans() {
        for (name, value) in everything {
            let is = span.get(name);
            // An attribute has no other value, and the spans that know the whole order have all of them.
            let must = span.name == "POST /orders"
                || span.name == "card call"
                || (!span.failed
                    && span.name.starts_with("process ")
                    && ["order.choreography", "payment.choreography"]
                        .iter()
                        .any(|queue| span.name.ends_with(queue)));
            if is != value && (must || !is.is_empty()) {
                faults.push(format!("{name} is {is:?}, not {value:?}: {span:?}"));
            }
        }
    }
    faults
}

/// Lists the events that were not handled on every queue bound to their key.
fn unheard(trace: &Trace) -> Vec<String> {
    let bindings = topology::bindings("events");
    let mut faults = Vec::new();
    for sent in trace.spans() {
        let Some(key) = sent.name.strip_prefix("send events:") else {
            continue;
        };
        for (pattern, queue) in &bindings {
            let is_theirs = |heard: &Span| heard.name == format!("process events:{key}:{queue}");
            if topology::matches(pattern, key) && !trace.children(sent).any(is_theirs) {
                faults.push(format!("not heard on {queue}: {sent:?}"));
            }
        }
    }
    faults
}

fn steps(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns the steps from one service's sending to another's handling.
fn hop(from: &str, kind: &str, to: &str) -> Vec<String> {
    vec![
        format!("{from} send events:choreography.{kind}"),
        format!("{to} process events:choreography.{kind}:{to}.choreography"),
    ]
}

/// Returns the steps from the order service to the customer's mail.
fn told(kind: &str) -> Vec<String> {
    hop("order", kind, "notification").then(&steps(&["notification send mail"]))
}

trait Then {
    fn then(&self, more: &[String]) -> Vec<String>;
}

impl Then for Vec<String> {
    fn then(&self, more: &[String]) -> Vec<String> {
        [self.as_slice(), more].concat()
    }
}
