//! The metrics of this module.

use std::time::Duration;

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use super::Error;

/// The metrics, looked up once per [`Locks`](super::Locks).
pub(super) struct Meter {
    acquired: Counter,
    busy: Counter,
    unavailable: Counter,
    refused: Counter,
    waited: Histogram,
    pub(super) renewed: Counter,
    pub(super) lost: Counter,
}

impl Meter {
    pub(super) fn new() -> Self {
        describe_counter!(
            "lock_requests_total",
            Unit::Count,
            "Requests for a distributed lock, by outcome: acquired, busy, unavailable, refused"
        );
        describe_histogram!(
            "lock_wait_seconds",
            Unit::Seconds,
            "Time from the first request for a distributed lock until it was acquired"
        );
        describe_counter!(
            "lock_renewals_total",
            Unit::Count,
            "Renewals of distributed locks"
        );
        describe_counter!(
            "lock_lost_total",
            Unit::Count,
            "Distributed locks that were lost while they were held"
        );
        let requests =
            |outcome: &'static str| counter!("lock_requests_total", "outcome" => outcome);
        Self {
            acquired: requests("acquired"),
            busy: requests("busy"),
            unavailable: requests("unavailable"),
            refused: requests("refused"),
            waited: histogram!("lock_wait_seconds"),
            renewed: counter!("lock_renewals_total"),
            lost: counter!("lock_lost_total"),
        }
    }

    pub(super) fn acquired(&self, waited: Duration) {
        self.acquired.increment(1);
        self.waited.record(waited);
    }

    pub(super) fn busy(&self) {
        self.busy.increment(1);
    }

    pub(super) fn failed(&self, error: &Error) {
        match error {
            Error::Timeout(_) => self.busy.increment(1),
            Error::Unavailable(_) => self.unavailable.increment(1),
            _ => self.refused.increment(1),
        }
    }
}
