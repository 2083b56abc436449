//! The parts of the documents that the code decides: generated from it, and compared. `UPDATE_DOCS=1 cargo xtask test
//! -p e2e documents` writes them.

mod orders;
mod payments;
mod reservations;
mod sagas;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    path::PathBuf,
};

use contracts::{
    inventory as inventory_contract, message::Documented, notification as notification_contract,
    orchestrator as orchestrator_contract, order as order_contract, payment as payment_contract,
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
        ("order", orders::order_table()),
        ("payment", payments::payment_table()),
        ("inventory", reservations::inventory_table()),
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

fn or_dash(cell: &[String]) -> String {
    if cell.is_empty() {
        "–".to_owned()
    } else {
        cell.join(", ")
    }
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

impl Route {
    /// Returns the name of a message's channel on this route: there is one for each route of a message.
    fn channel_of(&self, message: &str) -> String {
        if self.exchange.starts_with("replies.") {
            format!("{message}Reply")
        } else {
            message.to_owned()
        }
    }

    /// Returns the queues that it leads to.
    fn queues(&self) -> BTreeSet<String> {
        topology::bindings(&self.exchange)
            .into_iter()
            .filter(|(pattern, _)| topology::matches(pattern, &self.key))
            .map(|(_, queue)| queue)
            .collect()
    }
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
            messages.insert(name.to_owned(), message(kind, name, &schema["description"]));
            schemas.insert(name.to_owned(), schema);
            for (name, schema) in refers_to {
                schemas.insert(
                    name,
                    serde_json::to_value(schema).expect("a schema is JSON"),
                );
            }
            for route in routes(kind) {
                let id = route.channel_of(name);
                channels.insert(id.clone(), channel(name, &route, &vhost));
                operations.insert(format!("{publisher}.sends.{id}"), sending(&id));
                let queues = route.queues();
                assert!(
                    !queues.is_empty(),
                    "{kind} to {} is unroutable",
                    route.exchange
                );
                for queue in queues {
                    let operation = format!("{queue}.receives.{id}");
                    operations.insert(operation, receiving(&id, &queue));
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
        "servers": servers(&vhost),
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

/// Returns a message type, whose payload has the schema of the same name.
fn message(kind: &str, name: &str, summary: &Value) -> Value {
    json!({
        "name": kind,
        "contentType": "application/json",
        "summary": summary,
        "headers": { "$ref": "#/components/schemas/CloudEvent" },
        "payload": { "$ref": format!("#/components/schemas/{name}") },
    })
}

/// Returns the channel of a message on one of its routes.
fn channel(message: &str, route: &Route, vhost: &str) -> Value {
    let Route { exchange, key } = route;
    let kind = if exchange == "events" {
        "topic"
    } else {
        "direct"
    };
    json!({
        "address": key,
        "messages": { message: { "$ref": format!("#/components/messages/{message}") } },
        "bindings": { "amqp": {
            "is": "routingKey",
            "exchange": { "name": exchange, "type": kind, "durable": true, "vhost": vhost },
            "bindingVersion": "0.3.0",
        } },
    })
}

/// Returns the operation of a publisher on a channel.
fn sending(channel: &str) -> Value {
    json!({
        "action": "send",
        "channel": { "$ref": format!("#/channels/{channel}") },
        "bindings": { "amqp": { "deliveryMode": 2, "mandatory": true, "bindingVersion": "0.3.0" } },
    })
}

/// Returns the operation of a consumer of a queue to which a channel leads.
fn receiving(channel: &str, queue: &str) -> Value {
    json!({
        "action": "receive",
        "channel": { "$ref": format!("#/channels/{channel}") },
        "summary": format!("On the queue {queue}."),
        "bindings": { "amqp": { "ack": true, "bindingVersion": "0.3.0" } },
    })
}

/// Returns the brokers on which the channels are.
fn servers(vhost: &str) -> Value {
    json!({
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
