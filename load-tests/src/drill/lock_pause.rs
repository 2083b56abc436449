//! Payment is stopped in the middle of card calls, for longer than its accounts' locks live: with fencing, and without.

use std::time::{Duration, Instant};

use super::{
    Measured,
    accounts::{Accounts, Counted},
    process::Process,
    stage::{CARDS, GOOD_CARDS, Stage},
};

/// Each with more payments than the one that is under way.
const CUSTOMERS: usize = 8;
const EACH: usize = 3;
/// How long a decision takes, in milliseconds: all customers' first ones are under way before one of them is over.
const DECISION: [u64; 2] = [2500, 2500];
const REST: Duration = Duration::from_secs(120);

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    let payment = Process::only(stage.whose(), CARDS.service)?;
    let url = &stage.api.places().payment_url;
    let mut measured = Vec::new();
    for (name, on) in [("fencing on", true), ("fencing off", false)] {
        stage.say(&format!("--- {name}"));
        stage.fencing(url, on).await?;
        stage.say("the card company takes 2.5 s for each decision");
        stage.cards(DECISION, 0.0).await?;
        let counted = Counted::now(stage).await?;
        let mut accounts = Accounts::open(stage, CUSTOMERS).await?;
        let before = accounts.fences().await?;
        let orders = accounts.place(stage, EACH).await?;
        accounts.known().await?;
        let held = accounts.newer_than(&before).await?;

        let stopped = payment.stop()?;
        let since = Instant::now();
        stage.say(&format!(
            "process {} of payment is stopped by SIGSTOP: it holds the locks of {CUSTOMERS} accounts, and has a card call under way for each",
            payment.id()
        ));
        let second = payment.another()?;
        stage.fencing(&second.url, on).await?;
        stage.say(&format!("a second process, {}, runs", second.id()));
        accounts.newer_than(&held).await?;
        stage.say(&format!(
            "{:.1} s after the first one was stopped the second one has locked all these accounts, and told the database",
            since.elapsed().as_secs_f64()
        ));
        drop(stopped);
        stage.say("the first one goes on where it was: the card company's answers lie there, and it does not know that it was away");
        stage.cards(GOOD_CARDS, 0.0).await?;
        let (rested, took) = stage.at_rest(&orders, REST).await;
        let counted = counted.since(stage).await?;
        let (at_once, twice) = accounts.company_says().await?;
        stage.say(&format!(
            "{rested} of {} orders are at rest after {:.1} s; of the late answers {} were refused by the database, {} were written",
            orders.len(),
            took.as_secs_f64(),
            counted.refused,
            counted.let_through
        ));
        second.stop().await?;
        measured.push(Measured {
            name,
            cells: vec![
                counted.lost.to_string(),
                counted.refused.to_string(),
                counted.let_through.to_string(),
                at_once.to_string(),
                twice.to_string(),
            ],
        });
    }
    let columns = vec![
        "locks lost",
        "late answers refused",
        "late answers written",
        "two calls for an account at once",
        "orders charged twice",
    ];
    Ok((columns, measured))
}
