//! The client of the services. Each call carries the room's own token (an operator's), a customer's or the visitor's.

mod books;
mod call;

use std::{collections::BTreeSet, time::Duration};

pub(crate) use books::{Auditor, Invariants};
pub(crate) use call::{Call, RawResponse, Verb};

use chassis::{
    client::{TokenFile, retry_after, traced},
    identity::{DevelopmentKey, Principal, Role},
    settings::IdentitySettings,
};
use contracts::value::CustomerId;
use holdfast::deadline::Deadline;
use load_tests::api::ServiceUrls;
use reqwest::{Method, Response, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    commands::SHOWN,
    config::RoomSettings,
    domain::{Entry, View},
    error::Error,
};

/// The services, in the order in which the page shows them.
pub(crate) const SERVICES: [&str; 6] = [
    "order",
    "payment",
    "inventory",
    "notification",
    "orchestrator",
    "card-processor",
];
/// The services that handle messages.
pub(crate) const WITH_MESSAGES: [&str; 5] = [
    "order",
    "payment",
    "inventory",
    "notification",
    "orchestrator",
];

/// The path of the orchestrator's list of sagas that wait for an operator, at most 200.
pub(crate) const STUCK_SAGAS: &str = "/operator/sagas?phase=stuck,broken&limit=200";

/// The time limit of a call that the room makes by itself. A visitor's call has the deadline of the visitor's request.
const CALL: Duration = Duration::from_secs(3);
/// The lifetime of a token that the room signs. Each call gets a new one.
const TOKEN: Duration = Duration::from_secs(300);

/// The source of the room's tokens.
enum Tokens {
    /// In demo mode: the room signs them itself, with the development key, which is public.
    Development {
        key: DevelopmentKey,
        identity: Box<IdentitySettings>,
    },
    /// Without demo mode: a file with an operator's token, which is read again for each call.
    File(TokenFile),
}

/// A client of the services, with the room's own tokens.
pub(crate) struct Services {
    http: reqwest::Client,
    urls: ServiceUrls,
    tokens: Tokens,
}

#[derive(Deserialize)]
struct Page {
    orders: Vec<View>,
}

#[derive(Deserialize)]
struct SagaPage {
    sagas: Vec<Saga>,
}

#[derive(Deserialize)]
struct Saga {
    order_id: Uuid,
}

/// The queues and failpoints by which a service can be broken, and the queues that are paused.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct FaultTargets {
    pub(crate) queues: Vec<String>,
    pub(crate) paused: Vec<String>,
    pub(crate) failpoints: Vec<String>,
    pub(crate) failpoints_compiled_in: bool,
}

