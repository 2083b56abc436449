//! The OpenAPI documents: they are valid, and those written in `docs/openapi` and those that are served are the same.
//!
//! No server is needed: a service describes itself before it connects to anything, and rejects a request without a
//! token before it queries its database.

use std::{collections::BTreeSet, time::Duration};

use clap::Parser;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{answer, arguments, client, eventually, service_token_file};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use xtask::wiring::{ROOM, SERVICES};

use crate::documents::holds;

/// An address where no server listens.
const NOWHERE: &str = "127.0.0.1:1";

/// Builds a service whose dependencies are all unavailable, and evaluates an expression with it.
macro_rules! with_app {
    ($service:expr, $demo:expr, $app:ident => $use:expr) => {{
        let arguments = arguments_of($service, $demo);
        match $service {
            "order" => with_app!(@build order, arguments, $app => $use),
            "payment" => with_app!(@build payment, arguments, $app => $use),
            "inventory" => with_app!(@build inventory, arguments, $app => $use),
            "notification" => with_app!(@build notification, arguments, $app => $use),
            "orchestrator" => with_app!(@build orchestrator, arguments, $app => $use),
            "card-processor" => with_app!(@build card_processor, arguments, $app => $use),
            ROOM => with_app!(@build control_room, arguments, $app => $use),
            other => panic!("there is no service {other}"),
        }
    }};
    (@build $module:ident, $arguments:expr, $app:ident => $use:expr) => {{
        let config = $module::Config::try_parse_from($arguments).expect("the arguments are valid");
        let $app = $module::App::build(config).expect("it is put together");
        $use
    }};
}

fn arguments_of(service: &str, demo: bool) -> Vec<String> {
    // Installs the cryptography that the services' own clients need, as their `main` does.
    drop(client());
    let database = format!("postgres://nobody@{NOWHERE}/none");
    let broker = format!("--amqp-url=amqp://nobody@{NOWHERE}/none");
    let token = format!(
        "--service-token-file={}",
        service_token_file(service).display()
    );
    let url = |name: &str| format!("--{name}-url=http://{NOWHERE}");
    let mut all = arguments(service, &database);
    match service {
        "order" => all.extend([broker, token, url("inventory")]),
        "payment" => all.extend([
            broker,
            token,
            url("card-processor"),
            format!("--redis-url=redis://{NOWHERE}"),
        ]),
        "notification" => all.extend([
            broker,
            format!("--smtp-url=smtp://{NOWHERE}"),
            format!(
                "--webhook-keys-file={}/../deploy/development/secrets/webhook-keys",
                env!("CARGO_MANIFEST_DIR")
            ),
        ]),
        "card-processor" => {}
        ROOM => {
            all.retain(|argument| !argument.starts_with("--database"));
            all.extend(SERVICES.map(url));
            all.extend(SERVICES.map(|service| format!("--{service}-database-url={database}")));
            all.extend([
                broker,
                format!("--rabbitmq-api=http://{NOWHERE}/api"),
                format!("--redis-url=redis://{NOWHERE}"),
            ]);
            if !demo {
                let file = service_token_file(service);
                all.push(format!("--operator-token-file={}", file.display()));
            }
        }
        _ => all.push(broker),
    }
    if demo {
        all.push("--demo-mode".to_owned());
    }
    all
}

fn all_services() -> impl Iterator<Item = &'static str> {
    SERVICES.into_iter().chain([ROOM])
}

fn document(service: &'static str, demo: bool) -> Value {
    let document = with_app!(service, demo, app => app.document());
    serde_json::to_value(document).expect("a document is JSON")
}

/// Returns every operation of a document: its path, its method and its description.
fn operations(document: &Value) -> Vec<(&str, Method, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, item)| {
            let item = item.as_object().expect("an item");
            item.iter().map(move |(method, operation)| {
                let method = method.to_uppercase().parse().expect("a method");
                (path.as_str(), method, operation)
            })
        })
        .collect()
}

/// With `DEMO_MODE`, as `cargo xtask up` runs the services: without it they have fewer operations.
#[tokio::test]
async fn written_documents_match_the_code() {
    for service in all_services() {
        let document = document(service, true);
        let text = serde_json::to_string_pretty(&document).expect("JSON");
        holds(
            &format!("docs/openapi/{service}.json"),
            &format!("{text}\n"),
        );
    }
}

