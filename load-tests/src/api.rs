//! The services' HTTP APIs, as a customer and an operator see them.

use std::{collections::HashMap, future::Future, sync::Mutex, time::Duration};

use chassis::identity::{DevelopmentKey, Principal, Role};
use contracts::value::OrderId;
use holdfast::{
    backoff::Backoff,
    deadline::Deadline,
    retry::{Advice, GaveUp, Retry, Retryable},
};
use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The addresses of the services. The variables are those of `target/stack/env`.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Services")]
pub struct ServiceUrls {
    /// The order service, as http://HOST:PORT
    #[arg(long, env = "ORDER_URL")]
    pub order_url: String,
    /// The payment service
    #[arg(long, env = "PAYMENT_URL")]
    pub payment_url: String,
    /// The inventory service
    #[arg(long, env = "INVENTORY_URL")]
    pub inventory_url: String,
    /// The notification service
    #[arg(long, env = "NOTIFICATION_URL")]
    pub notification_url: String,
    /// The orchestrator service
    #[arg(long, env = "ORCHESTRATOR_URL")]
    pub orchestrator_url: String,
    /// The card processor
    #[arg(long, env = "CARD_PROCESSOR_URL")]
    pub card_processor_url: String,
}

/// A client of the services, with a token for each name and role that a call is made as.
pub struct Api {
    urls: ServiceUrls,
    http: reqwest::Client,
    key: DevelopmentKey,
    /// A token per name and role, made once.
    tokens: Mutex<HashMap<(String, Role), String>>,
}

/// A call that got no useful response.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The service answered 503; `Retry-After` says when to come back, or a second later if it
    /// is missing.
    #[error("busy or unavailable; come back after {0:?}")]
    Later(Duration),
    /// The service answered with an error, or with a body that is not what was asked for. Another attempt will not
    /// help.
    #[error("{status}: {body}")]
    Refused {
        /// The status code of the response.
        status: StatusCode,
        /// The response's body, a problem document.
        body: String,
    },
    /// The request could not be sent, or no response arrived in time.
    #[error("no answer: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// The development key cannot sign a token.
    #[error(transparent)]
    Token(#[from] chassis::identity::InvalidKey),
}

impl Retryable for ApiError {
    /// Every call here is safe to repeat: it carries an idempotency key, or sets a state that it names.
    fn advice(&self) -> Advice {
        match self {
            Self::Later(after) => Advice::After(*after),
            Self::Unreachable(_) => Advice::Backoff,
            Self::Refused { .. } | Self::Token(_) => Advice::Never,
        }
    }
}

/// The state shown for an order at a service that has no row for it.
pub const UNHEARD_OF: &str = "unheard of";

/// The longest time for which [`insist`] repeats a call, and for which a caller waits until an order is at rest:
/// generous, for a machine that is busy with more than this.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Repeats a call until it succeeds or is refused, for at most [`PATIENCE`], as a patient customer would: after the
/// delay that the service names, or with backoff. `call` must make the same request each time.
pub async fn insist<T, F: Future<Output = Result<T, ApiError>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, GaveUp<ApiError>> {
    Retry::new(u32::MAX, Backoff::RECONNECT)
        .run(Deadline::after(PATIENCE), |_| call())
        .await
}

impl Api {
    /// Returns a client of these services, with development tokens.
    pub fn new(urls: ServiceUrls) -> anyhow::Result<Self> {
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let environment = std::env::var("ENVIRONMENT").unwrap_or_else(|_| "development".to_owned());
        Ok(Self {
            urls,
            http: reqwest::Client::builder()
                .no_proxy()
                .connect_timeout(Duration::from_secs(2))
                .timeout(Duration::from_secs(15))
                // Less than the services' own timeout: a request must not meet a connection that is being closed.
                .pool_idle_timeout(Duration::from_secs(3))
                .build()?,
            key: DevelopmentKey::load(&environment)?,
            tokens: Mutex::default(),
        })
    }

    /// Returns the addresses of the services.
    pub fn urls(&self) -> &ServiceUrls {
        &self.urls
    }