impl Services {
    pub(crate) fn new(
        urls: ServiceUrls,
        identity: &IdentitySettings,
        demo: bool,
        settings: &RoomSettings,
    ) -> anyhow::Result<Self> {
        let tokens = if demo {
            Tokens::Development {
                key: DevelopmentKey::load(&identity.environment)?,
                identity: Box::new(identity.clone()),
            }
        } else {
            let file = settings.operator_token_file.as_ref();
            let file = file.ok_or_else(|| {
                anyhow::anyhow!("the room needs OPERATOR_TOKEN_FILE, unless DEMO_MODE is true")
            })?;
            Tokens::File(TokenFile::new(file))
        };
        let http = reqwest::Client::builder()
            // The services are on the same network, which a proxy for the internet may not reach.
            .no_proxy()
            .connect_timeout(Duration::from_secs(1))
            // Less than the services' own timeout: a request must not meet a connection that is being closed.
            .pool_idle_timeout(Duration::from_secs(3))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, urls, tokens })
    }

    fn place(&self, service: &str) -> Result<(&'static str, &str), Error> {
        let urls = [
            &self.urls.order_url,
            &self.urls.payment_url,
            &self.urls.inventory_url,
            &self.urls.notification_url,
            &self.urls.orchestrator_url,
            &self.urls.card_processor_url,
        ];
        SERVICES
            .into_iter()
            .zip(urls)
            .find(|(name, _)| *name == service)
            .map(|(name, url)| (name, url.trim_end_matches('/')))
            .ok_or_else(|| Error::NoService(service.to_owned()))
    }

    /// Returns the room's own token, which is an operator's. Fails with [`Error::Token`].
    pub(crate) async fn own_token(&self) -> Result<String, Error> {
        match &self.tokens {
            Tokens::File(file) => file
                .read()
                .await
                .map_err(|error| Error::Token(error.to_string())),
            Tokens::Development { .. } => {
                let name = "control-room"
                    .parse()
                    .map_err(|_| Error::Token("the room's name is not a valid id".into()))?;
                self.sign(name, Role::Operator)
            }
        }
    }

    /// Returns a token for a customer. Fails with [`Error::Token`] without demo mode.
    pub(crate) fn customer_token(&self, customer: CustomerId) -> Result<String, Error> {
        self.sign(customer, Role::Customer)
    }

    fn sign(&self, id: CustomerId, role: Role) -> Result<String, Error> {
        let Tokens::Development { key, identity } = &self.tokens else {
            return Err(Error::Token("only demo mode signs tokens".into()));
        };
        let email = format!("{id}@example.test").parse().ok();
        let principal = Principal { id, role, email };
        let (issuer, audience) = (&identity.token_issuer, &identity.token_audience);
        key.sign(&principal, issuer, audience, TOKEN)
            .map_err(|error| Error::Token(error.to_string()))
    }

    async fn send(
        &self,
        service: &str,
        call: Call<'_>,
        deadline: Deadline,
    ) -> Result<(&'static str, Response), Error> {
        let (service, base) = self.place(service)?;
        let away = |why: String| Error::Away { service, why };
        let method = match call.verb {
            Verb::Get => Method::GET,
            Verb::Put => Method::PUT,
            Verb::Post => Method::POST,
        };
        let mut request = self
            .http
            .request(method, format!("{base}{}", call.path))
            .bearer_auth(call.token);
        if let Ok(left) = deadline.header_value() {
            request = request.header(holdfast::deadline::HEADER, left);
        }
        if let Some(key) = call.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = call.body {
            request = request.json(body);
        }
        let response = deadline.run(traced(request).send()).await;
        let response = response.map_err(|late| away(late.to_string()))?;
        Ok((service, response.map_err(|error| away(error.to_string()))?))
    }

    /// Sends a request, and returns the response, whatever its status. Fails with [`Error::Away`] if none arrives by
    /// `deadline`: the service may have carried out the request all the same.
    pub(crate) async fn pass(
        &self,
        service: &str,
        call: Call<'_>,
        deadline: Deadline,
    ) -> Result<RawResponse, Error> {
        let (service, response) = self.send(service, call, deadline).await?;
        let text = |name: header::HeaderName| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let content_type = text(header::CONTENT_TYPE);
        let retry_after = retry_after(response.headers());
        let status = response.status().as_u16();
        let away = |why: String| Error::Away { service, why };
        let body = deadline.run(response.bytes()).await;
        let body = body.map_err(|late| away(late.to_string()))?;
        let body = body.map_err(|error| away(error.to_string()))?.to_vec();
        Ok(RawResponse {
            status,
            content_type,
            retry_after,
            body,
        })
    }

    /// Sends a request that must succeed, and parses the response's body. A status other than 2xx is an error.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        service: &str,
        call: Call<'_>,
        deadline: Deadline,
    ) -> Result<T, Error> {
        let (name, _) = self.place(service)?;
        let answer = self.pass(service, call, deadline).await?;
        let unexpected = |body: String| Error::Unexpected {
            service: name,
            status: answer.status,
            body,
        };
        if !(200..300).contains(&answer.status) {
            let RawResponse {
                status,
                retry_after,
                body,
                ..
            } = &answer;
            return Err(Error::refused(name, *status, *retry_after, body));
        }
        let body = &answer.body;
        let body = if body.is_empty() { b"null" } else { &body[..] };
        serde_json::from_slice(body).map_err(|error| unexpected(error.to_string()))
    }

    /// Reads a path of a service under the room's own token, within [`CALL`].
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        service: &str,
        path: &str,
    ) -> Result<T, Error> {
        let token = self.own_token().await?;
        let call = Call::new(Verb::Get, path, &token);
        self.ask(service, call, Deadline::after(CALL)).await
    }

    /// Returns the newest orders, at most [`SHOWN`].
    pub(crate) async fn newest_orders(&self) -> Result<Vec<View>, Error> {
        let path = format!("/operator/orders?stuck=false&limit={SHOWN}");
        let page: Page = self.read("order", &path).await?;
        Ok(page.orders)
    }

    /// Returns the ids of the orders that wait for an operator, at most 200.
    pub(crate) async fn stuck_orders(&self) -> Result<BTreeSet<Uuid>, Error> {
        let page: Page = self
            .read("order", "/operator/orders?stuck=true&limit=200")
            .await?;
        Ok(page.orders.iter().map(|order| order.id).collect())
    }

    /// Returns the order of each saga that waits for an operator, at most 200.
    pub(crate) async fn stuck_sagas(&self) -> Result<Vec<Uuid>, Error> {
        let page: SagaPage = self.read("orchestrator", STUCK_SAGAS).await?;
        Ok(page.sagas.iter().map(|saga| saga.order_id).collect())
    }

    /// Returns an order.
    pub(crate) async fn order(&self, id: Uuid) -> Result<View, Error> {
        self.read("order", &format!("/orders/{id}")).await
    }

    /// Returns an order's timeline.
    pub(crate) async fn timeline(&self, id: Uuid) -> Result<Vec<Entry>, Error> {
        self.read("order", &format!("/orders/{id}/timeline")).await
    }

    /// Returns the queues and failpoints by which a service can be broken. The route exists only in demo mode.
    pub(crate) async fn fault_targets(&self, service: &str) -> Result<FaultTargets, Error> {
        self.read(service, "/demo").await
    }

    /// Returns true if a service is ready, with the state of each of its checks. A service that does not answer has one
    /// check: its `process` is down.
    pub(crate) async fn readiness(&self, service: &str) -> (bool, Value) {
        let call = Call::new(Verb::Get, "/health/ready", "none");
        match self.pass(service, call, Deadline::after(CALL)).await {
            Ok(answer) => {
                let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                (answer.status == 200, body["checks"].clone())
            }
            Err(_) => (false, json!({ "process": "down" })),
        }
    }
}
