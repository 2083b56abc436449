//! The broker's topology in `deploy/rabbitmq/definitions.json`: the delivery limits, and what each account may publish.

use std::collections::BTreeMap;

use holdfast::{
    messaging::{Publisher, retry_exchange},
    outbox::{Message, Outcome, Publisher as _},
};
use reqwest::StatusCode;
use serde_json::Value;
use testkit::{Vhost, client, eventually};
use uuid::Uuid;

const SERVICES: [&str; 5] = [
    "order",
    "payment",
    "inventory",
    "notification",
    "orchestrator",
];

fn definitions() -> Value {
    let text = include_str!("../../../deploy/rabbitmq/definitions.json");
    serde_json::from_str(text).expect("the definitions are JSON")
}

fn list<'a>(definitions: &'a Value, section: &str) -> impl Iterator<Item = &'a Value> {
    let list = definitions[section].as_array();
    list.expect("each section is a list").iter()
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().expect("a text")
}

/// Without a limit RabbitMQ 4 drops a message after 20 deliveries, which one outage of a database and the network can
/// cause.
#[test]
fn every_queue_names_its_delivery_limit() {
    let definitions = definitions();
    for queue in list(&definitions, "queues") {
        let (name, arguments) = (text(queue, "name"), &queue["arguments"]);
        let limit = arguments["x-delivery-limit"].as_u64();
        let is_work = name.strip_suffix(".dead").is_none() && !name.contains(".retry.");
        // A message that kills its consumers is dead-lettered in the end. A message that waits is never dropped.
        let (wanted, leads_to) = if is_work {
            (100, Some(format!("{name}.dead")))
        } else {
            (1_000_000_000, None)
        };
        assert_eq!(limit, Some(wanted), "{name}");
        if let Some(dead) = leads_to {
            assert_eq!(text(arguments, "x-dead-letter-routing-key"), dead);
            assert_eq!(
                text(arguments, "x-dead-letter-exchange"),
                retry_exchange(name)
            );
        }
    }
}

/// Returns every exchange and routing key that is bound to a queue, and each queue's name through the default exchange.
fn doors() -> Vec<(String, String)> {
    let definitions = definitions();
    let bound = list(&definitions, "bindings").map(|binding| {
        let key = match text(binding, "routing_key") {
            // An example of an event that no service may publish.
            "#" => "choreography.stranger.said.v1".to_owned(),
            key => key.replace('*', "v1"),
        };
        (text(binding, "source").to_owned(), key)
    });
    let named =
        list(&definitions, "queues").map(|queue| (String::new(), text(queue, "name").to_owned()));
    let mut doors: Vec<_> = bound.chain(named).collect();
    doors.sort();
    doors.dedup();
    doors
}

/// Returns whether a service may publish there.
fn may_say(service: &str, exchange: &str, key: &str) -> bool {
    match exchange.split_once('.') {
        Some((_, owner)) => owner == service,
        None => exchange == "events" && key.starts_with(&format!("choreography.{service}.")),
    }
}

/// Publishes a message at every door as a service's account.
async fn outcomes(vhost: &Vhost, service: &str, doors: &[(String, String)]) -> Vec<Outcome> {
    let publisher = Publisher::new(vhost.url(service), "test");
    let messages = doors.iter().map(|(exchange, routing_key)| Message {
        id: Uuid::now_v7(),
        exchange: exchange.clone(),
        routing_key: routing_key.clone(),
        headers: BTreeMap::new(),
        payload: b"{}".to_vec(),
    });
    let outcomes = publisher.publish(&messages.collect::<Vec<_>>()).await;
    publisher.close().await;
    outcomes
}

/// A service that was taken over can publish any event or command of its own, but none in another's name.
#[tokio::test]
async fn each_account_publishes_in_its_own_name_alone() {
    let vhost = Vhost::create().await;
    let doors = doors();
    assert!(doors.len() > 100, "{doors:?}");
    for service in SERVICES {
        let outcomes = outcomes(&vhost, service, &doors).await;
        let mut said = 0;
        for ((exchange, key), outcome) in doors.iter().zip(&outcomes) {
            let door = format!("{service} to {exchange:?} under {key}");
            match outcome {
                Outcome::Confirmed => {
                    assert!(may_say(service, exchange, key), "{door}: confirmed");
                    said += 1;
                }
                Outcome::Refused(why) if why.contains("ACCESS_REFUSED") => {
                    assert!(!may_say(service, exchange, key), "{door}: {why}");
                }
                other => panic!("{door}: {other:?}"),
            }
        }
        assert!(said > 5, "{service} may say nothing");
    }
    vhost.delete().await;
}

/// A service's tests run on its part of the topology, and still publish to the other services.
#[tokio::test]
async fn part_of_one_service_routes_what_the_whole_routes() {
    let vhost = Vhost::of("payment").await;
    let doors = doors();
    for service in SERVICES {
        let outcomes = outcomes(&vhost, service, &doors).await;
        for ((exchange, key), outcome) in doors.iter().zip(outcomes) {
            if may_say(service, exchange, key) {
                let is_routed = matches!(outcome, Outcome::Confirmed);
                assert!(
                    is_routed,
                    "{service} to {exchange:?} under {key}: {outcome:?}"
                );
            }
        }
    }
    vhost.delete().await;
}

/// A hundred virtual hosts left behind by failed tests made the broker four times as slow.
#[tokio::test]
async fn virtual_host_is_deleted_with_its_last_handle() {
    let api = std::env::var("HOLDFAST_TEST_RABBITMQ_API").expect("cargo xtask test sets it");
    let vhost = Vhost::of("orchestrator").await;
    let url = format!("{api}/vhosts/{}", vhost.name());
    let status = async || {
        client()
            .get(&url)
            .send()
            .await
            .expect("it answers")
            .status()
    };
    let kept = vhost.clone();
    drop(vhost);
    assert_eq!(status().await, 200);
    drop(kept);
    eventually("it is gone", || async {
        match status().await {
            StatusCode::NOT_FOUND => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
