//! The card company.

use std::time::Duration;

use chassis::{
    client::{self, Client, TokenFile},
    events::idempotency_key,
};
use contracts::{
    payment::DeclineReason,
    value::{CardToken, Money, OrderId},
};
use holdfast::deadline::Deadline;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{commands::CardAnswer, config::CardSettings, domain::Input};

/// Asks the card company. An `Err` is no answer: not "declined", not "failed", but "nobody knows". The same question is
/// then asked again under the same key, for as long as it takes.
#[derive(Clone, Debug)]
pub(crate) struct CardCompany {
    client: Client,
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
        let client = Client::new(
            &settings.card_processor_url,
            TokenFile::new(&settings.service_token_file),
        )?;
        Ok(Self {
            client,
            timeout: Duration::from_millis(settings.card_timeout_ms),
        })
    }

    /// Takes the money. Safe to repeat: the key is the order's.
    pub(crate) async fn charge(
        &self,
        order: OrderId,
        token: &CardToken,
        amount: Money,
    ) -> Result<CardAnswer, client::Error> {
        let request = self
            .client
            .post("/charges")
            .header("Idempotency-Key", idempotency_key(order, "payment/do"))
            .json(&ChargeRequest {
                reference: order,
                token,
                amount,
            });
        let ChargeResponse { id, outcome } = self
            .client
            .send(request, Deadline::after(self.timeout))
            .await?;
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
    pub(crate) async fn refund(
        &self,
        order: OrderId,
        charge: Uuid,
    ) -> Result<CardAnswer, client::Error> {
        let request = self
            .client
            .post(&format!("/charges/{charge}/refund"))
            .header("Idempotency-Key", idempotency_key(order, "payment/undo"));
        let RefundResponse {} = self
            .client
            .send(request, Deadline::after(self.timeout))
            .await?;
        Ok(CardAnswer {
            input: Input::CardRefunded,
            charge_id: Some(charge),
        })
    }
}