#[tokio::test]
async fn documents_are_sound() {
    for (service, demo) in all_services().flat_map(|service| [(service, true), (service, false)]) {
        let document = document(service, demo);
        let mut faults = Vec::new();
        dangling(&document, &document, &mut faults);

        let info = &document["info"];
        let title = format!("Holdfast: {}", service.replace('-', " "));
        if info["title"] != title.as_str() || info["version"] != "1" {
            faults.push(format!("it is called {info}"));
        }
        let tags: BTreeSet<&str> = document["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|tag| tag["description"].is_string())
            .filter_map(|tag| tag["name"].as_str())
            .collect();
        let mut names = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let mut fault = |what: String| faults.push(format!("{method} {path}: {what}"));
            if !names.insert(operation["operationId"].as_str().expect("an id")) {
                fault(format!("another one is {}", operation["operationId"]));
            }
            let own = operation["tags"].as_array().expect("tags");
            if !own
                .iter()
                .all(|tag| tags.contains(tag.as_str().unwrap_or_default()))
            {
                fault(format!("undeclared tags: {own:?}"));
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name");
                let in_path = path.contains(&format!("{{{name}}}"));
                if (parameter["in"] == "path") != in_path {
                    fault(format!("{name} is in {}", parameter["in"]));
                }
                if !parameter["description"].is_string() {
                    fault(format!("{name} is not described"));
                }
            }
            let responses = operation["responses"].as_object().expect("responses");
            for (status, response) in responses {
                let response = match response["$ref"].as_str() {
                    Some(reference) => document.pointer(&reference[1..]).unwrap_or(&Value::Null),
                    None => response,
                };
                if response["description"].as_str().is_none_or(str::is_empty) {
                    fault(format!("{status} is not described"));
                }
                let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
                if status.as_str() >= "400"
                    && path != "/health/ready"
                    && problem != "#/components/schemas/Problem"
                {
                    fault(format!("{status} is not a problem document: {response}"));
                }
                if status == "503"
                    && path != "/health/ready"
                    && response["headers"]["Retry-After"].is_null()
                {
                    fault("503 has no Retry-After".to_owned());
                }
            }
            let is_secured = operation["security"] != json!([{}]);
            if is_secured != responses.contains_key("401") {
                fault(format!("401 with the security {}", operation["security"]));
            }
        }
        assert!(faults.is_empty(), "{service}, demo {demo}: {faults:#?}");
    }
}

/// Collects references that do not resolve.
fn dangling(document: &Value, at: &Value, found: &mut Vec<String>) {
    match at {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(reference) if name == "$ref" => {
                        let target = reference.strip_prefix('#').unwrap_or("nowhere");
                        if document.pointer(target).is_none() {
                            found.push(format!("{reference} does not resolve"));
                        }
                    }
                    _ => dangling(document, value, found),
                }
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| dangling(document, item, found)),
        _ => {}
    }
}

/// Every documented operation exists under its method, and the served document is this one.
#[tokio::test]
async fn documented_operations_are_served() {
    for service in all_services() {
        let described = document(service, true);
        let stop = CancellationToken::new();
        let (address, running) = with_app!(service, true, app => {
            let address = app.address().expect("it is bound");
            (address, tokio::spawn(app.run(stop.clone())))
        });
        let http = client();
        let base = format!("http://{address}");
        eventually("the service answers", || async {
            let live = http.get(format!("{base}/health/live")).send().await;
            live.map_err(|error| error.to_string())
        })
        .await;
        let served = answer(http.get(format!("{base}/openapi.json")))
            .await
            .expect(200);
        assert_eq!(served, described, "{service}");

        for (path, method, operation) in operations(&described) {
            let url = format!("{base}{}", example(path, operation));
            let mut request = http
                .request(method.clone(), &url)
                .timeout(Duration::from_secs(60));
            if !operation["requestBody"].is_null() {
                request = request.json(&json!({}));
            }
            // Only the head is read: a stream has no end.
            let response = request.send().await.expect("an answer");
            let status = response.status();
            let documented = operation["responses"].get(status.as_str()).is_some();
            assert!(documented, "{service}: {method} {path} answers {status}");
            if operation["security"] != json!([{}]) {
                assert_eq!(
                    status,
                    StatusCode::UNAUTHORIZED,
                    "{service}: {method} {path}"
                );
            }
            if status == StatusCode::NOT_FOUND {
                let problem: Value = response.json().await.expect("a problem");
                let detail = problem["detail"].as_str().unwrap_or_default();
                assert!(
                    !detail.contains("nothing at this path"),
                    "{service}: {method} {path}: {problem}"
                );
            }
        }
        stop.cancel();
        running.await.expect("no panic").expect("it stops");
    }
}

/// Returns a path with example values for its parameters.
fn example(path: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters
        .filter(|parameter| parameter["in"] == "path")
        .fold(path.to_owned(), |path, parameter| {
            let name = parameter["name"].as_str().expect("a name");
            let schema = &parameter["schema"];
            let value = match schema["enum"][0].as_str() {
                Some(word) => word.to_owned(),
                None if schema["format"] == "uuid" => Uuid::now_v7().to_string(),
                None => "TEA".to_owned(),
            };
            path.replace(&format!("{{{name}}}"), &value)
        })
}