    /// Returns a development token for this name and role, the same one each time.
    pub fn token(&self, name: &str, role: Role) -> Result<String, ApiError> {
        let mut tokens = self
            .tokens
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(token) = tokens.get(&(name.to_owned(), role)) {
            return Ok(token.clone());
        }
        let principal = Principal {
            // All names are chosen in this crate, and valid.
            id: name
                .parse()
                .unwrap_or_else(|_| unreachable!("{name:?} is a valid customer id")),
            role,
            email: format!("{name}@example.test").parse().ok(),
        };
        let lifetime = Duration::from_secs(7 * 24 * 3600);
        let token = self.key.sign(
            &principal,
            "https://issuer.holdfast.example",
            "holdfast",
            lifetime,
        )?;
        tokens.insert((name.to_owned(), role), token.clone());
        Ok(token)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        url: String,
        (name, role): (&str, Role),
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<T, ApiError> {
        let mut request = self
            .http
            .request(method, url)
            .bearer_auth(self.token(name, role)?);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let after = response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|after| after.to_str().ok()?.parse().ok());
            return Err(ApiError::Later(Duration::from_secs(after.unwrap_or(1))));
        }
        let body = response.text().await?;
        if !status.is_success() {
            return Err(ApiError::Refused { status, body });
        }
        let body = if body.is_empty() { "null" } else { &body };
        serde_json::from_str(body).map_err(|error| ApiError::Refused {
            status,
            body: format!("{error}: {body}"),
        })
    }

    /// Places an order under this idempotency key.
    pub async fn place(&self, customer: &str, key: &str, order: &Value) -> Result<Value, ApiError> {
        let url = format!("{}/orders", self.urls.order_url);
        self.call(
            Method::POST,
            url,
            (customer, Role::Customer),
            Some(key),
            Some(order),
        )
        .await
    }

    /// Returns an order as an operator sees it.
    pub async fn order(&self, id: OrderId) -> Result<Value, ApiError> {
        let url = format!("{}/orders/{id}", self.urls.order_url);
        self.operator(Method::GET, url, None).await
    }

    /// Reads a path of the order service, as a customer.
    pub async fn read_as(&self, customer: &str, path: &str) -> Result<Value, ApiError> {
        let url = format!("{}{path}", self.urls.order_url);
        let reader = (customer, Role::Customer);
        self.call(Method::GET, url, reader, None, None).await
    }

    /// Returns a page of the operator's list of orders; `path` carries the query.
    pub async fn orders<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let url = format!("{}{path}", self.urls.order_url);
        self.operator(Method::GET, url, None).await
    }

    /// Returns the products that are priced in euros and have more than 1000 units available.
    pub async fn skus(&self) -> Result<Vec<String>, ApiError> {
        let url = format!("{}/products?limit=200", self.urls.inventory_url);
        let page: Value = self.operator(Method::GET, url, None).await?;
        let products = page["products"].as_array().cloned().unwrap_or_default();
        let plenty = |product: &&Value| {
            product["unit_price"]["currency"] == "EUR"
                && product["available"].as_i64().unwrap_or(0) > 1000
        };
        Ok(products
            .iter()
            .filter(plenty)
            .filter_map(|product| Some(product["sku"].as_str()?.to_owned()))
            .collect())
    }

    /// Cancels an order, as its customer.
    pub async fn cancel(&self, customer: &str, id: OrderId) -> Result<Value, ApiError> {
        let url = format!("{}/orders/{id}/cancel", self.urls.order_url);
        self.call(Method::POST, url, (customer, Role::Customer), None, None)
            .await
    }

    /// Returns the state of an order's payment, or [`UNHEARD_OF`].
    pub async fn payment_state(&self, id: OrderId) -> Result<String, ApiError> {
        state_in(self.payment(id).await)
    }

    /// Returns the state of an order's reservation, or [`UNHEARD_OF`].
    pub async fn stock_state(&self, id: OrderId) -> Result<String, ApiError> {
        state_in(self.reservation(id).await)
    }

    /// Returns an order's payment.
    pub async fn payment(&self, id: OrderId) -> Result<Value, ApiError> {
        self.operator(
            Method::GET,
            format!("{}/operator/payments/{id}", self.urls.payment_url),
            None,
        )
        .await
    }

    /// Returns an order's reservation.
    pub async fn reservation(&self, id: OrderId) -> Result<Value, ApiError> {
        self.operator(
            Method::GET,
            format!("{}/operator/reservations/{id}", self.urls.inventory_url),
            None,
        )
        .await
    }

    /// Returns the mails about an order.
    pub async fn mails(&self, id: OrderId) -> Result<Vec<Value>, ApiError> {
        self.operator(
            Method::GET,
            format!("{}/operator/mails?order={id}", self.urls.notification_url),
            None,
        )
        .await
    }

    /// Returns a page of sagas, newest first; `query` filters them: `?phase=stuck,broken`.
    pub async fn sagas(&self, query: &str) -> Result<Value, ApiError> {
        let url = format!("{}/operator/sagas{query}", self.urls.orchestrator_url);
        self.operator(Method::GET, url, None).await
    }

    /// Returns a saga with every step; `id` is its own, or its order's.
    pub async fn saga(&self, id: &str) -> Result<Value, ApiError> {
        let url = format!("{}/operator/sagas/{id}", self.urls.orchestrator_url);
        self.operator(Method::GET, url, None).await
    }

    /// Takes an operator action on a stuck saga: `resume`, `skip` or `abandon`.
    pub async fn operate_saga(
        &self,
        id: &str,
        action: &str,
        note: &str,
    ) -> Result<Value, ApiError> {
        let url = format!(
            "{}/operator/sagas/{id}/{action}",
            self.urls.orchestrator_url
        );
        self.operator(Method::POST, url, Some(&json!({ "note": note })))
            .await
    }

    /// Returns the value of a counter or gauge from a service's `/metrics`, summed over its labels; 0 if there is none.
    pub async fn metric(&self, service_url: &str, name: &str) -> Result<f64, ApiError> {
        let text = self
            .http
            .get(format!("{service_url}/metrics"))
            .send()
            .await?
            .text()
            .await?;
        let of_name = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        };
        Ok(text
            .lines()
            .filter(of_name)
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Creates a product and books one delivery of units for it. Safe to repeat.
    pub async fn stock(
        &self,
        sku: &str,
        name: &str,
        price: i64,
        currency: &str,
        units: i64,
    ) -> Result<(), ApiError> {
        let url = format!("{}/operator/products/{sku}", self.urls.inventory_url);
        let product = json!({ "name": name, "price_minor": price, "currency": currency });
        let _: Value = self
            .operator(Method::PUT, url.clone(), Some(&product))
            .await?;
        if units > 0 {
            let delivery = json!({ "delivery": format!("seed {sku}"), "quantity": units });
            let _: Value = self
                .operator(Method::POST, format!("{url}/deliveries"), Some(&delivery))
                .await?;
        }
        Ok(())
    }

    /// Pays money into a wallet. A repetition with the same customer and currency changes nothing.
    pub async fn fund(&self, customer: &str, amount: i64, currency: &str) -> Result<(), ApiError> {
        let url = format!(
            "{}/operator/wallets/{customer}/deposits",
            self.urls.payment_url
        );
        let deposit = format!("seed {customer} {currency}");
        let body = json!({ "deposit": deposit, "amount_minor": amount, "currency": currency });
        let _: Value = self.operator(Method::POST, url, Some(&body)).await?;
        Ok(())
    }

    fn url(&self, service: &str, path: &str) -> String {
        let urls = &self.urls;
        let base = match service {
            "order" => &urls.order_url,
            "payment" => &urls.payment_url,
            "inventory" => &urls.inventory_url,
            "notification" => &urls.notification_url,
            "orchestrator" => &urls.orchestrator_url,
            "card-processor" => &urls.card_processor_url,
            _ => unreachable!("{service:?} is a service"),
        };
        format!("{base}{path}")
    }

    /// Reads a path of a service, as an operator.
    pub async fn get<T: DeserializeOwned>(&self, service: &str, path: &str) -> Result<T, ApiError> {
        self.operator(Method::GET, self.url(service, path), None)
            .await
    }

    /// Sends a `PUT` to a service, as an operator.
    pub async fn put(&self, service: &str, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.operator(Method::PUT, self.url(service, path), Some(body))
            .await
    }

    /// Sends a `PUT` to a process that is not among [`Api::urls`], as an operator.
    pub async fn put_at(&self, url: &str, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.operator(Method::PUT, format!("{url}{path}"), Some(body))
            .await
    }

    /// Sends a `POST` to a service, as an operator.
    pub async fn post(&self, service: &str, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.operator(Method::POST, self.url(service, path), Some(body))
            .await
    }

    async fn operator<T: DeserializeOwned>(
        &self,
        method: Method,
        url: String,
        body: Option<&Value>,
    ) -> Result<T, ApiError> {
        self.call(method, url, ("traffic", Role::Operator), None, body)
            .await
    }
}

/// Returns the state in a response, or [`UNHEARD_OF`] if the service answered 404.
fn state_in(answer: Result<Value, ApiError>) -> Result<String, ApiError> {
    match answer {
        Ok(answer) => Ok(answer["state"].as_str().unwrap_or_default().to_owned()),
        Err(ApiError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => {
            Ok(UNHEARD_OF.to_owned())
        }
        Err(error) => Err(error),
    }
}
