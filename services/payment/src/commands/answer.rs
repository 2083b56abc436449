//! The messages that answer events and commands.

use chassis::events::{Answering, Publishing};
use contracts::payment::{
    PaymentCompleted, PaymentDeclined, PaymentNothingToUndo, PaymentRefunded, PaymentSettled,
};
use holdfast::outbox;

use crate::{
    domain::Answer,
    error::Error,
    store::{Payment, Terms},
};

/// Builds the outbox row of an answer.
pub(super) fn message(
    publishing: &Publishing<'_>,
    answering: Answering<'_>,
    payment: &Payment,
    answer: Answer,
) -> Result<outbox::Message, Error> {
    let Payment {
        order_id,
        order_version,
        ..
    } = *payment;
    let terms = || payment.terms.as_ref().ok_or(Error::NoTerms);
    Ok(match answer {
        Answer::Completed => {
            let Terms { amount, lines, .. } = terms()?.clone();
            publishing.answer(
                answering,
                &PaymentCompleted {
                    order_id,
                    order_version,
                    amount,
                    lines,
                },
                "payment/do",
            )
        }
        Answer::Declined(reason) => publishing.answer(
            answering,
            &PaymentDeclined {
                order_id,
                order_version,
                reason,
            },
            "payment/do",
        ),
        Answer::Refunded => {
            let amount = terms()?.amount;
            publishing.answer(
                answering,
                &PaymentRefunded {
                    order_id,
                    order_version,
                    amount,
                },
                "payment/undo",
            )
        }
        Answer::NothingToUndo => publishing.answer(
            answering,
            &PaymentNothingToUndo {
                order_id,
                order_version,
            },
            "payment/undo",
        ),
        Answer::Settled => publishing.answer(
            answering,
            &PaymentSettled {
                order_id,
                order_version,
            },
            "payment/settle",
        ),
    })
}
