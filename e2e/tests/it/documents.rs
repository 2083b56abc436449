//! The parts of the documents that the code decides: generated from it, and compared. `UPDATE_DOCS=1 cargo xtask test
//! -p e2e documents` writes them.

mod sagas;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    path::PathBuf,
};

use contracts::{
    inventory::{self as inventory_contract, RejectReason},
    message::Documented,
    notification as notification_contract, orchestrator as orchestrator_contract,
    order::{self as order_contract, CancelReason, Participant},
    payment::{self as payment_contract, DeclineReason},
};
use model::topology;
use serde_json::{Map, Value, json};

/// Compares a document with the wanted text, or writes it if UPDATE_DOCS is set.
pub(crate) fn holds(path: &str, wanted: &str) {
    let path: PathBuf = xtask::workspace::root().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, wanted).expect("a writable checkout");
        return;
    }
    let is = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        is == wanted,
        "{} is not what the code says: UPDATE_DOCS=1 cargo xtask test -p e2e documents",
        path.display()
    );
}

/// Replaces the text between `<!-- generated: NAME -->` and `<!-- end -->`.
pub(crate) fn fill(document: &str, name: &str, content: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = document
        .split_once(&begin)
        .unwrap_or_else(|| panic!("the document has no {begin:?}"));
    let (_, after) = rest
        .split_once("<!-- end -->")
        .expect("a generated part ends");
    format!("{before}{begin}\n{content}\n<!-- end -->{after}")
}

#[test]
fn state_tables_match_the_code() {
    let orders = [
        ("order", order_table()),
        ("payment", payment_table()),
        ("inventory", inventory_table()),
    ];
    let sagas = [
        ("orchestrated order", sagas::order_table()),
        ("sagas", sagas::definitions()),
    ];
    for (path, tables) in [
        ("docs/architecture.md", &orders[..]),
        ("docs/orchestration.md", &sagas[..]),
    ] {
        let is =
            fs::read_to_string(xtask::workspace::root().join(path)).expect("the document exists");
        let filled = tables
            .iter()
            .fold(is, |wanted, (name, table)| fill(&wanted, name, table));
        holds(path, &filled);
    }
}

/// Returns a table with a row for each input and a column for each state.
fn table(states: &[&str], rows: &[(&str, Vec<String>)]) -> String {
    let row = |first: &str, cells: &[String]| format!("| {first} | {} |\n", cells.join(" | "));
    let titles: Vec<String> = states.iter().map(|state| (*state).to_owned()).collect();
    let mut table = row("input \\ state", &titles);
    table += &row("---", &vec!["---".to_owned(); states.len()]);
    for (input, cells) in rows {
        table += &row(input, cells);
    }
    table
}

