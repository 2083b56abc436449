//! Payment is stopped in the middle of card calls for longer than its accounts' locks live: with fencing, and without.

use std::time::{Duration, Instant};

use super::{
    Measured,
    accounts::{Accounts, Counted},
    process::Process,
    stage::{CARDS, GOOD_CARDS, Stage},
};

const CUSTOMERS: usize = 8;
/// Payments of each customer: more than the one that is under way.
const EACH: usize = 3;
/// The time that a decision takes, in milliseconds: each customer's first call is under way before any of them ends.
const DECISION: [u64; 2] = [2500, 2500];
const REST: Duration = Duration::from_secs(120);

/// The most rounds of each way. If payment is stopped before any of its threads has read a response, it learns of the
/// lost lock first when it goes on, and no write reaches the database. Such a round is repeated.
const ROUNDS: u32 = 10;

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    let url = &stage.api.urls().payment_url;
    let mut measured = Vec::new();
    for (name, on) in [("fencing on", true), ("fencing off", false)] {
        stage.say(&format!("--- {name}"));
        stage.fencing(url, on).await?;
        let before = Counted::now(stage).await?;
        let (mut rounds, mut twice) = (0, 0);
        let counted = loop {
            rounds += 1;
            twice += round(stage, on).await?;
            let counted = before.since(stage).await?;
            if counted.refused + counted.let_through > 0.0 {
                break counted;
            }
            anyhow::ensure!(
                rounds < ROUNDS,
                "in {ROUNDS} rounds payment learned of its lost locks before it used any response"
            );
            stage.say(
                "payment learned in time that its locks were lost, and wrote nothing; once more",
            );
        };
        stage.say(&format!(
            "of {} late answers the database refused {}, and took {}",
            counted.refused + counted.let_through,
            counted.refused,
            counted.let_through
        ));
        measured.push(Measured {
            name,
            cells: vec![
                rounds.to_string(),
                counted.lost.to_string(),
                counted.refused.to_string(),
                counted.let_through.to_string(),
                twice.to_string(),
            ],
        });
    }
    let columns = vec![
        "times stopped",
        "locks lost",
        "late answers refused",
        "late answers written",
        "orders charged twice",
    ];
    Ok((columns, measured))
}

/// Stops payment in the middle of its calls, has a second process overtake it, and lets it go on. Returns the number of
/// orders that were charged twice.
async fn round(stage: &Stage, fenced: bool) -> anyhow::Result<i64> {
    let payment = Process::only(stage.whose(), CARDS.service)?;
    stage.cards(DECISION, 0.0).await?;
    let mut accounts = Accounts::open(stage, CUSTOMERS).await?;
    let before = accounts.fences().await?;
    let orders = accounts.place(stage, EACH).await?;
    accounts.known().await?;
    let held = accounts.newer_than(&before).await?;
    // Between a response and the write that follows it are only microseconds; the pause has to come there.
    stage.hold_answers(true).await?;
    accounts.decided(CUSTOMERS).await?;

    let stopped = payment.stop()?;
    let since = Instant::now();
    stage.say(&format!(
        "process {} of payment is stopped by SIGSTOP: it has {CUSTOMERS} accounts locked, and for each a card call that was just answered",
        payment.id()
    ));
    let second = payment.another()?;
    stage.fencing(&second.url, fenced).await?;
    accounts.newer_than(&held).await?;
    stage.say(&format!(
        "{:.1} s later a second one, {}, has locked all of them, and told the database",
        since.elapsed().as_secs_f64(),
        second.id()
    ));
    drop(stopped);
    stage.hold_answers(false).await?;
    stage.say("the first one goes on where it was, with the card processor's answers in hand");
    stage.cards(GOOD_CARDS, 0.0).await?;
    let (rested, took) = stage.at_rest(&orders, REST).await;
    stage.say(&format!(
        "{rested} of {} orders are at rest after {:.1} s",
        orders.len(),
        took.as_secs_f64()
    ));
    let (_, twice) = accounts.company_says().await?;
    second.stop().await?;
    Ok(twice)
}
