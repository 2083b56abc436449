//! Sagas against every fault, on the real stack: every step with each of its faults, every compensation with each of
//! its faults, stuck sagas and the operator actions on them, and rows that cannot be read.
//!
//! A cell is a step, or a compensation, and a fault ([`cell`]). Most cells are an order each, all of them on their way
//! at once in one system ([`crowd`]): an [`Interposer`](testkit::Interposer) loses, holds and repeats the commands and
//! the replies of each by its cell's rules, and [`table`] defines how it must end. Where processes have to fail or to
//! abort, one order at a time walks through all steps ([`walk`]). In the end the books of all services must agree.

mod broken;
mod cell;
mod crowd;
mod faults;
mod one;
mod stuck;
mod table;
mod told;
mod walk;

use chassis::events::ORCHESTRATOR;
use serde_json::{Value, json};

/// The bindings that the interposer takes over, as exchange, routing key and queue: all between the orchestrator, the
/// order service and the participants.
const BINDINGS: [(&str, &str, &str); 9] = [
    ("commands.orchestrator", "order", "order.commands"),
    ("commands.orchestrator", "payment", "payment.commands"),
    ("commands.orchestrator", "inventory", "inventory.commands"),
    (
        "commands.orchestrator",
        "notification",
        "notification.commands",
    ),
    ("commands.order", ORCHESTRATOR, "orchestrator.commands"),
    ("replies.order", ORCHESTRATOR, "orchestrator.replies"),
    ("replies.payment", ORCHESTRATOR, "orchestrator.replies"),
    ("replies.inventory", ORCHESTRATOR, "orchestrator.replies"),
    ("replies.notification", ORCHESTRATOR, "orchestrator.replies"),
];

/// Returns an orchestrated order of one unit, paid from the wallet.
fn order_of(sku: &str) -> Value {
    json!({
        "coordination": "orchestration",
        "lines": [{ "sku": sku, "quantity": 1 }],
        "payment": { "method": "wallet" },
    })
}

#[tokio::test]
async fn every_step_and_compensation_ends_as_the_table_says() {
    let ran = cell::Ran::default();
    tokio::join!(crowd::run(&ran), walk::run(&ran));
    let all = cell::all();
    let missing = ran.missing(&all);
    println!(
        "sagas: {} cells of {} were tried",
        all.len() - missing.len(),
        all.len()
    );
    assert!(missing.is_empty(), "not tried: {missing:#?}");
}
