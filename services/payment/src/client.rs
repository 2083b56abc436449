//! The card processor, and the locks under which it is called.

mod accounts;

use std::time::Duration;

use chassis::{
    client::{self, Client, RequestBuilder, TokenFile},
    dependencies::{self, Dependency},
    events::idempotency_key,
};
use contracts::{
    payment::DeclineReason,
    value::{CardToken, Money, OrderId},
};
use holdfast::{
    bulkhead::{Bulkhead, Limits},
    circuit_breaker::{CircuitBreaker, Config, HalfOpen, Policy, Window},
    deadline::Deadline,
    pipeline::{Attempt, Pipeline},
    retry::GaveUp,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

pub(crate) use accounts::Accounts;

use crate::{commands::CardAnswer, config::CardSettings, domain::Input};

/// The dependency's name in metrics and in the operators' API.
const NAME: &str = "card-processor";
/// The number of probes that a half-open breaker permits; all of them must succeed for it to close.
const PROBES: u32 = 2;

/// The reason that a call has no definite answer.
pub(crate) type Error = holdfast::pipeline::Error<client::Error>;

/// The client of the card processor. An `Err` means "unknown", never "declined": the money may have moved. The caller
/// resends the call under the same idempotency key until there is a definite answer.
#[derive(Clone, Debug)]
pub(crate) struct CardCompany {
    client: Client,
    dependency: Dependency,
    timeout: Duration,
}

#[derive(Serialize)]
struct ChargeRequest<'a> {
    reference: OrderId,
    token: &'a CardToken,
    amount: Money,
}

#[derive(Deserialize)]
struct ChargeResponse {
    id: Uuid,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Outcome {
    Captured,
    Declined { reason: DeclineReason },
}

#[derive(Deserialize)]
struct RefundResponse {}

impl CardCompany {
    pub(crate) fn new(settings: &CardSettings) -> anyhow::Result<Self> {
        // The card processor is outside of the cluster, so the proxy settings of the environment apply.
        let client = Client::outside(
            "card-processor",
            &settings.card_processor_url,
            TokenFile::new(&settings.service_token_file),
        )?;
        Ok(Self {
            client,
            dependency: Dependency::new(pipeline(settings)?),
            timeout: Duration::from_millis(settings.card_timeout_ms),
        })
    }

    /// Returns the dependency that every call goes to.
    pub(crate) fn dependency(&self) -> &Dependency {
        &self.dependency
    }

    /// Charges a card. Safe to repeat: the idempotency key is the order's.
    pub(crate) async fn charge(
        &self,
        order: OrderId,
        token: &CardToken,
        amount: Money,
    ) -> Result<CardAnswer, Error> {
        let request = || {
            self.client
                .post("/charges")
                .header("Idempotency-Key", idempotency_key(order, "payment/do"))
                .json(&ChargeRequest {
                    reference: order,
                    token,
                    amount,
                })
        };
        let ChargeResponse { id, outcome } = self.ask(request).await?;
        Ok(match outcome {
            Outcome::Captured => CardAnswer {
                input: Input::CardCaptured,
                charge_id: Some(id),
            },
            Outcome::Declined { reason } => CardAnswer {
                input: Input::CardDeclined(reason),
                charge_id: Some(id),
            },
        })
    }

    /// Refunds a charge. Safe to repeat: the idempotency key is the order's.
    pub(crate) async fn refund(&self, order: OrderId, charge: Uuid) -> Result<CardAnswer, Error> {
        let request = || {
            self.client
                .post(&format!("/charges/{charge}/refund"))
                .header("Idempotency-Key", idempotency_key(order, "payment/undo"))
        };
        let RefundResponse {} = self.ask(request).await?;
        Ok(CardAnswer {
            input: Input::CardRefunded,
            charge_id: Some(charge),
        })
    }

    /// Makes one attempt, within the timeout. It does not retry: the worker that claimed the payment does.
    async fn ask<T: DeserializeOwned>(
        &self,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<T, Error> {
        let request = &request;
        let send =
            |attempt: Attempt| async move { self.client.send(request(), attempt.deadline).await };
        let answer = self
            .dependency
            .run(Deadline::after(self.timeout), send)
            .await;
        answer.map_err(|GaveUp { last, .. }| last)
    }
}

/// Builds the circuit breaker and the bulkhead before the card processor.
fn pipeline(settings: &CardSettings) -> anyhow::Result<Pipeline> {
    let policy = Policy::Rate {
        window: Window::Time(Duration::from_secs(10)),
        minimum_calls: 5,
        failure_rate: 0.5,
        slow_call_rate: None,
    };
    let open_for = Duration::from_millis(settings.card_breaker_open_ms);
    let breaker = Config {
        half_open: HalfOpen {
            permitted_calls: PROBES,
            successes_to_close: PROBES,
            maximum_wait: Duration::from_millis(settings.card_timeout_ms) * 2,
        },
        ..dependencies::breaker(policy, open_for)
    };
    let limits = Limits {
        max_concurrent: settings.card_concurrency.into(),
        // A call without a permit does not wait: the intent is stored, and the worker claims it again later.
        max_waiting: 0,
        max_wait: Duration::ZERO,
    };
    Ok(Pipeline::new(NAME)
        .breaker(CircuitBreaker::new(NAME, breaker)?)
        .bulkhead(Bulkhead::new(NAME, limits)?))
}