/// Returns a value's variant in words: `cancelling` for `Cancelling(Undoing { … })`.
fn word(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let name: String = text
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    let mut word = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push(' ');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

fn order_table() -> String {
    use order::domain::{Effect, Fact, Input, Order, State, Undo, Undoing, decide};

    let undoing = |payment, inventory| Undoing {
        reason: CancelReason::Customer,
        payment,
        inventory,
    };
    let done = Some(Undo::Undone);
    let states = [
        ("pending", State::Pending),
        ("confirmed", State::Confirmed { committed: false }),
        ("confirmed, at rest", State::Confirmed { committed: true }),
        ("cancelling", State::Cancelling(undoing(None, None))),
        (
            "cancelling, payment answered",
            State::Cancelling(undoing(done, None)),
        ),
        (
            "cancelling, inventory answered",
            State::Cancelling(undoing(None, done)),
        ),
        ("cancelled, at rest", State::Cancelled(undoing(done, done))),
    ];
    let inputs = [
        ("`order.created`, our own", Input::Heard),
        ("`payment.declined`", Input::PaymentDeclined),
        ("`inventory.reserved`", Input::Reserved),
        ("`inventory.rejected`", Input::Rejected),
        ("`inventory.committed`", Input::Committed),
        ("`payment.refunded`", Input::PaymentUndo(Undo::Undone)),
        (
            "`payment.nothing_to_undo`",
            Input::PaymentUndo(Undo::NothingToUndo),
        ),
        ("`payment.settled`", Input::PaymentUndo(Undo::Settled)),
        ("`inventory.released`", Input::InventoryUndo(Undo::Undone)),
        (
            "`inventory.nothing_to_undo`",
            Input::InventoryUndo(Undo::NothingToUndo),
        ),
        ("`inventory.settled`", Input::InventoryUndo(Undo::Settled)),
        (
            "the customer cancels",
            Input::Cancel(CancelReason::Customer),
        ),
        ("an operator cancels", Input::Cancel(CancelReason::Operator)),
        ("the deadline passes", Input::Cancel(CancelReason::Deadline)),
        ("no answer for a while", Input::Sweep),
        (
            "an operator settles payment",
            Input::Settle(Participant::Payment),
        ),
        (
            "an operator settles inventory",
            Input::Settle(Participant::Inventory),
        ),
    ];
    let name = |state: State| match state {
        State::Confirmed { committed: true } => "confirmed, at rest".to_owned(),
        State::Cancelling(undoing) => match (undoing.payment, undoing.inventory) {
            (None, None) => "cancelling".to_owned(),
            (Some(_), None) => "cancelling, payment answered".to_owned(),
            (None, Some(_)) => "cancelling, inventory answered".to_owned(),
            (Some(_), Some(_)) => "cancelling, both answered".to_owned(),
        },
        State::Cancelled(_) => "cancelled, at rest".to_owned(),
        other => word(&other),
    };
    let rows: Vec<(&str, Vec<String>)> = inputs
        .into_iter()
        .map(|(label, input)| {
            let cells = states.map(|(_, state)| {
                let order = Order { state, version: 1 };
                let Ok(decision) = decide(order, input) else {
                    return "refused".to_owned();
                };
                let mut cell = Vec::new();
                if decision.order.state != state {
                    cell.push(format!("→ **{}**", name(decision.order.state)));
                }
                match decision.effect {
                    None => {}
                    Some(Effect::StartDeadline) => cell.push("the deadline starts".to_owned()),
                    Some(Effect::Publish(fact)) => cell.push(match fact {
                        Fact::Created => "`order.created`".to_owned(),
                        Fact::Confirmed => "`order.confirmed`".to_owned(),
                        Fact::Cancelling(_) => "`order.cancelling`".to_owned(),
                        Fact::Settling(_) => "`order.settling`".to_owned(),
                        Fact::Cancelled { .. } => "`order.cancelled`".to_owned(),
                    }),
                }
                or_dash(&cell)
            });
            (label, cells.to_vec())
        })
        .collect();
    table(&states.map(|(label, _)| label), &rows)
}

fn or_dash(cell: &[String]) -> String {
    if cell.is_empty() {
        "–".to_owned()
    } else {
        cell.join(", ")
    }
}

fn payment_table() -> String {
    use payment::domain::{Answer, Booking, Input, Means, Method, State, decide};

    let declined = DeclineReason::InsufficientFunds;
    let states = [
        ("(none)", None),
        (
            "charging",
            Some(State::Charging {
                cancel_requested: false,
            }),
        ),
        (
            "charging, cancel requested",
            Some(State::Charging {
                cancel_requested: true,
            }),
        ),
        ("captured, wallet", Some(State::Captured(Method::Wallet))),
        ("captured, card", Some(State::Captured(Method::Card))),
        ("declined", Some(State::Declined(declined))),
        ("refunding", Some(State::Refunding)),
        ("refunded", Some(State::Refunded)),
        ("void", Some(State::Void)),
        ("settled", Some(State::Settled)),
    ];
    let inputs = [
        (
            "`order.created`, wallet",
            Input::Charge(Means::Wallet(Ok(()))),
        ),
        (
            "`order.created`, wallet, too little in it",
            Input::Charge(Means::Wallet(Err(declined))),
        ),
        ("`order.created`, card", Input::Charge(Means::Card)),
        ("`order.cancelling`", Input::Cancel),
        ("`order.settling`", Input::Settle),
        ("card processor: captured", Input::CardCaptured),
        ("card processor: declined", Input::CardDeclined(declined)),
        ("card processor: refunded", Input::CardRefunded),
    ];
    let name = |state: State| match state {
        State::Charging {
            cancel_requested: true,
        } => "charging, cancel requested".to_owned(),
        State::Captured(method) => format!("captured, {}", word(&method)),
        other => word(&other),
    };
    let rows: Vec<(&str, Vec<String>)> = inputs
        .into_iter()
        .map(|(label, input)| {
            let cells = states.map(|(_, state)| {
                let Ok(decision) = decide(state, input) else {
                    return "refused".to_owned();
                };
                let mut cell = Vec::new();
                if Some(decision.state) != state {
                    cell.push(format!("→ **{}**", name(decision.state)));
                }
                match decision.booking {
                    None => {}
                    Some(Booking::Debit) => cell.push("debit the wallet".to_owned()),
                    Some(Booking::Credit) => cell.push("credit the wallet".to_owned()),
                }
                match decision.answer {
                    None => {}
                    Some(Answer::Completed) => cell.push("`payment.completed`".to_owned()),
                    Some(Answer::Declined(DeclineReason::OrderCancelled)) => {
                        cell.push("`payment.declined` (order cancelled)".to_owned());
                    }
                    Some(Answer::Declined(_)) => cell.push("`payment.declined`".to_owned()),
                    Some(Answer::Refunded) => cell.push("`payment.refunded`".to_owned()),
                    Some(Answer::NothingToUndo) => {
                        cell.push("`payment.nothing_to_undo`".to_owned());
                    }
                    Some(Answer::Settled) => cell.push("`payment.settled`".to_owned()),
                }
                or_dash(&cell)
            });
            (label, cells.to_vec())
        })
        .collect();
    table(&states.map(|(label, _)| label), &rows)
}

fn inventory_table() -> String {
    use inventory::domain::{Answer, Input, Rejection, Shelf, State, decide};

    let too_little = Rejection {
        reason: RejectReason::OutOfStock,
        sku: None,
    };
    let states = [
        ("(none)", None),
        ("reserved", Some(State::Reserved)),
        ("rejected", Some(State::Rejected(too_little.clone()))),
        ("sold", Some(State::Sold)),
        ("released", Some(State::Released { restocked: false })),
        ("void", Some(State::Void)),
        ("settled", Some(State::Settled)),
    ];
    let inputs = [
        ("`payment.completed`", Input::Reserve(Ok(()))),
        (
            "`payment.completed`, too little in stock",
            Input::Reserve(Err(too_little)),
        ),
        ("`order.confirmed`", Input::Commit),
        ("`order.cancelling`", Input::Release),
        ("`order.settling`", Input::Settle),
    ];
    let shelf = |shelf: Shelf| word(&shelf);
    let rows: Vec<(&str, Vec<String>)> = inputs
        .into_iter()
        .map(|(label, input)| {
            let cells = states.clone().map(|(_, state)| {
                let Ok(decision) = decide(state.as_ref(), input.clone()) else {
                    return "refused".to_owned();
                };
                let mut cell = Vec::new();
                if Some(&decision.state) != state.as_ref() {
                    cell.push(format!("→ **{}**", word(&decision.state)));
                }
                if let Some((from, to)) = decision.moves {
                    cell.push(format!("{} → {}", shelf(from), shelf(to)));
                }
                match decision.answer {
                    None => {}
                    Some(Answer::Reserved) => cell.push("`inventory.reserved`".to_owned()),
                    Some(Answer::Rejected(Rejection {
                        reason: RejectReason::OrderCancelled,
                        ..
                    })) => {
                        cell.push("`inventory.rejected` (order cancelled)".to_owned());
                    }
                    Some(Answer::Rejected(_)) => cell.push("`inventory.rejected`".to_owned()),
                    Some(Answer::Committed) => cell.push("`inventory.committed`".to_owned()),
                    Some(Answer::Released { .. }) => cell.push("`inventory.released`".to_owned()),
                    Some(Answer::NothingToUndo) => {
                        cell.push("`inventory.nothing_to_undo`".to_owned());
                    }
                    Some(Answer::Settled) => cell.push("`inventory.settled`".to_owned()),
                }
                or_dash(&cell)
            });
            (label, cells.to_vec())
        })
        .collect();
    table(&states.map(|(label, _)| label), &rows)
}

/// Returns each publisher with its messages.
fn publishers() -> [(&'static str, Vec<Documented>); 5] {
    [
        ("order", order_contract::schemas()),
        ("payment", payment_contract::schemas()),
        ("inventory", inventory_contract::schemas()),
        ("notification", notification_contract::schemas()),
        ("orchestrator", orchestrator_contract::schemas()),
    ]
}

/// An exchange and a routing key to which a message is published.
struct Route {
    exchange: String,
    key: String,
}

/// Returns every route of a message type. A fact of choreography is also the reply to a command.
fn routes(kind: &str) -> Vec<Route> {
    let publisher = kind.split('.').next().unwrap_or_default();
    let route = |exchange: &str, key: &str| Route {
        exchange: exchange.to_owned(),
        key: key.to_owned(),
    };
    let fact = || route("events", &format!("choreography.{kind}"));
    let of = |kind| chassis::events::exchange_of(kind, publisher);
    let reply = || route(&of("replies"), "orchestrator");
    match kind {
        "order.start_saga.v1" | "order.cancel_requested.v1" => {
            vec![route(&of("commands"), "orchestrator")]
        }
        "order.created.v1" | "order.cancelling.v1" | "order.settling.v1" => vec![fact()],
        "order.confirm_rejected.v1" | "order.completed.v1" | "notification.queued.v1" => {
            vec![reply()]
        }
        command if command.starts_with("orchestrator.") => {
            let whose = [
                ("payment", "payment"),
                ("inventory", "inventory"),
                ("order", "order"),
                ("notification", "notification"),
            ];
            let to = whose
                .into_iter()
                .find(|(word, _)| command.contains(&format!("_{word}.")));
            let (_, to) = to.unwrap_or_else(|| panic!("no service handles {command}"));
            vec![route(&of("commands"), to)]
        }
        _ => vec![fact(), reply()],
    }
}

#[test]
fn asyncapi_document_matches_contracts_and_topology() {
    let document = serde_json::to_string_pretty(&asyncapi()).expect("JSON");
    holds("docs/asyncapi.json", &format!("{document}\n"));
}

fn asyncapi() -> Value {
    let vhost = topology::virtual_host();
    let (mut channels, mut operations) = (Map::new(), Map::new());
    let (mut messages, mut schemas) = (Map::new(), BTreeMap::new());
    for (publisher, documented) in publishers() {
        for Documented {
            kind,
            name,
            schema,
            refers_to,
        } in documented
        {
            let schema = serde_json::to_value(schema).expect("a schema is JSON");
            let description = schema["description"].clone();
            schemas.insert(name.to_owned(), schema);
            for (name, schema) in refers_to {
                schemas.insert(
                    name,
                    serde_json::to_value(schema).expect("a schema is JSON"),
                );
            }
            let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
            messages.insert(
                name.to_owned(),
                json!({
                    "name": kind,
                    "contentType": "application/json",
                    "summary": description,
                    "headers": { "$ref": "#/components/schemas/CloudEvent" },
                    "payload": reference,
                }),
            );
            for Route { exchange, key } in routes(kind) {
                // One channel for each route of a message.
                let channel_name = if exchange.starts_with("replies.") {
                    format!("{name}Reply")
                } else {
                    name.to_owned()
                };
                let kind_of_exchange = if exchange == "events" {
                    "topic"
                } else {
                    "direct"
                };
                channels.insert(channel_name.clone(), json!({
                    "address": key,
                    "messages": { name: { "$ref": format!("#/components/messages/{name}") } },
                    "bindings": { "amqp": {
                        "is": "routingKey",
                        "exchange": { "name": exchange, "type": kind_of_exchange, "durable": true, "vhost": vhost },
                        "bindingVersion": "0.3.0",
                    } },
                }));
                let channel = json!({ "$ref": format!("#/channels/{channel_name}") });
                operations.insert(format!("{publisher}.sends.{channel_name}"), json!({
                    "action": "send",
                    "channel": channel,
                    "bindings": { "amqp": { "deliveryMode": 2, "mandatory": true, "bindingVersion": "0.3.0" } },
                }));
                let queues: BTreeSet<String> = topology::bindings(&exchange)
                    .into_iter()
                    .filter(|(pattern, _)| topology::matches(pattern, &key))
                    .map(|(_, queue)| queue)
                    .collect();
                assert!(!queues.is_empty(), "{kind} to {exchange} is unroutable");
                for queue in queues {
                    operations.insert(
                        format!("{queue}.receives.{channel_name}"),
                        json!({
                            "action": "receive",
                            "channel": channel,
                            "summary": format!("On the queue {queue}."),
                            "bindings": { "amqp": { "ack": true, "bindingVersion": "0.3.0" } },
                        }),
                    );
                }
            }
        }
    }
    schemas.insert("CloudEvent".to_owned(), cloud_event());
    json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "Holdfast: messages",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Generated from shared/contracts and deploy/rabbitmq/definitions.json by e2e/tests/it/documents.rs.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": {
            "development": {
                "host": "rabbitmq:5672",
                "pathname": format!("/{vhost}"),
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ of docker-compose.yml, in its network.",
                "security": [{ "$ref": "#/components/securitySchemes/account" }],
            },
            "production": {
                "host": "{host}",
                "pathname": format!("/{vhost}"),
                "protocol": "amqps",
                "protocolVersion": "0.9.1",
                "description": "The deployed broker. Each consumer has an account of its own, which may read only its own queue: docs/events.md.",
                "variables": { "host": { "description": "The broker's name and port.", "default": "rabbitmq.example:5671" } },
                "security": [{ "$ref": "#/components/securitySchemes/account" }],
            },
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "account": { "type": "userPassword", "description": "An account of the broker (SASL PLAIN)." },
            },
        },
    })
}

