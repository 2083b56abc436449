//! A virtual host of the broker per test, with the topology of `deploy/`, or one service's part of it.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use holdfast::{messaging::retry_exchange, outbox::Message};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{setting, token::client};

/// The queue for the messages of other services in [`Vhost::of`].
const ELSEWHERE: &str = "elsewhere";
const DEFINITIONS: &str = include_str!("../../../deploy/rabbitmq/definitions.json");

/// A virtual host of a test's own, with the exchanges, queues, bindings and permissions of the real one, and short
/// delays between retries. It is deleted with the last of its clones, even if its test fails: with a hundred of them
/// left behind the broker takes four times as long to create the next.
#[derive(Clone, Debug)]
pub struct Vhost {
    name: String,
    /// The AMQP listener, as HOST:PORT.
    server: SocketAddr,
    api: String,
    http: reqwest::Client,
    left: Arc<Left>,
}

/// A guard that deletes a virtual host when its last clone is dropped.
#[derive(Debug)]
struct Left {
    url: String,
    is_deleted: AtomicBool,
}

impl Drop for Left {
    fn drop(&mut self) {
        if self.is_deleted.load(Ordering::Relaxed) {
            return;
        }
        let url = std::mem::take(&mut self.url);
        // The test's runtime may be gone. If the process ends first, the virtual host stays.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime {
                runtime.block_on(delete(&client(), &url));
            }
        });
    }
}

async fn delete(http: &reqwest::Client, url: &str) {
    let deleted = http.delete(url).timeout(Duration::from_secs(30)).send();
    let _ = deleted.await;
}

/// The number of messages in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that a consumer has not acknowledged.
    pub unacknowledged: u64,
}

/// A deleted queue, as [`Vhost::restore_queue`] needs it.
#[derive(Clone, Debug)]
pub struct DeletedQueue {
    name: String,
    arguments: Value,
    bindings: Value,
}

impl Vhost {
    /// Creates a virtual host in which the delays before retries are 20, 40, 60 and 80 ms.
    pub async fn create() -> Self {
        Self::with_delays(&[20, 40, 60, 80]).await
    }

    /// Creates a virtual host with one service's queues. Messages for the others go to one queue that keeps nothing: a
    /// message is routed here exactly if it would be with all of the queues. The broker needs two seconds of a
    /// processor to create and delete all 66 quorum queues, each a Raft cluster of one.
    pub async fn of(service: &str) -> Self {
        Self::with(&[20, 40, 60, 80], None, Some(service)).await
    }

    /// Creates a virtual host with these delays, in milliseconds, before the first, second, … retry.
    pub async fn with_delays(delays: &[u64]) -> Self {
        Self::with(delays, None, None).await
    }

    /// Creates a virtual host whose work queues dead-letter a message after `limit` deliveries.
    pub async fn with_delivery_limit(limit: u64) -> Self {
        Self::with(&[20, 40, 60, 80], Some(limit), None).await
    }

    async fn with(delays: &[u64], delivery_limit: Option<u64>, only: Option<&str>) -> Self {
        let name = format!("test-{}", Uuid::now_v7().simple());
        let api = setting("HOLDFAST_TEST_RABBITMQ_API");
        let vhost = Self {
            left: Arc::new(Left {
                url: format!("{api}/vhosts/{name}"),
                is_deleted: AtomicBool::new(false),
            }),
            name,
            server: setting("HOLDFAST_TEST_AMQP")
                .parse()
                .expect("HOLDFAST_TEST_AMQP is HOST:PORT"),
            api,
            http: client(),
        };
        let mut definitions: Value =
            serde_json::from_str(DEFINITIONS).expect("the definitions are JSON");
        if let Some(service) = only {
            keep_queues_of(service, &mut definitions);
        }
        let sections = definitions
            .as_object_mut()
            .expect("the definitions are an object");
        sections.remove("users"); // the broker has them already
        for (section, entries) in sections {
            for entry in entries.as_array_mut().expect("each section is a list") {
                entry[if section == "vhosts" { "name" } else { "vhost" }] = json!(vhost.name);
                let name = entry["name"].as_str().unwrap_or_default().to_owned();
                if let Some((_, level)) = name.rsplit_once(".retry.") {
                    let level: usize = level.parse().expect("retry queues are numbered");
                    entry["arguments"]["x-message-ttl"] = json!(delays[level - 1]);
                }
                let is_dead = name.strip_suffix(".dead").is_some();
                let is_work = section == "queues" && !name.contains(".retry.") && !is_dead;
                if let (Some(limit), true) = (delivery_limit, is_work) {
                    entry["arguments"]["x-delivery-limit"] = json!(limit);
                }
            }
        }
        vhost
            .http
            .post(format!("{}/definitions", vhost.api))
            .json(&definitions)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .expect("the broker takes the definitions");
        vhost
    }

