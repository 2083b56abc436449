//! Webhooks: their payload, and the consequence of each answer. No I/O.

use std::time::Duration;

use contracts::{
    order::CancelReason,
    value::{CustomerId, Money, OrderId},
};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Charge, News, What};

/// The types of webhooks, in the sequence in which an order may go through them.
pub(crate) const TYPES: [&str; 2] = ["order.confirmed", "order.cancelled"];

/// The most characters that are kept of a reply: an error about a certificate can be long.
const LONGEST_REPLY: usize = 500;

/// The longest wait that a `Retry-After` can ask for. A longer one is taken for a mistake, and cut to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The body of a webhook, in the shape that the specification recommends.
#[derive(Debug, Serialize)]
pub(crate) struct Payload<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The time of the event, not of the attempt.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    order_id: OrderId,
    /// The version of the order: of two webhooks about it, the one with the higher version is newer.
    order_version: u32,
    customer_id: &'a CustomerId,
    amount: Money,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<CancelReason>,
    /// The outcome for the money of an order that was undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<&'static str>,
}

impl<'a> Payload<'a> {
    pub(crate) fn new(news: &'a News, timestamp: OffsetDateTime) -> Self {
        let (reason, payment) = match news.what {
            What::Confirmed => (None, None),
            What::Cancelled { reason, charge } => {
                let payment = match charge {
                    Charge::None => "nothing_to_undo",
                    Charge::Refunded => "refunded",
                    Charge::Settled => "settled",
                };
                (Some(reason), Some(payment))
            }
        };
        Self {
            kind: news.what.kind(),
            timestamp,
            data: Data {
                order_id: news.order_id,
                order_version: news.order_version,
                customer_id: &news.customer.id,
                amount: news.amount,
                reason,
                payment,
            },
        }
    }
}

/// Returns the `webhook-id` of an order's end: the same for every attempt and every endpoint, for ever.
pub(crate) fn message_id(order: OrderId, kind: &str) -> Uuid {
    Uuid::new_v5(&order.0, kind.as_bytes())
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The receiver answered with a status.
    Status {
        code: u16,
        /// The wait that the receiver asked for.
        retry_after: Option<Duration>,
    },
    /// The receiver did not answer in time.
    Silent,
    /// The receiver could not be reached, for this reason.
    Unreachable(String),
    /// Nothing may be sent to this host, for this reason; nothing was sent.
    Forbidden(String),
}

impl Answer {
    /// Returns the wait that the receiver asked for, at most [`LONGEST_RETRY_AFTER`].
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => {
                retry_after.map(|after| after.min(LONGEST_RETRY_AFTER))
            }
            Self::Silent | Self::Unreachable(_) | Self::Forbidden(_) => None,
        }
    }

    /// Returns the text by which the answer is stored, at most [`LONGEST_REPLY`] characters.
    pub(crate) fn in_words(&self) -> String {
        self.to_string().chars().take(LONGEST_REPLY).collect()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status {
                code,
                retry_after: None,
            } => write!(f, "answered {code}"),
            Self::Status {
                code,
                retry_after: Some(after),
            } => write!(f, "answered {code}, Retry-After {} s", after.as_secs()),
            Self::Silent => f.write_str("no answer in time"),
            Self::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Self::Forbidden(why) => write!(f, "not sent: {why}"),
        }
    }
}

/// The consequence of an answer for its webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The receiver has the webhook.
    Delivered,
    /// The receiver wants no more webhooks: the endpoint is to be disabled.
    Gone,
    /// The webhook is to be tried again after this wait.
    Retry(Duration),
    /// The webhook has been tried for too long, and has failed.
    GaveUp,
}

impl Verdict {
    /// Returns the name by which the verdict is stored and counted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Retry(_) => "retried",
            Self::GaveUp => "given_up",
        }
    }
}

/// Decides what follows from an answer. Only a 2xx is a delivery, as in the specification: a redirect is none, and any
/// 4xx but 410 may come from a receiver that is being repaired. `backoff` is the shortest wait before the next attempt;
/// `age` is the time for which the webhook has been tried, and `give_up` the time after which it has failed.
pub(crate) fn judge(
    answer: &Answer,
    backoff: Duration,
    age: Duration,
    give_up: Duration,
) -> Verdict {
    match answer {
        Answer::Status {
            code: 200..=299, ..
        } => Verdict::Delivered,
        Answer::Status { code: 410, .. } => Verdict::Gone,
        _ if age >= give_up => Verdict::GaveUp,
        _ => Verdict::Retry(
            answer
                .retry_after()
                .map_or(backoff, |after| after.max(backoff)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn status(code: u16, retry_after: Option<u64>) -> Answer {
        Answer::Status {
            code,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn each_answer_has_one_verdict_by_age() {
        let wait = Duration::from_secs(7);
        let judge = |answer: &Answer, age| judge(answer, wait, age, HOUR);
        for (answer, young, old) in [
            (status(200, None), Verdict::Delivered, Verdict::Delivered),
            (status(299, None), Verdict::Delivered, Verdict::Delivered),
            (status(410, None), Verdict::Gone, Verdict::Gone),
            (status(301, None), Verdict::Retry(wait), Verdict::GaveUp),
            (status(404, None), Verdict::Retry(wait), Verdict::GaveUp),
            (status(500, None), Verdict::Retry(wait), Verdict::GaveUp),
            (
                status(429, Some(3600)),
                Verdict::Retry(HOUR),
                Verdict::GaveUp,
            ),
            // A `Retry-After` below the backoff, and one above the longest.
            (status(503, Some(1)), Verdict::Retry(wait), Verdict::GaveUp),
            (
                status(503, Some(1 << 40)),
                Verdict::Retry(LONGEST_RETRY_AFTER),
                Verdict::GaveUp,
            ),
            (Answer::Silent, Verdict::Retry(wait), Verdict::GaveUp),
            (
                Answer::Unreachable(String::new()),
                Verdict::Retry(wait),
                Verdict::GaveUp,
            ),
            (
                Answer::Forbidden(String::new()),
                Verdict::Retry(wait),
                Verdict::GaveUp,
            ),
        ] {
            assert_eq!(judge(&answer, Duration::ZERO), young, "{answer}");
            assert_eq!(judge(&answer, HOUR), old, "{answer}");
        }
    }

    #[test]
    fn stored_reply_is_bounded_in_characters() {
        let answer = Answer::Unreachable("ü".repeat(4096));
        assert_eq!(answer.in_words().chars().count(), LONGEST_REPLY);
        assert_eq!(status(204, None).in_words(), "answered 204");
    }

    #[test]
    fn webhook_id_is_fixed_by_order_and_kind() {
        let (one, other) = (OrderId::new(), OrderId::new());
        let [confirmed, cancelled] = TYPES;
        assert_eq!(message_id(one, confirmed), message_id(one, confirmed));
        assert_ne!(message_id(one, confirmed), message_id(one, cancelled));
        assert_ne!(message_id(one, confirmed), message_id(other, confirmed));
    }
}