/// Returns the envelope's schema: `CloudEvents` 1.0 as AMQP headers.
fn cloud_event() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let id = |about: &str| json!({ "type": "string", "format": "uuid", "description": about });
    json!({
        "type": "object",
        "required": [
            "cloudEvents_specversion", "cloudEvents_id", "cloudEvents_type", "cloudEvents_source", "cloudEvents_subject",
        ],
        "properties": {
            "cloudEvents_specversion": { "type": "string", "const": "1.0" },
            "cloudEvents_id": id("New for every send; the receiver's inbox recognises a redelivery by it. Also in the property message_id."),
            "cloudEvents_type": text("The type with its version."),
            "cloudEvents_source": text("The publisher: /order, /payment, /inventory, /notification, /orchestrator."),
            "cloudEvents_subject": id("The order that the message is about."),
            "cloudEvents_time": { "type": "string", "format": "date-time", "description": "The time of writing. No service decides by it." },
            "cloudEvents_idempotencykey": text("The permanent name of the effect: the same for every send. A reply carries its command's."),
            "cloudEvents_causationid": id("The id of the message that led to this one."),
            "traceparent": text("W3C Trace Context: the span that published it."),
            "tracestate": text("W3C Trace Context: the entries of other tracing systems. Present only if a caller sent one."),
        },
    })
}

/// A check that every reference in the document resolves.
#[test]
fn asyncapi_references_resolve() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(path) if name == "$ref" => found.push(path.to_owned()),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = asyncapi();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let path = reference.trim_start_matches('#');
        assert!(
            document.pointer(path).is_some(),
            "{reference} does not resolve"
        );
    }
}
