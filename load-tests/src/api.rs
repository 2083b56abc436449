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

/// Where the services are. The variables are those of `target/stack/env`.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Services")]
pub struct Places {
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
    /// The orchestrator
    #[arg(long, env = "ORCHESTRATOR_URL")]
    pub orchestrator_url: String,
    /// The card processor
    #[arg(long, env = "CARD_PROCESSOR_URL")]
    pub card_processor_url: String,
}

/// Talks to the services, as whoever is asked for.
pub struct Api {
    places: Places,
    http: reqwest::Client,
    key: DevelopmentKey,
    /// A token per name, for as long as this lives.
    tokens: Mutex<HashMap<(String, Role), String>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It says that it cannot now, and when to come back.
    #[error("busy or away; come back after {0:?}")]
    Later(Duration),
    /// It says no.
    #[error("{status}: {body}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The problem.
        body: String,
    },
    /// Nobody answers.
    #[error("no answer: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// There is no token to show.
    #[error(transparent)]
    Token(#[from] chassis::identity::InvalidKey),
}

impl Retryable for ApiError {
    /// Every call here is safe to repeat: by its key, or by what it says.
    fn advice(&self) -> Advice {
        match self {
            Self::Later(after) => Advice::After(*after),
            Self::Unreachable(_) => Advice::Backoff,
            Self::Refused { .. } | Self::Token(_) => Advice::Never,
        }
    }
}

/// The state that an order has with a service that was never asked to do anything for it.
pub const UNHEARD_OF: &str = "unheard of";

/// Longest wait for an answer of [`insist`], and for an order that comes to rest: generous, for a machine that is busy with more
/// than this.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Asks until there is an answer, for as long as [`PATIENCE`], as a customer would: a service that is busy or away is asked
/// again, when it said or with backoff. `call` has to ask for the same thing each time.
pub async fn insist<T, F: Future<Output = Result<T, ApiError>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, GaveUp<ApiError>> {
    Retry::new(u32::MAX, Backoff::RECONNECT)
        .run(Deadline::after(PATIENCE), |_| call())
        .await
}

impl Api {
    /// An API at these places, with development tokens.
    pub fn new(places: Places) -> anyhow::Result<Self> {
        // An error means that there is a provider already: that is what we want.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let environment = std::env::var("ENVIRONMENT").unwrap_or_else(|_| "development".to_owned());
        Ok(Self {
            places,
            http: reqwest::Client::builder()
                .no_proxy()
                .connect_timeout(Duration::from_secs(2))
                .timeout(Duration::from_secs(15))
                // Sooner than the services hang up: else a request could meet the hanging up half way.
                .pool_idle_timeout(Duration::from_secs(3))
                .build()?,
            key: DevelopmentKey::load(&environment)?,
            tokens: Mutex::default(),
        })
    }

