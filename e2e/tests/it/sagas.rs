//! Sagas against everything that can go wrong, on the real stack: every step by every fault, every compensation by every
//! fault, stuck sagas and what operators do about them, rows that cannot be read.
//!
//! A cell is a step, or a compensation, and something that goes wrong with it ([`cell`]). Most cells are an order each, all
//! of them on their way at once in one system ([`crowd`]): an [`Interposer`](testkit::Interposer) loses, holds and repeats
//! the commands and the answers of each as its cell says, and [`table`] says how it must end. Where processes have to fail
//! or to abort, one order at a time walks through all steps ([`walk`]). In the end the books of all services must agree.

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

/// What stands between the orchestrator, and the order service, and those whom they ask.
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

/// An orchestrated order of one of these, paid from the wallet.
fn order_of(sku: &str) -> Value {
    json!({
        "coordination": "orchestration",
        "lines": [{ "sku": sku, "quantity": 1 }],
        "payment": { "method": "wallet" },
    })
}

#[tokio::test]
async fn every_step_and_every_compensation_by_everything_that_can_go_wrong() {
    let ran = cell::Ran::default();
    tokio::join!(crowd::run(&ran), walk::run(&ran));
    let all = cell::all();
    let missing = ran.missing(&all);
    println!(
        "sagas: {} cells of {} were tried",
        all.len() - missing.len(),
        all.len()
    );
    assert!(missing.is_empty(), "nobody tried {missing:#?}");
}
