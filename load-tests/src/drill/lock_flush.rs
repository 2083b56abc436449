//! Redis loses all its keys repeatedly while accounts are locked: with fencing, and without.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    Measured,
    accounts::{Accounts, Counted},
    stage::{GOOD_CARDS, Stage},
};

const CUSTOMERS: usize = 8;
const EACH: usize = 5;
/// The time that a decision takes, in milliseconds, from and to: longer than [`EVERY`], so that Redis forgets each lock
/// meanwhile.
const DECISION: [u64; 2] = [500, 700];
const EVERY: Duration = Duration::from_millis(400);
const LASTING: Duration = Duration::from_secs(6);
const REST: Duration = Duration::from_secs(120);

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    let mut redis = stage.redis().await?;
    let url = &stage.api.urls().payment_url;
    let mut measured = Vec::new();
    for (name, on) in [("fencing on", true), ("fencing off", false)] {
        stage.say(&format!("--- {name}"));
        stage.fencing(url, on).await?;
        stage.cards(DECISION, 0.0).await?;
        let counted = Counted::now(stage).await?;
        let mut accounts = Accounts::open(stage, CUSTOMERS).await?;
        let orders = accounts.place(stage, EACH).await?;
        stage.say(&format!(
            "{CUSTOMERS} customers have {} card payments under way, one at a time for each; Redis is emptied by FLUSHALL every {} ms",
            orders.len(),
            EVERY.as_millis()
        ));
        let begun = Instant::now();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flushes = 0_u32;
        while begun.elapsed() < LASTING {
            ticks.tick().await;
            let flush = redis::cmd("FLUSHALL");
            flush
                .exec_async(&mut redis)
                .await
                .context("FLUSHALL: the user in REDIS_URL must be permitted to run it")?;
            flushes += 1;
        }
        stage.say(&format!("{flushes} times; now Redis keeps what it is told"));
        stage.cards(GOOD_CARDS, 0.0).await?;
        let (rested, took) = stage.at_rest(&orders, REST).await;
        let counted = counted.since(stage).await?;
        let (at_once, twice) = accounts.company_says().await?;
        stage.say(&format!(
            "{rested} of {} orders are at rest after {:.1} s; the card processor decided about two payments of one account at once {at_once} times",
            orders.len(),
            took.as_secs_f64()
        ));
        measured.push(Measured {
            name,
            cells: vec![
                flushes.to_string(),
                at_once.to_string(),
                counted.refused.to_string(),
                counted.let_through.to_string(),
                twice.to_string(),
            ],
        });
    }
    let columns = vec![
        "times emptied",
        "two calls for an account at once",
        "overtaken, refused",
        "overtaken, written",
        "orders charged twice",
    ];
    Ok((columns, measured))
}