    /// Adds other definitions, as the broker exports them, to this virtual host, whatever host they name.
    pub async fn import(&self, mut definitions: Value) {
        let sections = definitions.as_object_mut().expect("an object").values_mut();
        let entries = sections.filter_map(Value::as_array_mut).flatten();
        for entry in entries.filter(|entry| entry["vhost"].is_string()) {
            entry["vhost"] = json!(self.name);
        }
        self.http
            .post(format!("{}/definitions", self.api))
            .json(&definitions)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .expect("the broker takes the definitions");
    }

    /// Returns the URL by which the service `user` connects to it.
    pub fn url(&self, user: &str) -> String {
        self.url_via(user, self.server)
    }

    /// Returns the URL by which the service `user` connects to it through a proxy at `address`.
    pub fn url_via(&self, user: &str, address: SocketAddr) -> String {
        format!("amqp://{user}:development-{user}@{address}/{}", self.name)
    }

    /// Returns the broker's address.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Returns the virtual host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the depth of a queue. The broker's counts are late by a moment.
    pub async fn depth(&self, queue: &str) -> Depth {
        // Only the list has the totals.
        let url = format!(
            "{}/queues/{}?disable_stats=true&enable_queue_totals=true",
            self.api, self.name
        );
        let queues: Vec<Value> = self
            .http
            .get(url)
            .send()
            .await
            .expect("the API answers")
            .json()
            .await
            .expect("JSON");
        let queue = queues
            .iter()
            .find(|entry| entry["name"] == queue)
            .expect("there is such a queue");
        let count = |name: &str| queue[name].as_u64().expect("the API counts");
        Depth {
            ready: count("messages_ready"),
            unacknowledged: count("messages_unacknowledged"),
        }
    }

    /// Takes the first message out of a queue without a consumer, as a message that could be sent to it again; `None`
    /// if it is empty.
    pub async fn take(&self, queue: &str) -> Option<Message> {
        let taken: Vec<Value> = self
            .http
            .post(format!("{}/queues/{}/{queue}/get", self.api, self.name))
            .json(&json!({ "count": 1, "ackmode": "ack_requeue_false", "encoding": "auto" }))
            .send()
            .await
            .expect("the API answers")
            .json()
            .await
            .expect("JSON");
        let message = taken.first()?;
        let headers = message["properties"]["headers"]
            .as_object()
            .expect("headers")
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        Some(Message {
            id: message["properties"]["message_id"]
                .as_str()
                .and_then(|id| id.parse().ok())
                .expect("a message id"),
            exchange: retry_exchange(queue),
            routing_key: queue.to_owned(),
            headers,
            payload: message["payload"]
                .as_str()
                .unwrap_or_default()
                .as_bytes()
                .to_vec(),
        })
    }

