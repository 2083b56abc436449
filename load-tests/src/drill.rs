//! Drills: each makes the failure that a pattern is for on a running stack, with the pattern and without it.
//!
//! Each drill mends what it broke, even if it failed, waits until every order that it placed is at rest, and ends in
//! [`reconcile`](crate::reconcile).
//!
//! - [`stage`]: the steps that all drills have in common: break, switch, place orders, report;
//! - [`accounts`], [`process`]: customers whose accounts are locked, and processes that are stopped;
//! - [`trickle`]: connections whose bodies arrive slowly;
//! - one module for each drill, with its failure and its measurements.

mod accounts;
mod breaker;
mod bulkhead;
mod card_outage;
mod degraded_prices;
mod lock_flush;
mod lock_pause;
mod orders;
mod process;
mod retry_storm;
mod slow_bodies;
mod smtp_down;
mod stage;
mod trickle;

use std::time::Duration;

use clap::ValueEnum;
pub use stage::{LockServer, Stage, Tell};

use crate::table;

/// A drill, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drill {
    /// The card processor fails: with its circuit breaker, and without
    Breaker,
    /// Inventory is slow: reading orders, with the bulkhead before inventory, and without
    Bulkhead,
    /// Inventory fails: the calls that it gets for each order, with a retry budget, and without
    RetryStorm,
    /// Payment is stopped while it holds locks, for longer than they live: with fencing, and without
    LockPause,
    /// Redis forgets every lock: with fencing, and without
    LockFlush,
    /// Inventory fails: orders with the prices that it last named, and without
    DegradedPrices,
    /// The mail server is unavailable: mails wait, orders do not
    SmtpDown,
    /// The card processor is down for minutes, under traffic
    CardOutage,
    /// 300 bodies arrive slowly: other customers' requests, without them and with them
    SlowBodies,
}

/// The outcome of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every order is at rest, and the books agree.
    Passed,
    /// The books disagree; the report of `reconcile` says where.
    BooksDisagree,
    /// The books agree, but a limit was exceeded; the lines before the table name it.
    LimitExceeded,
}

/// One row of a drill's table: a name, and a cell for each of the drill's columns.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) cells: Vec<String>,
}

impl Drill {
    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Bulkhead => "bulkhead",
            Self::RetryStorm => "retry-storm",
            Self::LockPause => "lock-pause",
            Self::LockFlush => "lock-flush",
            Self::DegradedPrices => "degraded-prices",
            Self::SmtpDown => "smtp-down",
            Self::CardOutage => "card-outage",
            Self::SlowBodies => "slow-bodies",
        }
    }

    /// Returns a description for a person.
    pub fn what(self) -> &'static str {
        match self {
            Self::Breaker => {
                "The card processor fails. With the circuit breaker a few calls find out; without it every order keeps calling."
            }
            Self::Bulkhead => {
                "Inventory is slow. With the bulkhead its callers take their own places; without it they take all, and reading an order is refused."
            }
            Self::RetryStorm => {
                "Inventory fails. With a retry budget it gets few calls more than there are orders; without it three times as many."
            }
            Self::LockPause => {
                "Payment is stopped while it holds accounts' locks, for longer than they live, and a second process takes them. With fencing the database refuses the late writes of the first one; without it, they are written."
            }
            Self::LockFlush => {
                "Redis forgets every lock, again and again. With fencing only the newest holder of an account's lock writes; without it, all who believe that they hold it. No order is charged twice: that is the idempotency key's work."
            }
            Self::DegradedPrices => {
                "Inventory fails. Orders are placed at the prices that it last named, and say so; without them they are refused."
            }
            Self::SmtpDown => {
                "The mail server is unavailable. Orders go on and mails wait; with the breaker few calls are made in vain."
            }
            Self::CardOutage => {
                "The card processor is down for minutes under traffic. Orders wait, none is declined for it, and all come to rest after it."
            }
            Self::SlowBodies => {
                "300 connections announce an order and send it a byte a second, as one customer and then as many at one address. Other customers are served as if they were not there."
            }
        }
    }

    /// Returns every drill.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }
}

/// Runs a drill, and mends what it broke whether or not it failed. `outage` is for [`Drill::CardOutage`] alone.
pub async fn run(drill: Drill, stage: &Stage, outage: Duration) -> anyhow::Result<Verdict> {
    stage.say(drill.what());
    stage.begin().await?;
    let measured = match drill {
        Drill::Breaker => breaker::run(stage).await,
        Drill::Bulkhead => bulkhead::run(stage).await,
        Drill::RetryStorm => retry_storm::run(stage).await,
        Drill::LockPause => lock_pause::run(stage).await,
        Drill::LockFlush => lock_flush::run(stage).await,
        Drill::DegradedPrices => degraded_prices::run(stage).await,
        Drill::SmtpDown => smtp_down::run(stage).await,
        Drill::CardOutage => card_outage::run(stage, outage).await,
        Drill::SlowBodies => slow_bodies::run(stage).await,
    };
    // Also if the drill failed: the stack must not stay broken.
    let mended = stage.mend().await;
    let (columns, measured) = measured?;
    mended?;
    stage.say("everything is mended; waiting until all orders are at rest");
    let clean = stage.reconcile().await?;
    let mut head = vec![""];
    head.extend(columns);
    let rows: Vec<Vec<String>> = measured
        .into_iter()
        .map(|Measured { name, cells }| {
            let mut row = vec![name.to_owned()];
            row.extend(cells);
            row
        })
        .collect();
    stage.say(&format!("\n{}\n", table::render(&head, &rows)));
    Ok(match (clean, stage.is_within_limits()) {
        (false, _) => Verdict::BooksDisagree,
        (true, false) => Verdict::LimitExceeded,
        (true, true) => Verdict::Passed,
    })
}