    /// Where the services are.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// A development token, the same for each name and role.
    pub fn token(&self, name: &str, role: Role) -> Result<String, ApiError> {
        let mut tokens = self
            .tokens
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(token) = tokens.get(&(name.to_owned(), role)) {
            return Ok(token.clone());
        }
        let principal = Principal {
            // Names are ours, and valid.
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

    /// Places an order.
    pub async fn place(&self, customer: &str, key: &str, order: &Value) -> Result<Value, ApiError> {
        let url = format!("{}/orders", self.places.order_url);
        self.call(
            Method::POST,
            url,
            (customer, Role::Customer),
            Some(key),
            Some(order),
        )
        .await
    }

    /// Where an order stands.
    pub async fn order(&self, id: OrderId) -> Result<Value, ApiError> {
        let url = format!("{}/orders/{id}", self.places.order_url);
        self.operator(Method::GET, url, None).await
    }

    /// Reads something of the order service, as a customer.
    pub async fn read_as(&self, customer: &str, path: &str) -> Result<Value, ApiError> {
        let url = format!("{}{path}", self.places.order_url);
        let reader = (customer, Role::Customer);
        self.call(Method::GET, url, reader, None, None).await
    }

    /// A page of the operator's list of orders: `path` says which.
    pub async fn orders<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let url = format!("{}{path}", self.places.order_url);
        self.operator(Method::GET, url, None).await
    }

    /// Everything that can be bought for euros, and is in stock in plenty.
    pub async fn skus(&self) -> Result<Vec<String>, ApiError> {
        let url = format!("{}/products?limit=200", self.places.inventory_url);
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

    /// Cancels an order.
    pub async fn cancel(&self, customer: &str, id: OrderId) -> Result<Value, ApiError> {
        let url = format!("{}/orders/{id}/cancel", self.places.order_url);
        self.call(Method::POST, url, (customer, Role::Customer), None, None)
            .await
    }

    /// The state of an order's payment.
    pub async fn payment_state(&self, id: OrderId) -> Result<String, ApiError> {
        state_in(self.payment(id).await)
    }

    /// The state of an order's goods.
    pub async fn stock_state(&self, id: OrderId) -> Result<String, ApiError> {
        state_in(self.reservation(id).await)
    }

    /// What payment knows of an order.
    pub async fn payment(&self, id: OrderId) -> Result<Value, ApiError> {
        self.operator(
            Method::GET,
            format!("{}/operator/payments/{id}", self.places.payment_url),
            None,
        )
        .await
    }

    /// What inventory knows of an order.
    pub async fn reservation(&self, id: OrderId) -> Result<Value, ApiError> {
        self.operator(
            Method::GET,
            format!("{}/operator/reservations/{id}", self.places.inventory_url),
            None,
        )
        .await
    }

    /// The mails about an order.
    pub async fn mails(&self, id: OrderId) -> Result<Vec<Value>, ApiError> {
        self.operator(
            Method::GET,
            format!("{}/operator/mails?order={id}", self.places.notification_url),
            None,
        )
        .await
    }

    /// Sagas, newest first; `query` says which: `?phase=stuck,broken`.
    pub async fn sagas(&self, query: &str) -> Result<Value, ApiError> {
        let url = format!("{}/operator/sagas{query}", self.places.orchestrator_url);
        self.operator(Method::GET, url, None).await
    }

    /// A saga with every step; `id` is its own, or its order's.
    pub async fn saga(&self, id: &str) -> Result<Value, ApiError> {
        let url = format!("{}/operator/sagas/{id}", self.places.orchestrator_url);
        self.operator(Method::GET, url, None).await
    }

    /// What an operator does to a stuck saga: `resume`, `skip` or `abandon`.
    pub async fn operate_saga(
        &self,
        id: &str,
        action: &str,
        note: &str,
    ) -> Result<Value, ApiError> {
        let url = format!(
            "{}/operator/sagas/{id}/{action}",
            self.places.orchestrator_url
        );
        self.operator(Method::POST, url, Some(&json!({ "note": note })))
            .await
    }

    /// What a service's `/metrics` say of a counter or gauge, all its labels together.
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

    /// Creates a product, and has units of it delivered, once.
    pub async fn stock(
        &self,
        sku: &str,
        name: &str,
        price: i64,
        currency: &str,
        units: i64,
    ) -> Result<(), ApiError> {
        let url = format!("{}/operator/products/{sku}", self.places.inventory_url);
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

    /// Pays money into a wallet, once.
    pub async fn fund(&self, customer: &str, amount: i64, currency: &str) -> Result<(), ApiError> {
        let url = format!(
            "{}/operator/wallets/{customer}/deposits",
            self.places.payment_url
        );
        let deposit = format!("seed {customer} {currency}");
        let body = json!({ "deposit": deposit, "amount_minor": amount, "currency": currency });
        let _: Value = self.operator(Method::POST, url, Some(&body)).await?;
        Ok(())
    }

    fn url(&self, service: &str, path: &str) -> String {
        let places = &self.places;
        let base = match service {
            "order" => &places.order_url,
            "payment" => &places.payment_url,
            "inventory" => &places.inventory_url,
            "notification" => &places.notification_url,
            "orchestrator" => &places.orchestrator_url,
            "card-processor" => &places.card_processor_url,
            _ => unreachable!("{service:?} is a service"),
        };
        format!("{base}{path}")
    }

    /// Reads something of a service, as an operator.
    pub async fn get<T: DeserializeOwned>(&self, service: &str, path: &str) -> Result<T, ApiError> {
        self.operator(Method::GET, self.url(service, path), None)
            .await
    }

    /// Changes something of a service, as an operator.
    pub async fn put(&self, service: &str, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.operator(Method::PUT, self.url(service, path), Some(body))
            .await
    }

    /// As [`Api::put`], of a process that is not among [`Api::places`].
    pub async fn put_at(&self, url: &str, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.operator(Method::PUT, format!("{url}{path}"), Some(body))
            .await
    }

    /// Has a service do something, as an operator.
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

/// The state in an answer; [`UNHEARD_OF`], if there is nothing that could have one.
fn state_in(answer: Result<Value, ApiError>) -> Result<String, ApiError> {
    match answer {
        Ok(answer) => Ok(answer["state"].as_str().unwrap_or_default().to_owned()),
        Err(ApiError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => {
            Ok(UNHEARD_OF.to_owned())
        }
        Err(error) => Err(error),
    }
}
