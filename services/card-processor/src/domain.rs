//! The card processor's decisions. No I/O.

use std::time::Duration;

use contracts::{payment::DeclineReason, value::CardToken};

/// The status of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is not decided yet.
    Processing,
    /// The money was taken.
    Captured,
    /// The charge was declined, for good.
    Declined(DeclineReason),
}

/// The faults that the card processor makes, for demonstrations and drills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Knobs {
    /// The shortest time that a decision takes.
    pub(crate) latency_min: Duration,
    /// The longest time that a decision takes.
    pub(crate) latency_max: Duration,
    /// The share of requests that fail before anything is done, from 0 to 1.
    pub(crate) fail_before: f64,
    /// The share of requests that are carried out and whose answer is lost, from 0 to 1.
    pub(crate) fail_after: f64,
    /// The share of charges that are declined, from 0 to 1.
    pub(crate) decline: f64,
}

/// The random numbers of one request, each from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    pub(crate) fail_before: f64,
    pub(crate) fail_after: f64,
    pub(crate) decline: f64,
    pub(crate) latency: f64,
}

impl Knobs {
    /// Returns true if this request fails before anything is done.
    pub(crate) fn fails_before(&self, chance: &Chance) -> bool {
        chance.fail_before < self.fail_before
    }

    /// Returns true if this request loses its answer after it was carried out.
    pub(crate) fn fails_after(&self, chance: &Chance) -> bool {
        chance.fail_after < self.fail_after
    }

    /// Returns the time that this decision takes. A refund has no token.
    pub(crate) fn latency(&self, token: Option<&CardToken>, chance: &Chance) -> Duration {
        let latency = self.latency_min
            + self
                .latency_max
                .saturating_sub(self.latency_min)
                .mul_f64(chance.latency);
        if token.is_some_and(|token| token.as_str() == "tok_slow") {
            latency + SLOW
        } else {
            latency
        }
    }

    /// Decides a charge. Some tokens always get the same decision, so that a demonstration can rely on it.
    pub(crate) fn decide(&self, token: &CardToken, chance: &Chance) -> Status {
        match token.as_str() {
            "tok_declined" => Status::Declined(DeclineReason::CardDeclined),
            "tok_expired" => Status::Declined(DeclineReason::CardExpired),
            "tok_insufficient_funds" => Status::Declined(DeclineReason::InsufficientFunds),
            "tok_unknown" => Status::Declined(DeclineReason::InvalidCard),
            _ if chance.decline < self.decline => Status::Declined(DeclineReason::CardDeclined),
            _ => Status::Captured,
        }
    }
}

/// The extra latency of the card `tok_slow`.
const SLOW: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Knobs = Knobs {
        latency_min: Duration::from_millis(10),
        latency_max: Duration::from_millis(30),
        fail_before: 0.0,
        fail_after: 0.0,
        decline: 0.0,
    };

    fn chance(all: f64) -> Chance {
        Chance {
            fail_before: all,
            fail_after: all,
            decline: all,
            latency: all,
        }
    }

    fn token(token: &str) -> CardToken {
        token.parse().expect("a token")
    }

    #[test]
    fn a_share_of_zero_never_happens_and_a_share_of_one_always() {
        let never = CALM;
        let always = Knobs {
            fail_before: 1.0,
            fail_after: 1.0,
            decline: 1.0,
            ..CALM
        };
        for all in [0.0, 0.5, 0.999_999] {
            let chance = chance(all);
            assert!(!never.fails_before(&chance) && !never.fails_after(&chance));
            assert_eq!(never.decide(&token("tok_visa"), &chance), Status::Captured);
            assert!(always.fails_before(&chance) && always.fails_after(&chance));
            assert_eq!(
                always.decide(&token("tok_visa"), &chance),
                Status::Declined(DeclineReason::CardDeclined)
            );
        }
    }

    #[test]
    fn latency_stays_between_its_bounds() {
        assert_eq!(CALM.latency(None, &chance(0.0)), Duration::from_millis(10));
        assert_eq!(CALM.latency(None, &chance(1.0)), Duration::from_millis(30));
        assert_eq!(
            CALM.latency(Some(&token("tok_slow")), &chance(0.0)),
            Duration::from_millis(2010)
        );
    }
}