    /// Deletes a queue that has consumers: the broker cancels them, and their channels stay open. Returns what
    /// [`Self::restore_queue`] needs.
    ///
    /// Restore the queue only after its consumer has noticed: RabbitMQ 3.10 takes a queue that is back at once for the
    /// same one, and delivers to a consumer that it has not notified.
    pub async fn delete_queue(&self, queue: &str) -> DeletedQueue {
        let url = format!("{}/queues/{}/{queue}", self.api, self.name);
        let get = async |url: String| -> Value {
            let answer = self.http.get(url).send().await;
            let answer = answer.and_then(reqwest::Response::error_for_status);
            let answer = answer.expect("the API answers");
            answer.json().await.expect("JSON")
        };
        let arguments = get(url.clone()).await["arguments"].clone();
        let bindings = get(format!("{url}/bindings")).await;
        let deleted = self.http.delete(&url).send().await;
        deleted
            .and_then(reqwest::Response::error_for_status)
            .expect("deleted");
        DeletedQueue {
            name: queue.to_owned(),
            arguments,
            bindings,
        }
    }

    /// Declares and binds a deleted queue again as it was, but empty.
    pub async fn restore_queue(&self, queue: DeletedQueue) {
        let DeletedQueue {
            name,
            arguments,
            bindings,
        } = queue;
        let url = format!("{}/queues/{}/{name}", self.api, self.name);
        let body = json!({ "durable": true, "auto_delete": false, "arguments": arguments });
        let declared = self.http.put(url).json(&body).send().await;
        declared
            .and_then(reqwest::Response::error_for_status)
            .expect("declared");
        for binding in bindings.as_array().into_iter().flatten() {
            // The default exchange binds every queue by itself.
            let Some(source) = binding["source"].as_str().filter(|name| !name.is_empty()) else {
                continue;
            };
            let url = format!("{}/bindings/{}/e/{source}/q/{name}", self.api, self.name);
            let body = json!({ "routing_key": binding["routing_key"] });
            let bound = self.http.post(url).json(&body).send().await;
            bound
                .and_then(reqwest::Response::error_for_status)
                .expect("bound");
        }
    }

    /// Closes every connection whose name contains `part`, as an operator would; returns the number that it closed. The
    /// broker knows of a new connection only after a moment.
    pub async fn close_connections(&self, part: &str) -> usize {
        let url = format!("{}/vhosts/{}/connections", self.api, self.name);
        let connections: Vec<Value> = self
            .http
            .get(url)
            .send()
            .await
            .expect("the API answers")
            .json()
            .await
            .expect("JSON");
        let mut closed = 0;
        for connection in connections {
            let provided = connection["user_provided_name"]
                .as_str()
                .unwrap_or_default();
            if provided.contains(part) {
                let name = connection["name"]
                    .as_str()
                    .expect("a connection has a name");
                let url = format!(
                    "{}/connections/{}",
                    self.api,
                    name.replace(' ', "%20").replace('>', "%3E")
                );
                let _ = self.http.delete(url).send().await;
                closed += 1;
            }
        }
        closed
    }

    /// Deletes the virtual host, with everything in it.
    pub async fn delete(&self) {
        self.left.is_deleted.store(true, Ordering::Relaxed);
        delete(&self.http, &self.left.url).await;
    }
}

/// Removes the queues of other services, and binds one that keeps nothing in their place.
fn keep_queues_of(service: &str, definitions: &mut Value) {
    let is_theirs = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        name.split_once('.')
            .is_none_or(|(owner, _)| owner != service)
    };
    let elsewhere = json!({
        "vhost": "",
        "name": ELSEWHERE,
        "durable": true,
        "auto_delete": false,
        "arguments": { "x-max-length": 0 },
    });
    let queues = definitions["queues"].as_array_mut().expect("queues");
    queues.retain(|queue| !is_theirs(&queue["name"]));
    assert!(!queues.is_empty(), "{service} has no queue");
    queues.push(elsewhere);
    let bindings = definitions["bindings"].as_array_mut().expect("bindings");
    for binding in bindings.iter_mut() {
        if is_theirs(&binding["destination"]) {
            binding["destination"] = json!(ELSEWHERE);
        }
    }
    let mut known = HashSet::new();
    bindings.retain(|binding| known.insert(binding.to_string()));
}
