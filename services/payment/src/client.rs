//! The card company, and the locks under which it is asked.

mod accounts;

use std::time::Duration;

use chassis::{
    client::{self, Client, RequestBuilder, TokenFile},
    dependencies,
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

/// What the dependency is called in metrics, and by operators.
const NAME: &str = "card-processor";
/// Calls that see whether the card company is back.
const PROBES: u32 = 2;

/// Why there is no answer.
pub(crate) type Error = holdfast::pipeline::Error<client::Error>;

/// Asks the card company. An `Err` is no answer: not "declined", not "failed", but "nobody knows". The same question is
/// then asked again under the same key, for as long as it takes.
#[derive(Clone, Debug)]
pub(crate) struct CardCompany {
    client: Client,
    pipeline: Pipeline,
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
        // A company outside: if the way there is through a proxy, so be it.
        let client = Client::outside(
            "card-processor",
            &settings.card_processor_url,
            TokenFile::new(&settings.service_token_file),
        )?;
        Ok(Self {
            client,
            pipeline: pipeline(settings)?,
            timeout: Duration::from_millis(settings.card_timeout_ms),
        })
    }

    /// How the card company is asked.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Takes the money. Safe to repeat: the key is the order's.
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

    /// Gives it back. Safe to repeat: the key is the order's.
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

    /// Asks once: whoever claimed the work asks again, for as long as it takes.
    async fn ask<T: DeserializeOwned>(
        &self,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<T, Error> {
        let request = &request;
        let send =
            |attempt: Attempt| async move { self.client.send(request(), attempt.deadline).await };
        let answer = self.pipeline.run(Deadline::after(self.timeout), send).await;
        answer.map_err(|GaveUp { last, .. }| last)
    }
}

/// What stands between us and the card company.
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
        // Whoever finds no place asks again later: the work is written down.
        max_waiting: 0,
        max_wait: Duration::ZERO,
    };
    Ok(Pipeline::new(NAME)
        .breaker(CircuitBreaker::new(NAME, breaker)?)
        .bulkhead(Bulkhead::new(NAME, limits)?))
}
