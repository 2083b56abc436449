//! What the card company decides. No I/O.

use std::time::Duration;

use contracts::{payment::DeclineReason, value::CardToken};

/// A charge, as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Somebody works on it.
    Processing,
    /// The money moved.
    Captured,
    /// It will not.
    Declined(DeclineReason),
}

/// What goes wrong, for demonstrations and drills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Knobs {
    /// The shortest time that a decision takes.
    pub(crate) latency_min: Duration,
    /// The longest time that a decision takes.
    pub(crate) latency_max: Duration,
    /// The share of requests that fail with nothing done.
    pub(crate) fail_before: f64,
    /// The share of requests that fail after it was done: the answer is lost.
    pub(crate) fail_after: f64,
    /// The share of charges that are declined.
    pub(crate) decline: f64,
}

/// What chance decided for one request: numbers from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    pub(crate) fail_before: f64,
    pub(crate) fail_after: f64,
    pub(crate) decline: f64,
    pub(crate) latency: f64,
}

impl Knobs {
    /// Whether this request fails with nothing done.
    pub(crate) fn fails_before(&self, chance: &Chance) -> bool {
        chance.fail_before < self.fail_before
    }

    /// Whether this request fails after it was done.
    pub(crate) fn fails_after(&self, chance: &Chance) -> bool {
        chance.fail_after < self.fail_after
    }

    /// How long this decision takes.
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

    /// Whether a charge is captured. Some tokens always end the same way, so that a demonstration can count on it.
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

/// How much longer the card `tok_slow` takes.
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
