//! Places the orders whose traces are checked, each in a trace that the customer's app begins.

use std::time::Duration;

use anyhow::{Context, bail};
use chassis::identity::{DevelopmentKey, Principal, Role};
use holdfast::backoff::pause;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Case;

/// The time within which an order must reach the awaited state.
const PATIENCE: Duration = Duration::from_secs(60);

/// The base URLs of the services, and a client to call them.
pub struct Orders {
    /// The base URL of the order service.
    pub order: String,
    /// The base URL of the payment service.
    pub payment: String,
    /// The base URL of the card processor.
    pub card_processor: String,
    /// The client for all requests.
    pub http: Client,
}

/// An order that is at rest.
#[derive(Debug)]
pub struct Placed {
    /// The kind of order.
    pub case: Case,
    /// The trace id, 32 hexadecimal digits.
    pub trace: String,
    /// The id of the span of the customer's app, which no service records.
    pub caller: String,
    /// The order service's last response.
    pub order: Value,
}

impl Orders {
    fn request(&self, method: Method, url: String, role: Role) -> anyhow::Result<RequestBuilder> {
        let name = match role {
            Role::Customer => "alice",
            _ => "olga",
        };
        let principal = Principal {
            id: name.parse().context("a valid name")?,
            role,
            email: format!("{name}@example.test").parse().ok(),
        };
        let token = DevelopmentKey::load("development")?.sign(
            &principal,
            "https://issuer.holdfast.example",
            "holdfast",
            Duration::from_secs(3600),
        )?;
        Ok(self.http.request(method, url).bearer_auth(token))
    }

    /// Places an order and waits until it is at rest. For [`Case::Retried`], the card processor fails until a charge
    /// has failed.
    pub async fn place(&self, case: Case) -> anyhow::Result<Placed> {
        let trace = Uuid::now_v7().simple().to_string();
        let caller = trace[16..].to_owned();
        let header = format!("00-{trace}-{caller}-01");
        let knobs = format!("{}/knobs", self.card_processor);
        let before = self.request(Method::GET, knobs.clone(), Role::Operator)?;
        let before = answer(before).await?;
        if case == Case::Retried {
            let mut broken = before.clone();
            broken["fail_before"] = json!(1.0);
            self.turn(&knobs, &broken).await?;
        }
        let placed = self.send(case, &header).await;
        let id = placed
            .as_ref()
            .ok()
            .and_then(|order| order["id"].as_str())
            .unwrap_or_default()
            .to_owned();
        if case == Case::Retried {
            let url = format!("{}/operator/payments/{id}", self.payment);
            let asked = match &placed {
                Ok(_) => {
                    self.wait(&url, Role::Operator, |payment| {
                        payment["last_error"].is_string()
                    })
                    .await
                }
                Err(_) => Ok(Value::Null),
            };
            // Restored even if the wait failed.
            self.turn(&knobs, &before).await?;
            asked.context("the first charge fails")?;
        }
        placed?;
        let url = format!("{}/orders/{id}", self.order);
        if case == Case::Refunded {
            self.wait(&url, Role::Customer, |order| order["state"] == "confirmed")
                .await?;
            let cancel = self
                .request(Method::POST, format!("{url}/cancel"), Role::Customer)?
                .header("traceparent", &header);
            answer(cancel).await.context("cancelling an order")?;
        }
        let order = self
            .wait(&url, Role::Customer, |order| {
                order["at_rest"] == true && order["state"] == case.state()
            })
            .await?;
        Ok(Placed {
            case,
            trace,
            caller,
            order,
        })
    }

    /// Sends an order, in the trace of `traceparent`.
    async fn send(&self, case: Case, traceparent: &str) -> anyhow::Result<Value> {
        let url = format!("{}/orders", self.order);
        let order = self
            .request(Method::POST, url, Role::Customer)?
            .header("Idempotency-Key", Uuid::now_v7().to_string())
            .header("traceparent", traceparent)
            .json(&case.order());
        answer(order).await.context("placing an order")
    }

    async fn turn(&self, knobs: &str, to: &Value) -> anyhow::Result<()> {
        let turn = self.request(Method::PUT, knobs.to_owned(), Role::Operator)?;
        answer(turn.json(to)).await?;
        Ok(())
    }

    async fn wait(
        &self,
        url: &str,
        role: Role,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let begun = std::time::Instant::now();
        loop {
            // A payment does not exist before its message is handled.
            let seen = match answer(self.request(Method::GET, url.to_owned(), role)?).await {
                Ok(seen) if wanted(&seen) => return Ok(seen),
                Ok(seen) => seen.to_string(),
                Err(error) => error.to_string(),
            };
            if begun.elapsed() > PATIENCE {
                bail!("{url}: not within {PATIENCE:?}; last seen: {seen}");
            }
            pause(Duration::from_millis(50)).await;
        }
    }
}

async fn answer(request: RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let (url, status) = (answer.url().clone(), answer.status());
    let body = answer.text().await?;
    if !status.is_success() {
        bail!("{url} answered {status}: {body}");
    }
    Ok(if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&body).with_context(|| format!("{url} answered {body}"))?
    })
}
